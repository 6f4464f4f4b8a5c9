//! Webhooks by the Standard Webhooks specification 1.0.0 (<https://www.standardwebhooks.com>).
//!
//! Knows no service and no store.

pub mod domain;

mod secret_file;

pub use domain::signing::{SignatureError, WebhookSecret};
