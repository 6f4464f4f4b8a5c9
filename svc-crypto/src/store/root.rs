//! What a store keeps of roots of trust, and of the keys that they wrap.

use mesh::StoreError;
use uuid::Uuid;

use crate::domain::{
    keys::{Purpose, Slot, WrappedKey},
    rooted::{self, RootName},
};

/// The roots of trust that keys of a store are wrapped under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootRecord {
    /// The one that the store was made under, or that everything was wrapped under last.
    pub id: Uuid,
    /// Another one that wraps since, as long as the first is needed too.
    pub other: Option<Uuid>,
}

impl RootRecord {
    /// The record once this root is adopted: the first, or one beside the one `before`. Unchanged, without it, where
    /// another than that is on record, or a second already.
    #[must_use]
    pub fn adopt(known: Option<Self>, id: Uuid, before: Option<Uuid>) -> Self {
        match known {
            None => Self { id, other: None },
            Some(known) if known.other.is_none() && before == Some(known.id) && id != known.id => {
                Self { other: Some(id), ..known }
            }
            Some(known) => known,
        }
    }

    /// The record once everything is under this root alone; unchanged where it is not on it.
    #[must_use]
    pub fn settle(self, id: Uuid) -> Self {
        if self.has(id) { Self { id, other: None } } else { self }
    }

    /// Whether `wrapped` may be kept for this place: what a root wraps, under one of these only.
    pub(super) fn check(record: Option<Self>, slot: &Slot, wrapped: &[u8]) -> Result<(), RootedError> {
        if !Purpose::UNDER_ROOT.contains(&slot.purpose) {
            return Ok(());
        }
        let corrupt = || StoreError::Corrupt("a key to be kept is nothing that a root wrapped".to_owned());
        let (stamp, _) = rooted::read(wrapped).ok_or_else(corrupt)?;
        match record {
            Some(record) if record.has(stamp.root.id()) => Ok(()),
            _ => Err(RootedError::NotOnRecord(stamp.root)),
        }
    }

    /// Whether this root is on it.
    pub fn has(self, id: Uuid) -> bool {
        self.ids().any(|known| known == id)
    }

    /// All that are on it.
    pub fn ids(self) -> impl Iterator<Item = Uuid> {
        std::iter::once(self.id).chain(self.other)
    }
}

/// A version of a key that a root wraps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootedKey {
    /// Which key.
    pub slot: Slot,
    /// The version, as it is kept.
    pub key: WrappedKey,
}

/// Why a key that a root wrapped was not kept.
#[derive(Debug, thiserror::Error)]
pub enum RootedError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its root is not on the store's record: whoever goes by the record may do without that root.
    #[error("the root of trust {0} is not on the store's record")]
    NotOnRecord(RootName),
}
