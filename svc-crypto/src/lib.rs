//! svc-crypto: encryption for the other services, and the card vault.
//!
//! # Promises
//! - A card number leaves memory only sealed, and is given back only over `Detokenize`, which the mesh's
//!   policy grants to one identity, and so many a minute. The verification code is in memory alone, for minutes, and
//!   is given once.
//! - A card that was deleted is gone from the disk when that is answered.
//! - Whatever is sealed is bound to its tenant and its place: nothing opens elsewhere.
//! - A token or a ciphertext is answered only after every key that opens it is on the disk.
//! - Whatever was done or refused is answered only after its record is in the audit log.
//!
//! # Map
//! - [`domain`]: cards, tokens, keys, the envelope's format. Pure.
//! - [`store`]: what is kept, and the suite that every store must pass.
//! - [`keyring`], [`root`], [`random`]: keys from the root down, on demand.
//! - [`audit`]: what was done, on record before it is answered.
//! - [`codes`]: verification codes between tokenization and authorization.
//! - [`service`]: the gRPC face.
//! - [`config`]: what can be configured.

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
pub mod root;
pub mod service;
pub mod store;
#[cfg(test)]
mod testing;

use std::{sync::Arc, time::Duration};

use mesh::{Parts, Service, ServiceContext, SpiffeId, StartError, Watched};
use paymesh_proto::crypto::v1::{
    audit_service_server::AuditServiceServer, crypto_service_server::CryptoServiceServer,
    key_service_server::KeyServiceServer, vault_service_server::VaultServiceServer,
};

use crate::{
    audit::{HeadFile, Recorder},
    codes::HeldCodes,
    config::Config,
    domain::{
        audit::ChainKey,
        grant::Grants,
        keys::{self, Root},
        quota::Quota,
        verification::Codes,
    },
    imports::Imports,
    keyring::{Keyring, NamedKeys},
    management::Management,
    operations::Operations,
    random::Random,
    root::RootError,
    service::{AuditHandler, Audited, CryptoHandler, KeysHandler, VaultHandler},
    store::{AuditLog, EmbeddedAuditLog, EmbeddedStore, Store},
};

/// The service, as the mesh starts it.
pub struct Crypto;

impl Service for Crypto {
    const NAME: &'static str = "svc-crypto";
    type Config = Config;

    async fn build(config: Config, context: &ServiceContext) -> Result<Parts, StartError> {
        let store = EmbeddedStore::open(&context.data_dir().join("crypto.db"))?;
        let (root, chain_key) = open_root(&config, context, &store).await?;
        let (clock, ids) = (context.clock(), context.ids());
        let keyring =
            Keyring::new(store.clone(), root, Arc::clone(&clock), Arc::clone(&ids), config.keys_cached_max);
        let keyring = Arc::new(keyring);
        let pruning = mesh::idempotency::pruning(store.engine(), Arc::clone(&clock), context.drain());
        let log = EmbeddedAuditLog::open(&context.data_dir().join("audit.db"), chain_key.clone())?;
        let head = HeadFile::of(context.data_dir());
        let known = head.read().map_err(|error| StartError::Config(error.to_string()))?;
        log.end(known).await?;
        let deadline = Duration::from_millis(config.audit_deadline_ms.into());
        let (recorder, end) =
            Recorder::start(log.clone(), known, Arc::clone(&clock), deadline, context.metrics())
                .map_err(StartError::io("a thread for the audit log"))?;
        let audit = AuditHandler::new(log.clone(), chain_key, end.clone());
        let grants = grants_of(&config)?;
        let (kept_for, idle) = (config.keys_cached_for(), config.keys_idle_for());
        let named = NamedKeys::new(
            store.clone(),
            Arc::clone(&keyring),
            Arc::clone(&clock),
            config.keys_cached_max,
            kept_for,
        );
        let named = Arc::new(named);
        let operations =
            Operations::new(Arc::clone(&named), grants.clone(), config.data_key_limits(), recorder.clone());
        let management = Management::new(
            store.clone(),
            Arc::clone(&keyring),
            Arc::clone(&named),
            Arc::clone(&clock),
            Arc::clone(&ids),
            recorder.clone(),
            SpiffeId::of(Self::NAME).map_err(|error| StartError::Config(error.to_string()))?,
        );
        let management = Arc::new(management);
        let imports = Imports::new(Arc::clone(&clock), Arc::clone(&ids));
        let keys = KeysHandler::new(Arc::clone(&management), imports, grants.clone(), log, recorder.clone());
        let lifetime = Duration::from_secs(config.cvc_held_s.into());
        let codes = Arc::new(HeldCodes::new(Codes::new(config.cvc_held_max, lifetime)));
        let wiping = codes::wiping(Arc::clone(&codes), Arc::clone(&clock), context.drain());
        let quota = Quota::per_minute(config.detokenize_per_minute);
        let vault = VaultHandler::new(store, keyring, codes, quota, clock, ids);
        let vault = Audited::new(vault, recorder);
        let crypto = CryptoHandler::new(Arc::new(operations));
        Ok(Parts::new()
            .serve(VaultServiceServer::new(vault))
            .serve(
                CryptoServiceServer::new(crypto)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .serve(KeyServiceServer::new(keys))
            .serve(AuditServiceServer::new(audit))
            .worker("audit head", head.keep(end, context.drain()))
            .worker("idempotency pruning", pruning)
            .worker("verification code wiping", wiping)
            .worker("key rotation and destruction", management.keep_due(context.drain()))
            .worker("idle keys", named.forget_idle_every(idle, context.drain()))
            .worker("grants", grants.keep(GRANTS_LOOK_EVERY, context.drain())))
    }
}

/// The largest message: a batch of operations, or a megabyte of plaintext with what belongs to it.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// How often the file of grants is looked at.
const GRANTS_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who may do what with which keys, from the file that is named, or built in.
fn grants_of(config: &Config) -> Result<Watched<Grants>, StartError> {
    let Some(file) = config.grants_file.clone() else {
        return Ok(Watched::fixed("grants", grants::built_in()));
    };
    Watched::load("grants", vec![file.clone()], move || grants::read(&file))
        .map_err(|error| StartError::Config(error.to_string()))
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
