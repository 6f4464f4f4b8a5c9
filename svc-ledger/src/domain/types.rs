//! Accounts, transfers and their parts. Illegal combinations have no representation here; what a
//! caller may send wrongly is in [`super::NewAccount`] and [`super::NewTransfer`].

use std::fmt;

use money::{TenantId, Timestamp};

use super::{
    ledger::LedgerCode,
    text::{Code, Reference},
};

/// Something a request may leave out or get wrong.
///
/// The state machine decides which of its result codes a wrong field means, in the contract's
/// order of precedence, so that wrong fields must reach it instead of being refused on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given<T> {
    /// Left empty.
    Nothing,
    /// There, but not a legal value.
    Malformed,
    /// Well formed, but not, or no longer, among those that the configuration lists.
    Unlisted(T),
    /// A legal value.
    Value(T),
}

impl<T> Given<T> {
    /// Reads a text field: empty is [`Given::Nothing`], what does not parse [`Given::Malformed`].
    pub fn parse<E>(text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Self {
        if text.is_empty() { Self::Nothing } else { parse(text).map_or(Self::Malformed, Self::Value) }
    }

    /// The legal value, where there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Nothing | Self::Malformed | Self::Unlisted(_) => None,
        }
    }
}

impl<T: PartialEq> Given<T> {
    /// Whether this is the given value, or was left empty and thereby agrees with any.
    pub fn agrees(&self, value: &T) -> bool {
        *self == Self::Nothing || self.is(value)
    }

    /// Whether this is exactly the given value, which may have been taken off the configuration's lists.
    pub fn is(&self, value: &T) -> bool {
        match self {
            Self::Nothing | Self::Malformed => false,
            Self::Unlisted(mine) | Self::Value(mine) => mine == value,
        }
    }
}

/// The nil and the max UUID are no ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID other than the nil and the max UUID")]
pub struct IdError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            /// Wraps 128 bits; zero and all ones are refused.
            pub const fn new(bits: u128) -> Result<Self, IdError> {
                if bits == 0 || bits == u128::MAX { Err(IdError) } else { Ok(Self(bits)) }
            }

            /// Reads any of the usual spellings of a UUID.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                uuid::Uuid::parse_str(text).map_err(|_| IdError).and_then(|uuid| Self::new(uuid.as_u128()))
            }

            /// The 128 bits.
            pub const fn bits(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&uuid::Uuid::from_u128(self.0), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// An account's id, chosen by the client.
    AccountId
);
id!(
    /// A transfer's id, chosen by the client and kept by it before the call.
    TransferId
);

/// What an account is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountFlags(u8);

impl AccountFlags {
    /// Held to nothing.
    pub const NONE: Self = Self(0);
    /// `debits_pending + debits_posted ≤ credits_posted + limit`.
    pub const DEBITS_MUST_NOT_EXCEED_CREDITS: Self = Self(1);
    /// `credits_pending + credits_posted ≤ debits_posted + limit`.
    pub const CREDITS_MUST_NOT_EXCEED_DEBITS: Self = Self(2);
    /// Its balances after each transfer are kept, to be listed and asked for as of any time.
    pub const HISTORY: Self = Self(4);
    /// Opened closed. Of an account that exists, [`Account::closed`] says whether it is closed now.
    pub const CLOSED: Self = Self(8);
    /// Both limits, which exclude each other.
    const BOTH_LIMITS: Self = Self(1 | 2);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// This set but for what is in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether one of the account's sides is limited.
    pub const fn has_limit(self) -> bool {
        self.0 & Self::BOTH_LIMITS.0 != 0
    }

    /// Whether both sides would be limited, which no account is.
    pub(super) const fn excludes_itself(self) -> bool {
        self.contains(Self::BOTH_LIMITS)
    }

    /// The set as bits, as it is stored.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits; none where a bit has no meaning.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits < 16 { Some(Self(bits)) } else { None }
    }
}

/// The four sums of an account, in minor units; none is ever negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balances {
    /// Reserved debits.
    pub debits_pending: i64,
    /// Made debits.
    pub debits_posted: i64,
    /// Reserved credits.
    pub credits_pending: i64,
    /// Made credits.
    pub credits_posted: i64,
}

/// An account as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Chosen by the client.
    pub id: AccountId,
    /// The owner.
    pub tenant: TenantId,
    /// Of all its transfers.
    pub ledger: LedgerCode,
    /// Its place in the chart of accounts.
    pub code: Code,
    /// What it is held to, as it was opened.
    pub flags: AccountFlags,
    /// The caller's own number. Not interpreted.
    pub user_data: i64,
    /// The caller's own.
    pub reference: Reference,
    /// By how much its balance limit may be passed, in minor units; never negative.
    pub limit: i64,
    /// Whether it takes no transfers now.
    pub closed: bool,
    /// Its sums.
    pub balances: Balances,
    /// When it was opened: unique over all events.
    pub created_at: Timestamp,
}

/// The flags of a transfer as sent: any combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransferFlags(u8);

impl TransferFlags {
    /// Succeeds or fails together with the next item.
    pub const LINKED: Self = Self(1);
    /// Reserves.
    pub const PENDING: Self = Self(2);
    /// Posts a reservation.
    pub const POST_PENDING: Self = Self(4);
    /// Voids a reservation.
    pub const VOID_PENDING: Self = Self(8);
    /// Moves at most what the debit account has, its limit included.
    pub const BALANCING_DEBIT: Self = Self(16);
    /// Moves at most what the credit account owes, its limit included.
    pub const BALANCING_CREDIT: Self = Self(32);
    /// Closes the debit account while it is pending.
    pub const CLOSING_DEBIT: Self = Self(64);
    /// Closes the credit account while it is pending.
    pub const CLOSING_CREDIT: Self = Self(128);
    /// Those that say what a transfer does, which [`Kind`] says of one that was made.
    pub const KINDS: Self = Self(2 | 4 | 8);
    /// Those of a post or void that have no meaning.
    const OF_NO_RESOLUTION: Self = Self(16 | 32 | 64 | 128);
    /// Those that only a reservation may have.
    const CLOSING: Self = Self(64 | 128);

    /// The set as bits, as it is stored.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits: each has a meaning.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// This set but for what is in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it has flags that a post or void has no use for.
    pub(super) const fn no_resolution(self) -> bool {
        self.0 & Self::OF_NO_RESOLUTION.0 != 0
    }

    /// Whether it closes an account.
    pub(super) const fn closes(self) -> bool {
        self.0 & Self::CLOSING.0 != 0
    }
}

/// What a transfer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Moves at once.
    Single,
    /// Reserves, for this many seconds (0: until it is posted or voided).
    Pending {
        /// Seconds until the reservation lapses by itself.
        timeout_s: u32,
    },
    /// Posts a reservation, wholly or partly, and releases the rest.
    Post {
        /// The reservation.
        pending: TransferId,
    },
    /// Releases a reservation.
    Void {
        /// The reservation.
        pending: TransferId,
    },
}

/// A transfer as it was made. It never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Chosen by the client.
    pub id: TransferId,
    /// When it was made: unique and strictly increasing over the whole ledger.
    pub timestamp: Timestamp,
    /// The owner of both accounts.
    pub tenant: TenantId,
    /// What it does.
    pub kind: Kind,
    /// The flags it was sent with but for its kind's.
    pub modifiers: TransferFlags,
    /// The account debited.
    pub debit: AccountId,
    /// The account credited.
    pub credit: AccountId,
    /// In minor units. Of a post the part posted, of a void the part released, of a balancing transfer what
    /// was there to move.
    pub amount: i64,
    /// The amount it was sent with; `None` for a post of whatever was reserved.
    pub requested: Option<i64>,
    /// Of both accounts.
    pub ledger: LedgerCode,
    /// What it is for.
    pub code: Code,
    /// The caller's own number. Not interpreted.
    pub user_data: i64,
    /// The caller's own.
    pub reference: Reference,
}

impl Transfer {
    /// The flags it was sent with.
    pub fn flags(&self) -> TransferFlags {
        let kind = match self.kind {
            Kind::Single => TransferFlags::default(),
            Kind::Pending { .. } => TransferFlags::PENDING,
            Kind::Post { .. } => TransferFlags::POST_PENDING,
            Kind::Void { .. } => TransferFlags::VOID_PENDING,
        };
        kind.with(self.modifiers)
    }

    /// The reservation it resolves.
    pub fn pending_id(&self) -> Option<TransferId> {
        match self.kind {
            Kind::Post { pending } | Kind::Void { pending } => Some(pending),
            Kind::Single | Kind::Pending { .. } => None,
        }
    }

    /// The seconds after which it lapses; 0 for never.
    pub fn timeout_s(&self) -> u32 {
        match self.kind {
            Kind::Pending { timeout_s } => timeout_s,
            Kind::Single | Kind::Post { .. } | Kind::Void { .. } => 0,
        }
    }

    /// When its reservation lapses; `None` for never, and for all that is no reservation.
    pub fn expires_at(&self) -> Option<Timestamp> {
        match self.timeout_s() {
            0 => None,
            // The state machine answers OVERFLOWS_TIMEOUT before it makes one beyond the range.
            seconds => self.timestamp.checked_add_seconds(i64::from(seconds)),
        }
    }
}

/// Where a reservation stands. It leaves `Open` at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationState {
    /// Neither posted, voided nor lapsed.
    Open,
    /// Posted, wholly or partly.
    Posted,
    /// Voided by a transfer.
    Voided,
    /// Lapsed by itself.
    Expired,
}
