//! The whole mesh in one process, for development, tests and benchmarks: every service and the edge,
//! each behind the same mTLS, policy and stores as when they run apart.
//!
//! [`Dev::start`] makes the certificates, starts the services on free ports, and writes `dev.json` so
//! that tools can join in. Knows nothing of what the services do.

pub mod args;
pub mod certs;
pub mod config;
pub mod crypto;
pub mod demo;
pub mod describe;
pub mod dev;
pub mod keys;
pub mod operator;
pub mod policy;
pub mod rest;
pub mod serve;

pub use dev::{Dev, DevError, DevOptions};
