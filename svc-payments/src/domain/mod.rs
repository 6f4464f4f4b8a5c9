//! What a payment is and what may happen to it. Pure: time and ids come in as arguments, effects go
//! out as values.
//!
//! [`transition`] has the tables; [`payment`] the payment and the one way to change it; [`operation`] what a processor
//! is asked for. Commands begin in [`create`], [`authorization`], [`hold`], [`refund`] and [`dispute`]; outcomes come in
//! by [`answer`]; [`late`] is for those that nobody waits for any more; [`posting`] says what the ledger is told,
//! [`routing`] who is asked, [`due`] when something is looked at again.

pub mod answer;
pub mod authorization;
pub mod create;
pub mod dispute;
pub mod due;
pub mod hold;
pub mod late;
pub mod method;
pub mod operation;
pub mod payment;
pub mod posting;
pub mod refund;
pub mod routing;
pub mod transition;
