//! svc-ledger: double-entry accounts and transfers. Every transfer debits one account and credits
//! another by the same amount, so that per ledger debits and credits are always equal.
//!
//! - [`domain`]: the state machine. Pure.
//! - [`journal`]: what happened, in records that are chained: the truth.
//! - [`store`]: where the ledger is kept; every store keeps the same contract.
//! - [`engine`]: the state machine in memory over a journal and an index: execute, make durable, answer.
//! - `service`: the contract's RPCs, spelled in the words of the domain and back.
//! - `worker`: releases reservations that have lapsed.
//!
//! Its promises: what it answered is on disk; a retry with the same id has its effect once; balances
//! never pass the limits of their accounts, reservations counted; a reservation is resolved at most
//! once; nobody sees or moves what belongs to another tenant.

mod config;
pub mod domain;
pub mod engine;
pub mod journal;
mod service;
pub mod store;
mod worker;

use mesh::{Parts, ServiceContext, StartError};

pub use config::Config;

use crate::store::{
    EmbeddedStore, Led,
    postgres::{PostgresConfig, PostgresStore},
};

/// The ledger as a service of the mesh.
#[derive(Debug, Clone, Copy)]
pub struct Ledger;

impl mesh::Service for Ledger {
    const NAME: &'static str = "svc-ledger";
    const MESSAGE_BYTES_MAX: u32 = service::MESSAGE_BYTES_MAX;
    type Config = Config;

    fn check(config: &Config) -> Result<(), String> {
        config.expiry_interval().map_err(|error| error.to_string())?;
        config.feeds_max().map_err(|error| error.to_string())?;
        config.vocabulary().map(drop).map_err(|error| error.to_string())?;
        config.postgres.as_ref().map_or(Ok(()), PostgresConfig::check)
    }

    async fn build(config: Config, context: &ServiceContext) -> Result<Parts, StartError> {
        if let Some(postgres) = &config.postgres {
            let (store, replica) = PostgresStore::open(postgres).await?;
            let parts = serve(store, &config, context)?;
            return Ok(parts.worker("lead-the-ledger", replica.run(context.drain())));
        }
        let store = EmbeddedStore::open(context.data_dir())
            .await
            .map_err(|error| StartError::Store(mesh::StoreError::Corrupt(error.to_string())))?;
        let (stopped, drain) = (store.stopped(), context.drain());
        let watching = async move {
            // Nothing but a new start can tell what the journal holds.
            tokio::select! {
                error = stopped => tracing::error!(%error, "the ledger has stopped"),
                () = drain.started() => {}
            }
        };
        Ok(serve(store, &config, context)?.worker("watch-the-journal", watching))
    }
}

/// What is the same for every store.
fn serve<S: Led>(store: S, config: &Config, context: &ServiceContext) -> Result<Parts, StartError> {
    let (interval, words, feeds_max) = (config.expiry_interval()?, config.vocabulary()?, config.feeds_max()?);
    let sweeping = worker::release_lapsed(store.clone(), context.clock(), context.drain(), interval);
    Ok(Parts::new()
        .serve(service::server(store, context.clock(), words, context.drain(), feeds_max))
        .worker("release-lapsed-reservations", sweeping))
}
