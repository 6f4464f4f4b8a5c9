//! What a webhook is and what may happen to it. Pure: time, chance and addresses come in as arguments.

pub mod address;
pub mod attempt;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod schedule;
pub mod secrets;
pub mod signing;
pub mod url;
