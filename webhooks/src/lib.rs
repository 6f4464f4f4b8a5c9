//! Webhooks by the Standard Webhooks specification 1.0.0 (<https://www.standardwebhooks.com>): what is sent to tenants'
//! endpoints, and the signatures of what processors send us. `docs/webhooks.md` says what receivers may rely on.
//!
//! A library for services: it decides ([`domain`]), sends ([`sender`]) and drives ([`dispatcher`]); endpoints and
//! deliveries are in the service's own store ([`deliveries`]), so that a delivery is made in the same commit as the
//! event that it tells of. Knows no service and no store.

pub mod config;
pub mod deliveries;
pub mod dispatcher;
pub mod domain;
pub mod sealing;
pub mod sender;
pub mod testing;

mod metrics;
mod secret_file;

pub use config::WebhookConfig;
pub use deliveries::Deliveries;
pub use dispatcher::{Dispatcher, Wake};
pub use domain::signing::{SignatureError, WebhookSecret};
pub use sealing::{Sealed, Sealer};
pub use sender::{HttpSender, Sender};
