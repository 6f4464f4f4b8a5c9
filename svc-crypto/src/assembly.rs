//! Puts the service together on its stores: the same for every kind of them.

use std::{sync::Arc, time::Duration};

use mesh::{Parts, ServiceContext, SpiffeId, StartError, Watched};
use paymesh_proto::crypto::v1::{
    audit_service_server::{self, AuditServiceServer},
    crypto_service_server::{self, CryptoServiceServer},
    key_service_server::{self, KeyServiceServer},
    vault_service_server::{self, VaultServiceServer},
};

use crate::{
    audit::{HeadFile, Recorder},
    codes::{self, HeldCodes},
    config::Config,
    domain::{
        audit::{ChainKey, Link, Verifier},
        grant::Grants,
        quota::Quota,
        verification::Codes,
    },
    grants,
    imports::Imports,
    keyring::{Keyring, NamedKeys},
    management::Management,
    operations::Operations,
    replicas::Follower,
    root::Roots,
    service::{AuditHandler, Audited, CryptoHandler, KeysHandler, LaterRecorder, ToItsEnd, VaultHandler},
    store::{AuditLog, SharedImports, Store},
};

/// The largest message: a batch of operations, or a megabyte of plaintext with what belongs to it.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// How often the file of grants is looked at.
const GRANTS_LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is served here, once the root of trust has answered.
pub(crate) const SEALED: [&str; 4] = [
    vault_service_server::SERVICE_NAME,
    crypto_service_server::SERVICE_NAME,
    key_service_server::SERVICE_NAME,
    audit_service_server::SERVICE_NAME,
];

/// What the service stands on.
pub(crate) struct Stores<S, L> {
    /// Keys and cards.
    pub(crate) store: S,
    /// The audit log.
    pub(crate) log: L,
    /// What wraps tenants' keys.
    pub(crate) roots: Roots,
    /// What the audit log's hashes are made with.
    pub(crate) chain_key: ChainKey,
    /// What there is to others, where there may be any.
    pub(crate) replicas: Option<Replicas>,
}

/// What replicas have in common beside their stores.
pub(crate) struct Replicas {
    /// How long keys in memory are good for, which others change too.
    pub(crate) trusted_for: Duration,
    /// Imports that any of them ends.
    pub(crate) imports: Arc<dyn SharedImports>,
}

/// The service's parts on these stores; `name` is its own. `later` is told the audit log.
///
/// # Errors
/// A file that cannot be used, or an audit log that does not hold what is known of it.
pub(crate) async fn assemble<S: Store, L: AuditLog>(
    stores: Stores<S, L>,
    later: Arc<LaterRecorder>,
    name: &str,
    config: &Config,
    context: &ServiceContext,
) -> Result<Parts, StartError> {
    let Stores { store, log, roots, chain_key, replicas } = stores;
    let (trusted_for, shared_imports) = replicas.map(|of| (of.trusted_for, of.imports)).unzip();
    let (clock, ids) = (context.clock(), context.ids());
    let keyring = Keyring::new(
        store.clone(),
        roots,
        Arc::clone(&clock),
        Arc::clone(&ids),
        config.keys_cached_max,
        config.tenant_keys_held_for(),
    );
    let keyring = Arc::new(keyring);
    let head = HeadFile::of(context.data_dir());
    let known = head.read().map_err(|error| StartError::Config(error.to_string()))?;
    let end = log.end(known).await?;
    goes_on_with(&log, &chain_key, end).await?;
    let deadline = Duration::from_millis(config.audit_deadline_ms.into());
    let (recorder, end) =
        Recorder::start(log.clone(), known, Arc::clone(&clock), deadline, context.metrics())
            .map_err(StartError::io("a thread for the audit log"))?;
    later.open(recorder.clone()).await.map_err(|fault| StartError::Config(fault.to_string()))?;
    let audit = AuditHandler::new(log.clone(), chain_key, end.clone());
    let grants = grants_of(config)?;
    let (kept_for, idle) = (config.keys_cached_for(), config.keys_idle_for());
    let named = NamedKeys::new(
        store.clone(),
        Arc::clone(&keyring),
        Arc::clone(&clock),
        config.keys_cached_max,
        kept_for,
    );
    let named = Arc::new(match trusted_for {
        Some(trusted_for) => named.with_replicas(trusted_for),
        None => named,
    });
    let follower = match trusted_for {
        Some(trusted_for) => Some(Follower::new(store.clone(), Arc::clone(&named), trusted_for).await?),
        None => None,
    };
    let operations =
        Operations::new(Arc::clone(&named), grants.clone(), config.data_key_limits(), recorder.clone());
    let management = Management::new(
        store.clone(),
        Arc::clone(&keyring),
        Arc::clone(&named),
        Arc::clone(&clock),
        Arc::clone(&ids),
        recorder.clone(),
        SpiffeId::of(name).map_err(|error| StartError::Config(error.to_string()))?,
    );
    let management = Arc::new(match trusted_for {
        Some(trusted_for) => management.with_replicas(trusted_for),
        None => management,
    });
    let imports = Imports::new(Arc::clone(&keyring), Arc::clone(&clock), Arc::clone(&ids), shared_imports);
    let keys = KeysHandler::new(Arc::clone(&management), imports, grants.clone(), log, recorder.clone());
    let lifetime = Duration::from_secs(config.cvc_held_s.into());
    let codes = Arc::new(HeldCodes::new(Codes::new(config.cvc_held_max, lifetime)));
    let wiping = codes::wiping(Arc::clone(&codes), Arc::clone(&clock), context.drain());
    let quota = Quota::per_minute(config.detokenize_per_minute);
    let vault = VaultHandler::new(store, Arc::clone(&keyring), codes, quota, clock, ids);
    let vault = Audited::new(vault, recorder);
    let crypto = CryptoHandler::new(Arc::new(operations));
    let parts = Parts::new()
        .serve(VaultServiceServer::new(ToItsEnd::new(vault)))
        .serve(
            CryptoServiceServer::new(crypto)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
        .serve(KeyServiceServer::new(ToItsEnd::new(keys)))
        .serve(AuditServiceServer::new(audit))
        .worker("audit head", head.keep(end, context.drain()))
        .worker("verification code wiping", wiping)
        .worker("key rotation and destruction", management.keep_due(context.drain()))
        .worker("tenants' keys", keyring.keep(context.drain()))
        .worker("idle keys", named.forget_idle_every(idle, context.drain()))
        .worker("grants", grants.keep(GRANTS_LOOK_EVERY, context.drain()));
    Ok(match follower {
        Some(follower) => parts.worker("changes by other replicas", follower.follow(context.drain())),
        None => parts,
    })
}

/// Who may do what with which keys, from the file that is named, or built in.
fn grants_of(config: &Config) -> Result<Watched<Grants>, StartError> {
    let Some(file) = config.grants_file.clone() else {
        return Ok(Watched::fixed("grants", grants::built_in()));
    };
    Watched::load("grants", vec![file.clone()], move || grants::read(&file))
        .map_err(|error| StartError::Config(error.to_string()))
}

/// A log is gone on with by the key that it was begun with, and by no other: it could never be checked again.
async fn goes_on_with<L: AuditLog>(log: &L, key: &ChainKey, end: Link) -> Result<(), StartError> {
    let Some(before_last) = end.sequence.checked_sub(1) else { return Ok(()) };
    let found = log.records(before_last.saturating_sub(1), 2).await?;
    let hash_of = |sequence| {
        let found = found.iter().find(|found| found.sequence == sequence)?;
        found.chained.as_ref().map(|chained| Link { sequence, hash: chained.hash })
    };
    let previous = if before_last == 0 { Some(Link::START) } else { hash_of(before_last) };
    let last = found.iter().find(|found| found.sequence == end.sequence);
    let is_right = previous.zip(last).is_some_and(|(previous, last)| {
        Verifier::after(key.clone(), previous).check(last.sequence, last.chained.as_ref()).is_ok()
    });
    if is_right {
        return Ok(());
    }
    Err(StartError::Config(
        "the last record of the audit log was changed, or chained with another key than the store has: put the store \
         and the log back from one backup, or move the log and audit.head away to begin another"
            .to_owned(),
    ))
}
