//! What a payment is and what may happen to it. Pure: time and ids come in as arguments, effects go
//! out as values.

pub mod authorization;
pub mod capture;
pub mod card;
pub mod create;
pub mod due;
pub mod operation;
pub mod payment;
pub mod posting;
pub mod refund;
pub mod transition;
