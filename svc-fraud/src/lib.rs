//! svc-fraud decides whether a payment may go on: allow, review or block, with a score and reasons.
//!
//! Map: [`domain`] holds the rules, the velocity windows and the decision, and is pure; [`store`] keeps
//! assessments and counts; [`service`] is the gRPC face; [`config`] says which rules hold.
//!
//! Promises:
//! - A payment is assessed once. Asking again gives the first answer and counts nothing.
//! - An answer leaves after it is on disk; the counts survive a crash with it.
//! - Payments are judged one after another: however many come at once, a limit lets through as many
//!   as it says.
//! - Memory is bounded; what is forgotten first is what was idle longest.
//! - It never sees a card number. It is told the first six and last four digits and the vault's keyed
//!   fingerprint, and keeps only the fingerprint.
//!
//! One rule set holds for all tenants.

pub mod config;
pub mod domain;
pub mod service;
pub mod store;

use mesh::{Parts, ServiceContext, StartError};
use paymesh_proto::fraud::v1::fraud_service_server::FraudServiceServer;

pub use config::Config;

/// The fraud service.
pub struct Fraud;

impl mesh::Service for Fraud {
    const NAME: &'static str = "svc-fraud";
    type Config = Config;

    fn check(config: &Config) -> Result<(), String> {
        config.rules().map(drop)
    }

    async fn build(config: Config, context: &ServiceContext) -> Result<Parts, StartError> {
        let rules = config.rules().map_err(StartError::Config)?;
        let options =
            store::Options { limits: config.limits(), rebuild_rows_max: config.velocity_rebuild_rows_max };
        let (path, clock) = (context.data_dir().join("fraud.db"), context.clock());
        let store = store::EmbeddedStore::open(&path, rules, options, clock.now()).await?;
        let api = service::FraudApi::new(store, clock, context.metrics());
        Ok(Parts::new().serve(FraudServiceServer::new(api)))
    }
}
