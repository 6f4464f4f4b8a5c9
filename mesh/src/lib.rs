//! What every service stands on: identity, policy, the server stack, clients, batching, the embedded
//! store, telemetry, health and drain.
//!
//! Knows nothing of payments. A service implements [`Service`]; [`start`] runs it within a process, and
//! [`service_main`] makes a process of it. Every RPC passes through the same stack (`stack`), every
//! refusal through the same table ([`fault`]), every fixed cost through the same primitive ([`batch`]).

pub mod batch;
pub mod body;
pub mod cache;
pub mod call;
pub mod client;
pub mod clock;
pub mod config;
pub mod drain;
pub mod fault;
pub mod gathered;
pub mod idempotency;
pub mod identity;
pub mod limit;
pub mod linkerd;
pub mod memory;
pub mod metrics;
pub mod network;
pub mod outbound;
pub mod panic_guard;
pub mod pki;
pub mod policy;
pub mod postgres;
pub mod routes;
pub mod run;
pub mod scope;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod testing;
pub mod tls;
pub mod trace;
pub mod transport;
pub mod watched;

mod admin;
mod admission;
mod caller;
mod log_filter;
mod log_format;
mod log_scope;
mod refusals;
mod seldom;
mod stack;
mod streamed;
mod turn;

pub use batch::{BatchError, BatchLimits, Batcher};
pub use cache::Cache;
pub use call::{Call, IdempotencyKey, Origin};
pub use client::{Upstream, UpstreamParts, UpstreamSettings};
pub use clock::{Clock, Ids, ManualClock, RandomIds, SystemClock};
pub use drain::Drain;
pub use fault::{Fault, Reason, Violations};
pub use gathered::Gathered;
pub use identity::SpiffeId;
pub use metrics::Metrics;
pub use run::service_main;
pub use service::{Launch, Parts, Running, Service, ServiceContext, Settings, StartError, start};
pub use store::{Embedded, StoreError};
pub use testing::Harness;
pub use trace::TraceContext;
pub use transport::Transport;
pub use watched::Watched;
