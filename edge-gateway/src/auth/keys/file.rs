//! The file of API keys: what it holds, how it is read and what may be done to it. It holds keyed hashes and
//! no key. Time and randomness come in; who writes the file is the caller's business.

use money::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    hex,
    pepper::{KeyHash, Pepper},
    text::{self, KeyId},
    time::Time,
};
use crate::auth::{
    scope::{SCOPES_MAX, Scope},
    signature::{SignatureAlgorithm, VerifyingKey},
};

/// What the file says first, so that nobody looks for keys in it.
const HEADING: &str = "# Written by `paymesh keys`. Holds keyed hashes: no key can be read from it.\n";
const VERSION: u32 = 1;
/// The most keys of one file.
pub(crate) const KEYS_MAX: usize = 100_000;
/// The most secrets of one key that are valid at once: the newest, and those in their overlap.
const SECRETS_MAX: usize = 4;
const NAME_LENGTH_MAX: usize = 100;

/// All that the file holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    version: u32,
    #[serde(default)]
    keys: Vec<KeyRecord>,
}

/// One key, as the file has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The public part of the key.
    pub id: String,
    /// For whom its holder speaks.
    pub tenant: TenantId,
    /// What it is for; shown in lists and logs.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created: Time,
    /// Before this it is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// From then on it is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Time>,
    /// When it got its newest secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Time>,
    /// Where requests have to be signed: how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureRecord>,
    /// Hashes of its secrets, newest first.
    secrets: Vec<SecretRecord>,
}

/// How requests are signed (RFC 9421).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureRecord {
    /// The algorithm; no other is accepted.
    pub algorithm: SignatureAlgorithm,
    /// The public key in PEM (`BEGIN PUBLIC KEY`), but for HMAC, whose secret is derived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretRecord {
    hash: String,
    created: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_until: Option<Time>,
}

/// Why a file or a change of it was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// It is not what `paymesh keys` writes.
    #[error("is no key file: see line {line}")]
    Malformed {
        /// Where, from 1.
        line: usize,
    },
    /// It was written by another version of paymesh.
    #[error("has a version that is not known: this paymesh reads version {VERSION}")]
    Version,
    /// A key in it cannot be.
    #[error("the key {id}: {what}")]
    Key {
        /// Which.
        id: String,
        /// What would be right.
        what: String,
    },
    /// There is no such key.
    #[error("there is no key {0}; `paymesh keys list` shows all")]
    Unknown(String),
    /// What was asked for cannot be.
    #[error("{0}")]
    Refused(String),
}

/// What a key is to be.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// For whom its holder speaks.
    pub tenant: TenantId,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Before this it is not valid.
    pub not_before: Option<Time>,
    /// From then on it is not valid.
    pub expires: Option<Time>,
    /// Where requests have to be signed: how.
    pub signature: Option<SignatureRecord>,
}

/// A key that was just made: the only time that it can be seen.
pub struct FreshKey {
    /// What is kept of it.
    pub record: KeyRecord,
    /// The key.
    pub key: Zeroizing<String>,
    /// Where requests are signed by HMAC: the secret to sign with, in base64.
    pub signing_secret: Option<Zeroizing<String>>,
}

/// What state a key is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It can be used.
    Active,
    /// Its time has not come.
    NotYetValid,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl KeyRecord {
    /// What state it is in.
    pub fn state(&self, now: Timestamp) -> KeyState {
        let reached = |time: Option<Time>| time.is_some_and(|time| time.timestamp() <= now);
        if reached(self.revoked) {
            KeyState::Revoked
        } else if reached(self.expires) {
            KeyState::Expired
        } else if self.not_before.is_some_and(|time| time.timestamp() > now) {
            KeyState::NotYetValid
        } else {
            KeyState::Active
        }
    }

    /// Until when an earlier secret is still valid, where one is.
    pub fn overlap_until(&self, now: Timestamp) -> Option<Time> {
        let still = |time: &Time| time.timestamp() > now;
        self.secrets.iter().skip(1).filter_map(|secret| secret.valid_until).filter(still).max()
    }

    /// The hashes of its secrets and until when each is valid.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (KeyHash, Option<Timestamp>)> {
        self.secrets
            .iter()
            .filter_map(|secret| Some((hex::decode(&secret.hash)?, secret.valid_until.map(Time::timestamp))))
    }

    fn check(&self) -> Result<(), String> {
        if let Err(error) = self.id.parse::<KeyId>() {
            return Err(format!("its id {error}"));
        }
        check_name(&self.name)?;
        check_scopes(&self.scopes)?;
        if self.secrets.is_empty() || self.secrets.len() > SECRETS_MAX {
            return Err(format!("must have 1 to {SECRETS_MAX} secrets"));
        }
        if self.secrets.iter().any(|secret| hex::decode::<32>(&secret.hash).is_none()) {
            return Err("each hash must have 64 hexadecimal digits".into());
        }
        self.signature.as_ref().map_or(Ok(()), |rule| VerifyingKey::check(rule).map_err(str::to_owned))
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let legal = (1..=NAME_LENGTH_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if legal {
        Ok(())
    } else {
        Err(format!("its name must be 1 to {NAME_LENGTH_MAX} characters, none of them a control character"))
    }
}

fn check_scopes(scopes: &[Scope]) -> Result<(), String> {
    if (1..=SCOPES_MAX).contains(&scopes.len()) {
        Ok(())
    } else {
        Err(format!("must have 1 to {SCOPES_MAX} scopes"))
    }
}

impl Default for KeyFile {
    fn default() -> Self {
        Self { version: VERSION, keys: Vec::new() }
    }
}

impl KeyFile {
    /// Reads a file's text and checks all of it.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let file: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            KeyFileError::Malformed { line: before.matches('\n').count() + 1 }
        })?;
        if file.version != VERSION {
            return Err(KeyFileError::Version);
        }
        if file.keys.len() > KEYS_MAX {
            return Err(KeyFileError::Refused(format!("must have at most {KEYS_MAX} keys")));
        }
        let mut ids = std::collections::HashSet::new();
        for (index, key) in file.keys.iter().enumerate() {
            // Only an id that is one is shown: anything could stand in its place.
            let shown = || match key.id.parse::<KeyId>() {
                Ok(id) => id.to_string(),
                Err(_) => format!("number {}", index + 1),
            };
            key.check().map_err(|what| KeyFileError::Key { id: shown(), what })?;
            if !ids.insert(&key.id) {
                return Err(KeyFileError::Key { id: shown(), what: "is there twice".into() });
            }
        }
        Ok(file)
    }

    /// The text to write.
    pub fn to_text(&self) -> Result<String, KeyFileError> {
        let text = toml::to_string(self).map_err(|_| KeyFileError::Refused("cannot be written".into()))?;
        Ok(format!("{HEADING}{text}"))
    }

    /// Every key, in the order in which they were made.
    pub fn keys(&self) -> &[KeyRecord] {
        &self.keys
    }

    /// The key of this id.
    pub fn get(&self, id: &str) -> Result<&KeyRecord, KeyFileError> {
        self.keys.iter().find(|key| key.id == id).ok_or_else(|| KeyFileError::Unknown(id.to_owned()))
    }

    fn get_mut(&mut self, id: &str) -> Result<&mut KeyRecord, KeyFileError> {
        let unknown = || KeyFileError::Unknown(id.to_owned());
        self.keys.iter_mut().find(|key| key.id == id).ok_or_else(unknown)
    }

    /// Makes a key.
    pub fn create(&mut self, new: NewKey, pepper: &Pepper, now: Timestamp) -> Result<FreshKey, KeyFileError> {
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyFileError::Refused(format!("there are {KEYS_MAX} keys, which is the most")));
        }
        if new.expires.is_some_and(|expires| expires.timestamp() <= now || Some(expires) <= new.not_before) {
            return Err(KeyFileError::Refused("it would have expired before it could be used".into()));
        }
        let id = text::fresh_id().map_err(|_| no_randomness())?;
        let (key, hash) = fresh(id, pepper)?;
        let created = Time::of(now);
        let record = KeyRecord {
            id: id.to_string(),
            tenant: new.tenant,
            name: new.name,
            scopes: new.scopes,
            created,
            not_before: new.not_before,
            expires: new.expires,
            revoked: None,
            rotated: None,
            signature: new.signature,
            secrets: vec![SecretRecord { hash: hex::encode(&hash), created, valid_until: None }],
        };
        record.check().map_err(KeyFileError::Refused)?;
        self.keys.push(record.clone());
        Ok(FreshKey { signing_secret: signing_secret(&record, pepper, &hash), record, key })
    }

    /// Gives a key a new secret; the one that it has stays valid for as long as said.
    pub fn rotate(
        &mut self,
        id: &str,
        overlap_s: u64,
        pepper: &Pepper,
        now: Timestamp,
    ) -> Result<FreshKey, KeyFileError> {
        let record = self.get_mut(id)?;
        if matches!(record.state(now), KeyState::Revoked | KeyState::Expired) {
            return Err(KeyFileError::Refused("it was revoked or has expired: make a new key".into()));
        }
        let until = Time::of(now).plus_seconds(overlap_s);
        for secret in &mut record.secrets {
            secret.valid_until = Some(secret.valid_until.map_or(until, |earlier| earlier.min(until)));
        }
        record.secrets.retain(|secret| secret.valid_until.is_some_and(|until| until.timestamp() > now));
        if record.secrets.len() >= SECRETS_MAX {
            let message = "it was rotated too often within its overlaps: revoke it, or give --overlap 0s";
            return Err(KeyFileError::Refused(message.into()));
        }
        let (key, hash) = fresh(id.parse().map_err(|_| KeyFileError::Unknown(id.to_owned()))?, pepper)?;
        let created = Time::of(now);
        let secret = SecretRecord { hash: hex::encode(&hash), created, valid_until: None };
        record.secrets.insert(0, secret);
        record.rotated = Some(created);
        Ok(FreshKey { signing_secret: signing_secret(record, pepper, &hash), record: record.clone(), key })
    }

    /// Ends a key at once and for good. Revoking it again changes nothing.
    pub fn revoke(&mut self, id: &str, now: Timestamp) -> Result<&KeyRecord, KeyFileError> {
        let record = self.get_mut(id)?;
        record.revoked.get_or_insert(Time::of(now));
        Ok(record)
    }
}

fn fresh(id: KeyId, pepper: &Pepper) -> Result<(Zeroizing<String>, KeyHash), KeyFileError> {
    let key = text::fresh_key(id).map_err(|_| no_randomness())?;
    let hash = pepper.hash(&key);
    Ok((key, hash))
}

fn no_randomness() -> KeyFileError {
    KeyFileError::Refused("the system gave no randomness".into())
}

fn signing_secret(record: &KeyRecord, pepper: &Pepper, hash: &KeyHash) -> Option<Zeroizing<String>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let rule = record.signature.as_ref()?;
    (rule.algorithm == SignatureAlgorithm::HmacSha256)
        .then(|| Zeroizing::new(STANDARD.encode(*pepper.signing_secret(hash))))
}
