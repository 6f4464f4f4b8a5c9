//! The running service, over real mTLS.

// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod at_rest;
mod audit;
mod audit_crash;
mod audit_stopped;
mod audit_verbs;
mod codes;
mod common;
mod crypto;
mod imports;
mod keys;
mod killed;
mod old_data;
mod postgres;
mod replicas;
mod roots;
mod rotation;
mod tokens;
mod vault;
mod verbs;
mod wycheproof;
