//! What a webhook is and what may happen to it. Pure: time, chance and addresses come in as arguments.

pub mod signing;
