//! svc-crypto: encryption for the other services, and the card vault.
//!
//! # Promises
//! - A card number leaves memory only sealed, and is given back only over `Detokenize`, which the mesh's
//!   policy grants to one identity. The verification code is never kept.
//! - Whatever is sealed is bound to its tenant and its place: nothing opens elsewhere.
//! - A token or a ciphertext is answered only after every key that opens it is on the disk.
//!
//! # Map
//! - [`domain`]: cards, tokens, keys, the envelope's format. Pure.
//! - [`store`]: what is kept, and the suite that every store must pass.
//! - [`keyring`], [`cache`], [`root`], [`random`]: keys from the root down, on demand.
//! - [`service`]: the gRPC face.
//! - [`config`]: what can be configured.

pub mod cache;
pub mod config;
pub mod domain;
pub mod grants;
pub mod keyring;
pub mod random;
pub mod root;
pub mod service;
pub mod store;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use mesh::{Parts, Service, ServiceContext, StartError};
use paymesh_proto::crypto::v1::{
    crypto_service_server::CryptoServiceServer, vault_service_server::VaultServiceServer,
};

use crate::{
    config::Config,
    domain::keys::{self, Root},
    keyring::Keyring,
    random::Random,
    root::RootError,
    service::{CryptoHandler, VaultHandler},
    store::{EmbeddedStore, Store},
};

/// The service, as the mesh starts it.
pub struct Crypto;

impl Service for Crypto {
    const NAME: &'static str = "svc-crypto";
    type Config = Config;

    async fn build(config: Config, context: &ServiceContext) -> Result<Parts, StartError> {
        let store = EmbeddedStore::open(&context.data_dir().join("crypto.db"))?;
        let root = open_root(&config, context, &store).await?;
        let (clock, ids) = (context.clock(), context.ids());
        let keyring =
            Keyring::new(store.clone(), root, Arc::clone(&clock), Arc::clone(&ids), config.keys_cached_max);
        let keyring = Arc::new(keyring);
        let pruning = mesh::idempotency::pruning(store.engine(), Arc::clone(&clock), context.drain());
        let vault = VaultHandler::new(store, Arc::clone(&keyring), clock, ids);
        let crypto = CryptoHandler::new(keyring);
        Ok(Parts::new()
            .serve(VaultServiceServer::new(vault))
            .serve(CryptoServiceServer::new(crypto))
            .worker("idempotency pruning", pruning))
    }
}

/// The root key, checked against the one that the store was made under.
async fn open_root(
    config: &Config,
    context: &ServiceContext,
    store: &impl Store,
) -> Result<Root, StartError> {
    let known = store.root().await?;
    let bytes = match &config.root_key_file {
        Some(path) => root::read(path),
        None => root::read_or_make(context.data_dir(), known.is_some(), &Random::default()),
    };
    let root = keys::root(&bytes.map_err(|error| StartError::Config(error.to_string()))?);
    if store.adopt_root(root.id).await? == root.id {
        Ok(root)
    } else {
        Err(StartError::Config(RootError::Other.to_string()))
    }
}
