//! The audit log: who did what with which key, how often and with what outcome, in records that follow one
//! another. Never what it was done to.
//!
//! Each record's hash is made with a key of the service's own and is over the hash of the record before it: who
//! only has the file cannot change, drop, repeat or move a record without the next verification naming it. The
//! format is in `docs/crypto-audit.md`. Knows neither where records are kept nor what time it is.

mod verify;

pub use verify::{Offence, Verifier};

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map},
    fmt,
    str::FromStr,
};

use mesh::SpiffeId;
use money::{TenantId, Timestamp, TokenRef};
use ring::hmac;

use super::{
    algorithm::Verb,
    canonical,
    envelope::KeyRef,
    keys::{KeyName, MAC_BYTES, MacKey},
    secret::KeyBytes,
};

const RECORD_LABEL: &[u8] = b"paymesh audit record 1";
const CHAIN_LABEL: &[u8] = b"paymesh audit chain 1";
/// The info of HKDF-Expand, with the counter that ends it: T(1) of RFC 5869 is HMAC(PRK, info ‖ 0x01).
const CHAIN_INFO: &[u8] = b"chain key\x01";

/// What was asked for, by whom, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Act {
    /// Who asked. Its name is kept: a process is of one mesh.
    pub workload: SpiffeId,
    /// For which tenant; `None` where there is none, or none was said.
    pub tenant: Option<TenantId>,
    /// With what.
    pub subject: Subject,
    /// The version of the key that did it, where one did.
    pub key: Option<KeyRef>,
    /// What.
    pub verb: Verb,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a verb was used on. Only what was read as a name or an id: any other text of a request could be data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The tenant's keys, or the service itself.
    None,
    /// A named key.
    Key(KeyName),
    /// A card.
    Token(TokenRef),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not: the reason's stable name, which is not empty.
    Refused(Cow<'static, str>),
}

impl Outcome {
    /// As it is kept: empty where it was done.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Done => "",
            Self::Refused(reason) => reason,
        }
    }

    /// As it was kept.
    pub fn from_text(text: String) -> Self {
        if text.is_empty() { Self::Done } else { Self::Refused(text.into()) }
    }
}

/// One or more equal acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was done.
    pub act: Act,
    /// How often.
    pub count: u32,
    /// How many bytes of data it was done to, all together.
    pub bytes: u64,
}

impl Entry {
    /// Adds another of the same act. False, and nothing is added, if it is of another, or the sum is more than can be
    /// kept.
    pub fn absorb(&mut self, other: &Self) -> bool {
        // A store has signed numbers.
        let bytes = self.bytes.checked_add(other.bytes).filter(|bytes| i64::try_from(*bytes).is_ok());
        match (self.count.checked_add(other.count), bytes) {
            (Some(count), Some(bytes)) if self.act == other.act => {
                (self.count, self.bytes) = (count, bytes);
                true
            }
            _ => false,
        }
    }
}

/// Adds up equal acts. What is left is in the order in which each act came first.
pub fn merge(entries: impl Iterator<Item = Entry>) -> Vec<Entry> {
    let mut places: HashMap<Act, usize> = HashMap::new();
    let mut merged: Vec<Entry> = Vec::new();
    for entry in entries {
        // Neighbours are mostly equal.
        if merged.last_mut().is_some_and(|last| last.absorb(&entry)) {
            continue;
        }
        match places.entry(entry.act.clone()) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(merged.len());
                merged.push(entry);
            }
            hash_map::Entry::Occupied(mut occupied) => {
                if !merged.get_mut(*occupied.get()).is_some_and(|known| known.absorb(&entry)) {
                    occupied.insert(merged.len());
                    merged.push(entry);
                }
            }
        }
    }
    merged
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// 1, 2, 3, … without a gap.
    pub sequence: u64,
    /// When it was kept. Never before the record before it.
    pub at: Timestamp,
    /// What it says.
    pub entry: Entry,
}

/// A record and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chained {
    /// The record.
    pub record: Record,
    /// Over the record and all before it.
    pub hash: [u8; MAC_BYTES],
}

/// A place in the chain: a record's number and hash. Vouches for all records up to there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The record's number.
    pub sequence: u64,
    /// Its hash.
    pub hash: [u8; MAC_BYTES],
}

impl Link {
    /// Before the first record.
    pub const START: Self = Self { sequence: 0, hash: [0; MAC_BYTES] };
}

/// The number and the hash in hexadecimal, with a colon between them.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, canonical::hex(&self.hash))
    }
}

/// A text is no [`Link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a record's number, a colon, and its hash in {} lower-case hexadecimal digits", 2 * MAC_BYTES)]
pub struct LinkError;

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let (sequence, digits) = text.split_once(':').ok_or(LinkError)?;
        let mut hash = [0; MAC_BYTES];
        for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| LinkError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| LinkError)?;
        }
        let link = Self { sequence: sequence.parse().map_err(|_| LinkError)?, hash };
        // One spelling.
        if link.to_string() == text { Ok(link) } else { Err(LinkError) }
    }
}

/// The key that the hashes are made with. Cannot be printed.
#[derive(Clone)]
pub struct ChainKey(MacKey);

impl ChainKey {
    /// Expands the key.
    pub fn new(key: &KeyBytes) -> Self {
        Self(MacKey::new(key))
    }

    /// The key of a log that was begun when it was not yet a random key of its own, which the root wraps, but derived
    /// from a root key: HKDF-SHA-256 (RFC 5869) of that, with a label of its own.
    pub fn derived_from(root: &KeyBytes) -> KeyBytes {
        let extract = hmac::Key::new(hmac::HMAC_SHA256, CHAIN_LABEL);
        let prk = hmac::sign(&extract, root.expose());
        let expanded = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, prk.as_ref()), CHAIN_INFO);
        let mut key = [0; 32];
        key.copy_from_slice(expanded.as_ref());
        KeyBytes::take(&mut key)
    }

    /// A record's hash: HMAC-SHA-256 of the [`canonical`] list of a label, the hash before it and
    /// every field.
    pub fn hash(&self, previous: &[u8; MAC_BYTES], record: &Record) -> [u8; MAC_BYTES] {
        let Record { sequence, at, entry: Entry { act, count, bytes } } = record;
        let (key_name, token) = match &act.subject {
            Subject::None => ("", String::new()),
            Subject::Key(name) => (name.as_str(), String::new()),
            Subject::Token(token) => ("", token.to_string()),
        };
        let version = act.key.map(|key| key.version.to_be_bytes());
        let (key_id, key_version): (&[u8], &[u8]) = match (&act.key, &version) {
            (Some(key), Some(version)) => (key.id.as_bytes(), version),
            _ => (&[], &[]),
        };
        self.0.tag(&[
            RECORD_LABEL,
            previous,
            &sequence.to_be_bytes(),
            &at.as_nanos().to_be_bytes(),
            act.workload.name().as_bytes(),
            act.tenant.as_ref().map_or(&[], |tenant| tenant.as_str().as_bytes()),
            key_name.as_bytes(),
            token.as_bytes(),
            key_id,
            key_version,
            &[act.verb.code()],
            act.outcome.as_str().as_bytes(),
            &count.to_be_bytes(),
            &bytes.to_be_bytes(),
        ])
    }

    /// The records that follow `end`, whose time was `at`, one for each entry.
    pub fn extend<'a>(
        &'a self,
        end: Link,
        at: Timestamp,
        entries: impl IntoIterator<Item = Entry, IntoIter: 'a>,
        now: Timestamp,
    ) -> impl Iterator<Item = Chained> + 'a {
        let (mut end, at) = (end, at.max(now));
        entries.into_iter().map(move |entry| {
            let record = Record { sequence: end.sequence + 1, at, entry };
            let hash = self.hash(&end.hash, &record);
            end = Link { sequence: record.sequence, hash };
            Chained { record, hash }
        })
    }
}

/// Which records are asked for. What is absent does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this tenant's.
    pub tenant: Option<TenantId>,
    /// Only those of this named key.
    pub key_name: Option<KeyName>,
    /// Only those of this card.
    pub token: Option<TokenRef>,
    /// Only this verb.
    pub verb: Option<Verb>,
    /// Only what this workload asked for.
    pub workload: Option<SpiffeId>,
    /// Only what was not done.
    pub refused: bool,
}

impl Filter {
    /// Whether a record is among them.
    pub fn matches(&self, record: &Record) -> bool {
        fn is<T: PartialEq>(asked: Option<&T>, found: Option<&T>) -> bool {
            asked.is_none() || asked == found
        }
        let act = &record.entry.act;
        let (key_name, token) = match &act.subject {
            Subject::None => (None, None),
            Subject::Key(name) => (Some(name), None),
            Subject::Token(token) => (None, Some(token)),
        };
        is(self.tenant.as_ref(), act.tenant.as_ref())
            && is(self.key_name.as_ref(), key_name)
            && is(self.token.as_ref(), token)
            && is(self.verb.as_ref(), Some(&act.verb))
            && is(self.workload.as_ref(), Some(&act.workload))
            && !(self.refused && act.outcome == Outcome::Done)
    }
}

#[cfg(test)]
mod tests;
