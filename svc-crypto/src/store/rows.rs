//! What the tables of every engine hold: the numbers that stand for states, and a record's columns.

use std::collections::BTreeMap;

use mesh::{SpiffeId, StoreError};
use money::Timestamp;
use uuid::Uuid;

use super::Usage;
use crate::domain::{
    algorithm::Verb,
    audit::{Act, Chained, Entry, Link, Outcome, Record, Subject},
    envelope::KeyRef,
    key::State,
    keys::KeyName,
};

/// The numbers that stand for a key's state. Never reused.
pub(super) fn state_code(state: State) -> (i64, i64) {
    match state {
        State::Enabled => (1, 0),
        State::Disabled => (2, 0),
        State::PendingDestruction { at } => (3, at.as_nanos()),
        State::Destroyed { at } => (4, at.as_nanos()),
    }
}

/// The state that they stand for.
pub(super) fn state_of(code: i64, at: i64) -> Option<State> {
    let at = Timestamp::from_nanos(at);
    match code {
        1 => Some(State::Enabled),
        2 => Some(State::Disabled),
        3 => Some(State::PendingDestruction { at }),
        4 => Some(State::Destroyed { at }),
        _ => None,
    }
}

/// The columns of a record of the audit log, as they were found.
pub(super) struct Columns {
    pub(super) sequence: u64,
    pub(super) at: i64,
    pub(super) workload: String,
    pub(super) tenant: String,
    pub(super) key_name: String,
    pub(super) token: String,
    pub(super) key_id: Vec<u8>,
    pub(super) key_version: i64,
    pub(super) verb: i64,
    pub(super) outcome: String,
    pub(super) count: i64,
    pub(super) bytes: i64,
    pub(super) hash: Vec<u8>,
}

impl Columns {
    /// The record; `None` if they hold what no record does. Two rows that differ never give the same.
    pub(super) fn chained(self) -> Option<Chained> {
        let tenant = if self.tenant.is_empty() { None } else { Some(self.tenant.parse().ok()?) };
        let subject = match (self.key_name.is_empty(), self.token.is_empty()) {
            (true, true) => Subject::None,
            (false, true) => Subject::Key(KeyName::parse(&self.key_name).ok()?),
            (true, false) => Subject::Token(self.token.parse().ok()?),
            (false, false) => return None,
        };
        let key = match (self.key_id.is_empty(), self.key_version) {
            (true, 0) => None,
            (true, _) => return None,
            (false, version) => Some(KeyRef {
                id: Uuid::from_slice(&self.key_id).ok()?,
                version: u32::try_from(version).ok()?,
            }),
        };
        let act = Act {
            workload: SpiffeId::of(&self.workload).ok()?,
            tenant,
            subject,
            key,
            verb: Verb::from_code(u8::try_from(self.verb).ok()?)?,
            outcome: Outcome::from_text(self.outcome),
        };
        let (count, bytes) = (u32::try_from(self.count).ok()?, u64::try_from(self.bytes).ok()?);
        let entry = Entry { act, count, bytes };
        let record = Record { sequence: self.sequence, at: Timestamp::from_nanos(self.at), entry };
        Some(Chained { record, hash: self.hash.try_into().ok()? })
    }
}

/// The texts that stand for a subject: a key's name and a token, of which at most one is not empty.
pub(super) fn subject_texts(subject: &Subject) -> (&str, String) {
    match subject {
        Subject::None => ("", String::new()),
        Subject::Key(name) => (name.as_str(), String::new()),
        Subject::Token(token) => ("", token.to_string()),
    }
}

/// What entries add to the counts of keys' versions: what was done with them, but for managing them.
pub(super) fn used<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<Usage> {
    let mut used: BTreeMap<(Uuid, u32), (u64, u64)> = BTreeMap::new();
    for Entry { act, count, bytes } in entries {
        if let (Some(key), Outcome::Done, false) = (act.key, &act.outcome, act.verb.is_management()) {
            let (messages, sum) = used.entry((key.id, key.version)).or_default();
            *messages = messages.saturating_add((*count).into());
            *sum = sum.saturating_add(*bytes);
        }
    }
    let usage = |((key, version), (messages, bytes))| Usage { key, version, messages, bytes };
    used.into_iter().map(usage).collect()
}

/// Refuses a log that does not hold what is known of it. `found` is the hash of the record that has the known
/// number.
pub(super) fn check_known(known: Link, found: Option<&[u8]>, end: Link) -> Result<(), StoreError> {
    if known == Link::START || found == Some(known.hash.as_slice()) {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!(
        "the audit log does not hold record {} as it was kept: it ends with record {}",
        known.sequence, end.sequence
    )))
}
