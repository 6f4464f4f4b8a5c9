//! Events, accounts and reservations as bytes, and back: compact, with one spelling for each value, and
//! readable without any other state than what came before in the same sequence.
//!
//! Whole numbers that are usually small are varints (LEB128, the shortest form only); those that may be
//! negative are zigzagged first; ids are 16 bytes, the most significant first. Times are differences to the
//! time before. What is usually as in the item before (tenant, ledger, code) is left out then, and a bit says
//! so. `docs/ledger-journal.md` lists the fields.

mod decode;
mod encode;
mod intern;
#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use encode::Encoder;

/// The fewest bytes of an item of which there may be many: a burned id of the same tenant. Bounds how much room is
/// made for what a count claims.
const ITEM_BYTES_MIN: usize = 18;

/// The tag that an item begins with.
mod tag {
    pub(super) const OPENED: u8 = 1;
    pub(super) const MADE: u8 = 2;
    pub(super) const EXPIRED: u8 = 3;
    pub(super) const BURNED: u8 = 4;
    pub(super) const LIMITED: u8 = 5;
    pub(super) const TIMES_CLOSED: u8 = 6;
}

/// What an item leaves out or has.
mod shape {
    /// The tenant is that of the item before.
    pub(super) const SAME_TENANT: u8 = 1;
    /// Ledger and code are those of the item before that had any.
    pub(super) const SAME_CODE: u8 = 1 << 1;
    /// There is a reference that is not empty.
    pub(super) const REFERENCE: u8 = 1 << 2;
    /// There is user data that is not zero.
    pub(super) const USER_DATA: u8 = 1 << 3;

    /// An account: it takes no transfers now.
    pub(super) const CLOSED: u8 = 1 << 4;
    /// An account: there are balances that are not zero.
    pub(super) const BALANCES: u8 = 1 << 5;
    /// An account: there is a limit that is not zero.
    pub(super) const LIMIT: u8 = 1 << 6;
    /// An account has no other bits.
    pub(super) const ACCOUNT_UNUSED: u8 = 1 << 7;

    /// A transfer: the two bits of its kind.
    pub(super) const KIND: u8 = 3 << 4;
    pub(super) const SINGLE: u8 = 0;
    pub(super) const PENDING: u8 = 1 << 4;
    pub(super) const POST: u8 = 2 << 4;
    pub(super) const VOID: u8 = 3 << 4;
    /// A transfer: it was sent with no amount.
    pub(super) const NOT_REQUESTED: u8 = 1 << 6;
    /// A transfer: it was sent with another amount than it moved.
    pub(super) const REQUESTED_OTHER: u8 = 1 << 7;
}

/// The bits of a movement's two sides.
mod side {
    pub(super) const DEBIT_CLOSED: u8 = 1;
    pub(super) const DEBIT_HISTORY: u8 = 1 << 1;
    pub(super) const CREDIT_CLOSED: u8 = 1 << 2;
    pub(super) const CREDIT_HISTORY: u8 = 1 << 3;
    pub(super) const UNUSED: u8 = 0xf0;
}

/// Bytes that are no events: which item of the sequence, where in it, and what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("item {item}, byte {at}: {what}")]
pub struct DecodeError {
    /// The item, counted from 0.
    pub item: usize,
    /// The byte, counted from 0 at the start of the sequence.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}
