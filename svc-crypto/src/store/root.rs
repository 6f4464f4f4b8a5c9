//! What a store keeps of roots of trust, and of the keys that they wrap.

use uuid::Uuid;

use crate::domain::keys::{Slot, WrappedKey};

/// The roots of trust that keys of a store are wrapped under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootRecord {
    /// The one that the store was made under, or that everything was wrapped under last.
    pub id: Uuid,
    /// Another one that wraps since, as long as the first is needed too.
    pub other: Option<Uuid>,
}

impl RootRecord {
    /// The record once this root is adopted: the first, or another beside the first. A third is not taken up: it
    /// is not on the record then.
    #[must_use]
    pub fn adopt(known: Option<Self>, id: Uuid) -> Self {
        match known {
            None => Self { id, other: None },
            Some(known) if known.has(id) || known.other.is_some() => known,
            Some(known) => Self { other: Some(id), ..known },
        }
    }

    /// The record once everything is under this root; unchanged where it is not on it.
    #[must_use]
    pub fn settle(self, id: Uuid) -> Self {
        if self.has(id) { Self { id, other: None } } else { self }
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
