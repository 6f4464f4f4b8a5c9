//! The ledger's state machine: what a batch of accounts or transfers does to what it touches.
//!
//! Pure. A [`Book`] has all accounts in memory, all open reservations, and those other transfers that a batch asks
//! for ([`mentioned`] says which): the engine looks them up and brings them in. What a batch does is executed there,
//! and comes out as [`Event`]s, which the engine makes durable. Time comes in as an argument, and the same batch on
//! the same book at the same time gives the same results everywhere.
//!
//! The semantics are those of TigerBeetle's `create_accounts` and `create_transfers`, with these
//! differences: amounts are non-negative `i64`, accounts and transfers belong to a tenant, balance limits
//! may be passed by a limit that can be set, a post or void inherits neither user data nor reference, and
//! a chain that was made as a whole answers `EXISTS` for each of its items when it is sent again.

mod account;
mod audit;
#[cfg(test)]
mod audit_tests;
mod balances;
mod batch;
mod book;
mod chart;
mod event;
mod exists;
mod expiry;
mod ledger;
mod limit;
mod sound;
mod text;
mod transfer;
mod trial;
mod types;
mod working;

pub use account::{AccountResult, NewAccount, open_accounts};
pub use audit::{AuditReport, Auditor, OFFENCES_MAX};
pub use batch::{TransferResult, execute};
pub use book::{Book, EXPIRE_MAX};
pub use chart::Codes;
pub use event::{Event, Side};
pub use expiry::expire;
pub use ledger::{EXPONENT_MAX, LEDGER_CODE_LENGTH_MAX, LedgerCode, LedgerError, Ledgers};
pub use limit::{LimitResult, NewLimit, set_limits};
pub use text::{CODE_LENGTH_MAX, Code, REFERENCE_LENGTH_MAX, Reference, TextError};
pub use transfer::NewTransfer;
pub use trial::{TrialBalance, TrialLine};
pub use types::{
    Account, AccountFlags, AccountId, Balances, Given, IdError, Kind, ReservationState, Transfer,
    TransferFlags, TransferId,
};
pub use working::{Known, WorkingSet, mentioned};

/// The closed set of a transfer's results, in the order of precedence. It is the contract's own
/// enum, so that the two cannot drift apart.
pub use paymesh_proto::ledger::v1::transfer_result::Code as TransferCode;

/// The closed set of an account's results; the contract's own enum.
pub use paymesh_proto::ledger::v1::account_result::Code as AccountCode;

/// The closed set of the results of setting a limit; the contract's own enum.
pub use paymesh_proto::ledger::v1::account_limit_result::Code as LimitCode;

/// The most items of one batch. TigerBeetle's limit (8,189 to 8,190 events in a 1 MiB message),
/// kept because it bounds how long one batch holds the writer.
pub const BATCH_MAX: usize = 8_190;
