//! Payments over the mesh's real stack: svc-payments with the real vault, ledger, fraud and tax
//! services beside it, each behind mTLS, and faults put in between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod crash;
mod duplicates;
mod faults;
mod gate;
mod life;
mod operations;
mod outage;
mod unknown;
mod watch;
mod webhook;
mod world;
