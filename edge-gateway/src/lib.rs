//! The thin edge between the outside and the mesh: REST and JSON in, mTLS gRPC out.
//!
//! Driven by the contract: every RPC with a `google.api.http` annotation has its route, its JSON and
//! its documentation from the descriptors. Adding an RPC to the REST API means annotating it.
//!
//! - [`transcode`]: which RPC, its message, its answer. Pure.
//! - `openapi`: the same descriptors and their comments as OpenAPI 3.1.
//! - `docs`: a page that shows that document.
//! - `gateway`: a request's way through credential, route, body, call and answer.
//! - `stream`: an answer that comes message by message.
//! - [`auth`]: who calls, and what they may do: API keys, access tokens, signed requests, scopes.
//! - `limits`: how much a client may ask for.
//! - `face`: the HTTP server beside the RPCs: cross-origin requests, conditional reads, compression.
//! - `server`: connections, TLS, and what clients may keep us waiting for.
//! - `problem`, `readiness`, `metrics`: what it says.
//!
//! Promises: the tenant comes only from the credential; no header from outside reaches the mesh
//! unless it is named here; no value from a request is ever logged or quoted in an error; below the
//! routes' first segment (`/v1`) nothing is told without a credential, not even whether a path exists.

pub mod auth;
mod body;
mod codec;
mod config;
mod docs;
mod edge;
mod face;
mod gateway;
pub mod limits;
mod metrics;
mod openapi;
mod problem;
mod readiness;
mod server;
mod stream;
pub mod transcode;

pub use config::{ApiKeyConfig, AuthConfig, EdgeConfig};
pub use edge::Edge;
pub use face::config::{CorsConfig, HttpConfig};
pub use limits::{
    address::ForwardedHeader,
    config::{LimitsConfig, QuotaConfig, RedisConfig, TenantLimits, WhenUnreachable},
};
pub use openapi::document as openapi_document;
pub use server::config::{PatienceConfig, TlsConfig};
