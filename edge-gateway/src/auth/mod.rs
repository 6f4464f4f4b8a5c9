//! Who calls: API keys and access tokens as bearer credentials (RFC 6750), signed requests, scopes. The tenant
//! comes from here and from nowhere else.
//!
//! - [`keys`]: API keys of `paymesh keys`, hashed under a pepper, read again when their file changes.
//! - `static_keys`: plain keys of the configuration.
//! - `jwt`: access tokens of OpenID Connect providers.
//! - [`signature`]: signed requests (RFC 9421), for keys that demand them.
//! - [`scope`]: what a credential may do, and what an RPC needs.
//! - `throttle`: slows down who guesses.
//!
//! Nothing that is secret is remembered from one request to the next, and no credential is logged. Knows nothing
//! of routes: the gateway asks `Authenticator::allow` once it knows the RPC.

pub mod config;
mod jwt;
pub mod keys;
mod refusal;
pub mod scope;
pub mod signature;
mod static_keys;
mod throttle;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use mesh::{Clock, ServiceContext, StartError, Watched};
use money::{TenantId, Timestamp};
use ring::digest::{SHA256, digest};

pub use self::signature::SignatureAlgorithm;
use self::{
    config::{ApiKeyConfig, AuthConfig},
    jwt::{Claims, Issuer, Token, TokenError},
    keys::{KeyId, hex, ring::KeyRing},
    refusal::{AuthMetrics, Failure},
    scope::Scope,
    signature::{NonceError, Nonces, SignatureError, SignatureRules, SignedBody, VerifyingKey},
    static_keys::StaticKeys,
    throttle::{Throttle, ThrottleRules},
};
pub(crate) use self::{refusal::Refused, scope::ScopeTable};

/// Who a request speaks for, once its credential was checked.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    /// The tenant whose data it may touch.
    pub(crate) tenant: TenantId,
    /// What the credential is called; shown in logs.
    pub(crate) credential: Arc<str>,
    scopes: Arc<[Scope]>,
    body: SignedBody,
}

#[cfg(test)]
impl Principal {
    /// One that may do nothing, for tests of what does not look at scopes.
    pub(crate) fn unscoped(tenant: &str, credential: &str) -> Self {
        let tenant = tenant.parse().unwrap();
        Self { tenant, credential: credential.into(), scopes: Arc::new([]), body: SignedBody::Any }
    }
}

/// Every way to say who one is.
pub(crate) struct Authenticator {
    static_keys: StaticKeys,
    ring: Option<Watched<KeyRing>>,
    issuers: Vec<Arc<Issuer>>,
    rules: SignatureRules,
    nonces: Mutex<Nonces>,
    throttle: Mutex<Throttle>,
    metrics: AuthMetrics,
    clock: Arc<dyn Clock>,
    reload_interval: Duration,
}

/// Where credentials are known from.
struct Sources {
    static_keys: StaticKeys,
    ring: Option<Watched<KeyRing>>,
    issuers: Vec<Arc<Issuer>>,
}

impl Sources {
    fn read(keys: &[ApiKeyConfig], config: &AuthConfig) -> Result<Self, StartError> {
        if config.reload_interval_ms == 0 {
            return Err(StartError::Config("auth.reload_interval_ms must be at least 1".into()));
        }
        let static_keys = StaticKeys::load(keys)?;
        let ring = match (&config.keys_file, &config.pepper_file) {
            (None, None) => None,
            (Some(keys), Some(pepper)) => {
                let (files, keys, pepper) =
                    (vec![keys.clone(), pepper.clone()], keys.clone(), pepper.clone());
                let ring = Watched::load("the API keys", files, move || KeyRing::load(&keys, &pepper));
                Some(ring.map_err(StartError::Config)?)
            }
            _ => {
                let message = "auth.keys_file and auth.pepper_file go together: give both or neither";
                return Err(StartError::Config(message.into()));
            }
        };
        let issuers: Result<Vec<_>, _> =
            config.issuers.iter().map(|issuer| Issuer::new(issuer).map(Arc::new)).collect();
        let issuers = issuers?;
        for (index, issuer) in config.issuers.iter().enumerate() {
            if config.issuers[..index].iter().any(|o| o.issuer == issuer.issuer || o.name == issuer.name) {
                let message = format!("auth.issuers: {} has the name or issuer of another", issuer.name);
                return Err(StartError::Config(message));
            }
        }
        Ok(Self { static_keys, ring, issuers })
    }
}

/// Whether an edge could start with this configuration.
pub(crate) fn check(keys: &[ApiKeyConfig], config: &AuthConfig) -> Result<(), StartError> {
    Sources::read(keys, config).map(drop)
}

impl Authenticator {
    /// Reads the keys; tokens' issuers are asked by the workers.
    pub(crate) fn load(
        keys: &[ApiKeyConfig],
        config: &AuthConfig,
        context: &ServiceContext,
    ) -> Result<Self, StartError> {
        let Sources { static_keys, ring, issuers } = Sources::read(keys, config)?;
        if static_keys.is_empty()
            && issuers.is_empty()
            && ring.as_ref().is_none_or(|ring| ring.current().is_empty())
        {
            tracing::warn!("no API keys and no issuers are configured: every request will be refused");
        }
        let throttle = &config.throttle;
        Ok(Self {
            static_keys,
            ring,
            issuers,
            rules: SignatureRules {
                scheme: config.signatures.scheme.as_str(),
                tolerance_s: config.signatures.tolerance_s.into(),
            },
            nonces: Mutex::new(Nonces::new(config.signatures.nonces_max)),
            throttle: Mutex::new(Throttle::new(ThrottleRules {
                free: throttle.failures_free,
                base_s: throttle.delay_s,
                max_s: throttle.delay_max_s,
                half_life_s: throttle.half_life_s,
                entries_max: throttle.entries_max,
            })),
            metrics: AuthMetrics::new(context.metrics()),
            clock: context.clock(),
            reload_interval: Duration::from_millis(config.reload_interval_ms),
        })
    }

    /// What goes on in the background until the drain begins: keys are read again, issuers are asked.
    pub(crate) fn workers(&self, context: &ServiceContext) -> impl Future<Output = ()> + Send + 'static {
        let mut tasks = tokio::task::JoinSet::new();
        if let Some(ring) = &self.ring {
            tasks.spawn(ring.clone().keep(self.reload_interval, context.drain()));
        }
        for issuer in &self.issuers {
            tasks.spawn(Arc::clone(issuer).keep(context.drain()));
        }
        let drain = context.drain();
        async move {
            if tasks.is_empty() {
                return drain.started().await;
            }
            tasks.join_next().await;
            // One that ended by itself has failed: ending here is what the mesh notices.
            while drain.has_started() && tasks.join_next().await.is_some() {}
        }
    }

    /// Who the request from `address` speaks for. Where an issuer has to be asked, it waits until `deadline`.
    pub(crate) async fn authenticate(
        &self,
        parts: &Parts,
        address: IpAddr,
        deadline: Instant,
    ) -> Result<Principal, Refused> {
        let now = self.clock.now();
        let blocked = self.throttle.lock().unwrap_or_else(PoisonError::into_inner).refused_for(address, now);
        if let Some(seconds) = blocked {
            self.metrics.throttled();
            return Err(refusal::too_many_attempts(seconds));
        }
        let found = match bearer(&parts.headers) {
            Ok(credential) => self.check(credential, parts, now, deadline).await,
            Err(failure) => Err(failure),
        };
        found.map_err(|failure| self.refuse(failure, address, now))
    }

    /// Whether it may call what needs this scope. What has none may be called by nobody.
    pub(crate) fn allow(&self, principal: &Principal, needed: Option<&Scope>) -> Result<(), Refused> {
        match needed {
            Some(needed) if scope::suffice(&principal.scopes, needed) => Ok(()),
            needed => {
                self.metrics.failed("scope");
                Err(refusal::scope_missing(needed))
            }
        }
    }

    /// Whether the body is the one that was signed, where one was.
    pub(crate) fn check_body(&self, principal: &Principal, body: &[u8]) -> Result<(), Refused> {
        principal.body.check(body).map_err(|error| {
            let failure = Failure::Signature(error);
            self.metrics.failed(failure.label());
            failure.refused()
        })
    }

    async fn check(
        &self,
        credential: &str,
        parts: &Parts,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Principal, Failure> {
        let ring = self.ring.as_ref().map(Watched::current);
        let mut refused = keys::ring::Refused::Malformed;
        match ring.as_ref().map(|ring| ring.find(credential, now)) {
            Some(Ok(found)) => {
                let body = match found.signing {
                    Some(key) => self.signed(parts, found.id, key, now).map_err(Failure::Signature)?,
                    None => SignedBody::Any,
                };
                return Ok(Principal {
                    tenant: found.key.tenant.clone(),
                    credential: Arc::clone(&found.key.label),
                    scopes: Arc::clone(&found.key.scopes),
                    body,
                });
            }
            Some(Err(why)) => refused = why,
            None => {}
        }
        if let Some(key) = self.static_keys.find(credential) {
            return Ok(Principal {
                tenant: key.tenant.clone(),
                credential: Arc::clone(&key.name),
                scopes: Arc::clone(&key.scopes),
                body: SignedBody::Any,
            });
        }
        let token_like = credential.bytes().filter(|byte| *byte == b'.').count() == 2;
        if token_like && !self.issuers.is_empty() {
            return Box::pin(self.token(credential, now, deadline)).await.map_err(Failure::Token);
        }
        Err(Failure::Key(refused))
    }

    fn signed(
        &self,
        parts: &Parts,
        id: KeyId,
        key: &VerifyingKey,
        now: Timestamp,
    ) -> Result<SignedBody, SignatureError> {
        let signed = signature::verify(parts, id, key, &self.rules, now)?;
        // From the earliest to the latest that the same signature is taken: the last of its seconds counts as a
        // whole, since `created` has no parts of seconds.
        let window_s = self.rules.tolerance_s.saturating_mul(2).saturating_add(1);
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        nonces.take(id, &signed.nonce, window_s, now).map_err(|error| match error {
            NonceError::Used => SignatureError::Replayed,
            NonceError::Full => SignatureError::Busy,
        })?;
        Ok(signed.body)
    }

    async fn token(&self, text: &str, now: Timestamp, deadline: Instant) -> Result<Principal, TokenError> {
        let token = Token::parse(text)?;
        let issuer = token.issuer().and_then(|iss| self.issuers.iter().find(|issuer| issuer.is(iss)));
        let issuer = issuer.ok_or(TokenError::UnknownIssuer)?;
        let Claims { tenant, scopes, subject } = issuer.verify(&token, now, deadline.into()).await?;
        // A subject may be a person's address: it is told apart by a digest, and not shown.
        let subject = hex::encode(&digest(&SHA256, subject.as_bytes()).as_ref()[..8]);
        let credential = format!("{}/{subject}", issuer.name).into();
        Ok(Principal { tenant, credential, scopes: scopes.into(), body: SignedBody::Any })
    }

    fn refuse(&self, failure: Failure, address: IpAddr, now: Timestamp) -> Refused {
        self.metrics.failed(failure.label());
        if !failure.is_guess() {
            return failure.refused();
        }
        // Only ids that are known are remembered and logged: the others are whatever somebody sent.
        let known = |id: &KeyId| self.ring.as_ref().is_some_and(|ring| ring.current().knows(*id));
        let key_id = failure.key_id().filter(known);
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        let consequence = throttle.failed(address, key_id, now);
        drop(throttle);
        let (reason, key_id) = (failure.label(), key_id.map(tracing::field::display));
        if consequence.newly_refused {
            let seconds = consequence.retry_after_s;
            tracing::warn!(%address, reason, key_id, seconds, "an address failed too often and is refused");
        } else {
            tracing::debug!(%address, reason, key_id, "a credential was refused");
        }
        match consequence.retry_after_s {
            0 => failure.refused(),
            seconds => refusal::too_many_attempts(seconds),
        }
    }
}

/// The credential of a request.
fn bearer(headers: &HeaderMap) -> Result<&str, Failure> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let value = given.next().ok_or(Failure::Missing)?;
    // Two credentials are none.
    if given.next().is_some() {
        return Err(Failure::Malformed);
    }
    let (scheme, credential) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Failure::Malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(credential.trim_start_matches(' '))
    } else {
        Err(Failure::Malformed)
    }
}

#[cfg(test)]
mod tests;
