//! The configuration's layers, what it refuses, what it explains, and that all of it survives being written
//! down and read again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod check;
mod explain;
mod layers;
mod refusals;
mod roundtrip;
mod services;
