//! svc-crypto: encryption for the other services, and the card vault.
//!
//! # Promises
//! - A card number leaves memory only sealed, and is given back only over `Detokenize`, which the mesh's
//!   policy grants to one identity, and so many a minute. The verification code is in memory alone, for minutes, and
//!   is given once.
//! - A card that was deleted is gone from the disk when that is answered; in PostgreSQL, from every answer.
//! - Whatever is sealed is bound to its tenant and its place: nothing opens elsewhere.
//! - A token or a ciphertext is answered only after every key that opens it is on the disk.
//! - Whatever was done or refused is answered only after its record is in the audit log.
//!
//! # Map
//! - [`domain`]: cards, tokens, keys, the envelope's format. Pure.
//! - [`store`]: what is kept, and the suite that every store must pass.
//! - [`keyring`], [`root`], [`random`]: keys from the root down, on demand.
//! - `assembly`: what is handed to whom.
//! - [`audit`]: what was done, on record before it is answered.
//! - [`replicas`]: what others change.
//! - [`codes`]: verification codes between tokenization and authorization.
//! - [`service`]: the gRPC face.
//! - [`config`]: what can be configured.

mod assembly;
pub mod audit;
pub mod codes;
pub mod config;
pub mod domain;
pub mod grants;
pub mod imports;
pub mod keyring;
pub mod management;
pub mod material;
pub mod operations;
pub mod random;
pub mod replicas;
pub mod root;
pub mod service;
pub mod store;
#[cfg(test)]
mod testing;

use mesh::{Parts, Service, ServiceContext, StartError};

use crate::{
    assembly::{Stores, assemble},
    config::Config,
    domain::{
        audit::ChainKey,
        keys::{self, Root},
    },
    random::Random,
    root::RootError,
    store::{EmbeddedAuditLog, EmbeddedStore, PostgresConfig, PostgresStore, Store},
};

/// The service, as the mesh starts it.
pub struct Crypto;

impl Service for Crypto {
    const NAME: &'static str = "svc-crypto";
    type Config = Config;

    fn check(config: &Config) -> Result<(), String> {
        config.postgres.as_ref().map_or(Ok(()), PostgresConfig::check)
    }

    async fn build(config: Config, context: &ServiceContext) -> Result<Parts, StartError> {
        // Boxed, as a start is a large future.
        match &config.postgres {
            Some(postgres) => Box::pin(in_postgres(postgres, &config, context)).await,
            None => Box::pin(in_files(&config, context)).await,
        }
    }
}

async fn in_files(config: &Config, context: &ServiceContext) -> Result<Parts, StartError> {
    let store = EmbeddedStore::open(&context.data_dir().join("crypto.db"))?;
    let (root, chain_key) = open_root(config, context, &store).await?;
    let log = EmbeddedAuditLog::open(&context.data_dir().join("audit.db"), chain_key.clone())?;
    let pruning = mesh::idempotency::pruning(store.engine(), context.clock(), context.drain());
    let stores = Stores { store, log, root, chain_key, trusted_for: None };
    let parts = assemble(stores, Crypto::NAME, config, context).await?;
    Ok(parts.worker("idempotency pruning", pruning))
}

async fn in_postgres(
    postgres: &PostgresConfig,
    config: &Config,
    context: &ServiceContext,
) -> Result<Parts, StartError> {
    let store = PostgresStore::open(postgres).await?;
    let (root, chain_key) = open_root(config, context, &store).await?;
    let log = store.audit_log(chain_key.clone());
    let pruned = store.clone();
    let prune = move |now| {
        let store = pruned.clone();
        async move { store.prune(now).await }
    };
    let pruning = mesh::idempotency::pruning_with(prune, context.clock(), context.drain());
    let stores = Stores { store, log, root, chain_key, trusted_for: Some(postgres.keys_trusted_for()) };
    let parts = assemble(stores, Crypto::NAME, config, context).await?;
    Ok(parts.worker("idempotency pruning", pruning))
}

/// The root key, checked against the one that the store was made under, and the audit log's key that goes with it.
async fn open_root(
    config: &Config,
    context: &ServiceContext,
    store: &impl Store,
) -> Result<(Root, ChainKey), StartError> {
    let known = store.root().await?;
    let bytes = match &config.root_key_file {
        Some(path) => root::read(path),
        None => root::read_or_make(context.data_dir(), known.is_some(), &Random::default()),
    };
    let bytes = bytes.map_err(|error| StartError::Config(error.to_string()))?;
    let root = keys::root(&bytes);
    if store.adopt_root(root.id).await? == root.id {
        Ok((root, ChainKey::derive(&bytes)))
    } else {
        Err(StartError::Config(RootError::Other.to_string()))
    }
}
