//! svc-crypto: encryption for the other services, and the card vault.
//!
//! # Promises
//! - A card number leaves memory only sealed, and is given back only over `Detokenize`, which the mesh's
//!   policy grants to one identity, and so many a minute. The verification code is in memory alone, for minutes, and
//!   is given once.
//! - A card that was deleted is gone from the disk when that is answered; in PostgreSQL, from every answer.
//! - Whatever is sealed is bound to its tenant and its place: nothing opens elsewhere.
//! - A token or a ciphertext is answered only after every key that opens it is on the disk.
//! - Whatever was done or refused is answered only after its record is in the audit log. The one exception are shares
//!   given while the vault is sealed, as the log's key is not known yet: they go on record when it opens.
//!
//! # Map
//! - [`domain`]: cards, tokens, keys, the envelope's format. Pure.
//! - [`store`]: what is kept, and the suite that every store must pass.
//! - [`root`], [`opening`], [`rotation`]: what wraps tenants' keys, how the service opens once it answers, and how it
//!   is replaced.
//! - [`keyring`], [`random`]: keys from the root down, on demand.
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
pub mod opening;
pub mod operations;
pub mod random;
pub mod replicas;
pub mod root;
pub mod rotation;
pub mod service;
pub mod store;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use mesh::{Parts, Service, ServiceContext, StartError};
use paymesh_proto::crypto::v1::root_service_server::RootServiceServer;

use crate::{
    assembly::{Replicas, SEALED, Stores, assemble},
    config::Config,
    domain::audit::ChainKey,
    opening::{Opening, sealed},
    root::Roots,
    service::{LaterRecorder, RootHandler},
    store::{AuditLog, EmbeddedAuditLog, EmbeddedStore, PostgresConfig, PostgresStore, Store},
};

/// The service, as the mesh starts it.
pub struct Crypto;

impl Service for Crypto {
    const NAME: &'static str = "svc-crypto";
    type Config = Config;

    fn check(config: &Config) -> Result<(), String> {
        config.check_roots()?;
        let Some(postgres) = &config.postgres else { return Ok(()) };
        if config.root_key_file.is_none() && !config.root.is_given() {
            return Err(
                "root_key_file or a root must be given with postgres: a root key that one replica makes for \
                        itself would be nobody else's, and lost with its directory"
                    .to_owned(),
            );
        }
        postgres.check()
    }

    async fn build(config: Config, context: &ServiceContext) -> Result<Parts, StartError> {
        // Boxed, as a start is a large future.
        match config.postgres.clone() {
            Some(postgres) => Box::pin(in_postgres(&postgres, config, context)).await,
            None => Box::pin(in_files(config, context)).await,
        }
    }
}

async fn in_files(config: Config, context: &ServiceContext) -> Result<Parts, StartError> {
    let store = EmbeddedStore::open(&context.data_dir().join("crypto.db"))?;
    let pruning = mesh::idempotency::pruning(store.engine(), context.clock(), context.drain());
    let file = context.data_dir().join("audit.db");
    let log = move |key| Ok(EmbeddedAuditLog::open(&file, key)?);
    let parts = Box::pin(serve(store, log, None, config, context)).await?;
    Ok(parts.worker("idempotency pruning", pruning))
}

async fn in_postgres(
    postgres: &PostgresConfig,
    config: Config,
    context: &ServiceContext,
) -> Result<Parts, StartError> {
    let store = PostgresStore::open(postgres).await?;
    let pruned = store.clone();
    let prune = move |now| {
        let store = pruned.clone();
        async move { store.prune(now).await }
    };
    let pruning = mesh::idempotency::pruning_with(prune, context.clock(), context.drain());
    let logs = store.clone();
    let log = move |key| Ok(logs.audit_log(key));
    let replicas = Replicas { trusted_for: postgres.keys_trusted_for(), imports: Arc::new(store.clone()) };
    let parts = Box::pin(serve(store, log, Some(replicas), config, context)).await?;
    Ok(parts.worker("idempotency pruning", pruning))
}

/// The service on this store, whose audit log `log` opens: all of it where the root of trust answers now, else when it
/// does.
async fn serve<S: Store, L: AuditLog>(
    store: S,
    log: impl FnOnce(ChainKey) -> Result<L, StartError> + Send + 'static,
    replicas: Option<Replicas>,
    config: Config,
    context: &ServiceContext,
) -> Result<Parts, StartError> {
    let roots = Roots::open(&config, context.data_dir(), store.root().await?.is_some())?;
    let opening = Opening::new(store.clone(), roots.clone(), context.clock(), context.ids());
    let recorder = Arc::new(LaterRecorder::default());
    let root = RootHandler::new(store.clone(), roots.clone(), Arc::clone(&recorder));
    let shares = roots.clone().keep_shares(context.drain());
    let from_the_start =
        |parts: Parts| parts.serve(RootServiceServer::new(root)).worker("root shares", shares);
    let owned = context.clone();
    let opened = move |chain_key: ChainKey| async move {
        let log = log(chain_key.clone())?;
        let stores = Stores { store, log, roots, chain_key, replicas };
        assemble(stores, recorder, Crypto::NAME, &config, &owned).await
    };
    if let Some(chain_key) = opening.attempt().await? {
        return Ok(from_the_start(opened(chain_key).await?));
    }
    let later = async move { opened(opening.wait().await?).await };
    Ok(from_the_start(Parts::new()).later(&SEALED, sealed, later))
}
