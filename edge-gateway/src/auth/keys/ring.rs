//! The keys that are in force, ready for look-ups: about a microsecond per request, and nothing secret is
//! remembered from one request to the next.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use money::{TenantId, Timestamp};

use super::{
    file::KeyFile,
    pepper::{KeyHash, Pepper, same},
    text::{self, KeyId},
};
use crate::auth::{scope::Scope, signature::VerifyingKey};

/// The keys of a file, and the pepper that they are hashed under.
#[derive(Debug)]
pub(crate) struct KeyRing {
    pepper: Pepper,
    keys: HashMap<KeyId, Key>,
}

/// A key as requests are checked against it.
pub(crate) struct Key {
    pub(crate) tenant: TenantId,
    /// Its name and id; shown in logs.
    pub(crate) label: Arc<str>,
    pub(crate) scopes: Arc<[Scope]>,
    not_before: Option<Timestamp>,
    expires: Option<Timestamp>,
    revoked: Option<Timestamp>,
    secrets: Vec<Secret>,
}

struct Secret {
    hash: KeyHash,
    valid_until: Option<Timestamp>,
    signing: Option<Arc<VerifyingKey>>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("tenant", &self.tenant)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// A key that was presented and is right.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) id: KeyId,
    pub(crate) key: &'a Key,
    /// How its requests have to be signed, if they have to.
    pub(crate) signing: Option<&'a Arc<VerifyingKey>>,
}

/// Why a key was refused. The holder of the right secret is told why; nobody else is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not a key of this form, or mistyped.
    Malformed,
    /// No such key, or another secret.
    Unknown(KeyId),
    NotYetValid,
    Expired,
    Revoked,
    /// Its secret was replaced, and the overlap is over.
    Rotated,
}

impl KeyRing {
    /// Reads the two files.
    pub(crate) fn load(keys: &Path, pepper: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(keys).map_err(|error| format!("{}: {error}", keys.display()))?;
        let file = KeyFile::parse(&text).map_err(|error| format!("{}: {error}", keys.display()))?;
        Self::new(&file, Pepper::load(pepper)?)
    }

    /// From what a file holds.
    pub(crate) fn new(file: &KeyFile, pepper: Pepper) -> Result<Self, String> {
        let mut keys = HashMap::with_capacity(file.keys().len());
        for record in file.keys() {
            let id: KeyId = record.id.parse().map_err(|error| format!("a key's id {error}"))?;
            let secret = |(hash, valid_until)| {
                let rule = record.signature.as_ref();
                let signing = rule.map(|rule| VerifyingKey::new(rule, &pepper.signing_secret(&hash)));
                Ok(Secret { hash, valid_until, signing: signing.transpose()?.map(Arc::new) })
            };
            let secrets: Result<_, &'static str> = record.secrets().map(secret).collect();
            let key = Key {
                tenant: record.tenant.clone(),
                label: format!("{} ({id})", record.name).into(),
                scopes: record.scopes.as_slice().into(),
                not_before: record.not_before.map(super::Time::timestamp),
                expires: record.expires.map(super::Time::timestamp),
                revoked: record.revoked.map(super::Time::timestamp),
                secrets: secrets.map_err(|what| format!("the key {id}: {what}"))?,
            };
            keys.insert(id, key);
        }
        Ok(Self { pepper, keys })
    }

    /// Whether there are no keys.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key that was presented.
    pub(crate) fn find(&self, presented: &str, now: Timestamp) -> Result<Found<'_>, Refused> {
        let id = text::id_of(presented).ok_or(Refused::Malformed)?;
        // Also for an id that nobody has: beside this the comparisons take no time that could be told.
        let hash = self.pepper.hash(presented);
        let key = self.keys.get(&id);
        let secrets = key.map(|key| key.secrets.as_slice()).unwrap_or_default();
        let matching = secrets
            .iter()
            .fold(None, |found, secret| if same(&secret.hash, &hash) { Some(secret) } else { found });
        let (Some(key), Some(secret)) = (key, matching) else { return Err(Refused::Unknown(id)) };
        let reached = |time: Option<Timestamp>| time.is_some_and(|time| time <= now);
        if reached(key.revoked) {
            Err(Refused::Revoked)
        } else if reached(key.expires) {
            Err(Refused::Expired)
        } else if key.not_before.is_some_and(|time| time > now) {
            Err(Refused::NotYetValid)
        } else if reached(secret.valid_until) {
            Err(Refused::Rotated)
        } else {
            Ok(Found { id, key, signing: secret.signing.as_ref() })
        }
    }

    /// Whether a key has this id.
    pub(crate) fn knows(&self, id: KeyId) -> bool {
        self.keys.contains_key(&id)
    }
}

#[cfg(test)]
mod tests;
