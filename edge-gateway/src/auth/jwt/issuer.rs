//! An issuer's keys: found by OIDC discovery, kept at hand, fetched again before they age and when a token names
//! one that is not known.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use mesh::{Drain, StartError, outbound::Target};
use money::Timestamp;
use serde::Deserialize;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::Instant,
};

use super::{
    fetch::{FetchError, Fetcher},
    jwk::KeySet,
    token::{ClaimRules, Claims, Token, TokenError},
};
use crate::auth::config::IssuerConfig;

/// Beyond this the clocks are wrong, not apart.
const CLOCK_SKEW_S_MAX: u32 = 60;
/// The shortest wait between two fetches of the worker, also where everything is configured to 0.
const WORKER_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// An issuer whose tokens are accepted.
pub(crate) struct Issuer {
    pub(crate) name: Arc<str>,
    rules: ClaimRules,
    discovery: String,
    fetcher: Fetcher,
    refresh: Duration,
    refetch_interval: Duration,
    stale_max: Duration,
    keys: ArcSwapOption<Fetched>,
    /// When the keys were last asked for. Held while they are: one request at a time.
    last_attempt: Arc<Mutex<Option<Instant>>>,
}

/// Why keys are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// They may be too old, which is looked at in the background, at a pace of its own.
    Age,
    /// A token from outside names one that is not known: at most once per interval.
    Token,
}

struct Fetched {
    keys: KeySet,
    at: Instant,
}

/// What is needed of the discovery document (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({})", self.name)
    }
}

impl Issuer {
    /// Checks the configuration. Nothing is fetched yet.
    pub(crate) fn new(config: &IssuerConfig) -> Result<Self, StartError> {
        let wrong = |what: &str| StartError::Config(format!("auth.issuers: {}: {what}", config.name));
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=64).contains(&config.name.len()) || !config.name.bytes().all(legal) {
            return Err(wrong("name must be 1 to 64 letters, digits, '-', '_' and '.'"));
        }
        if config.audiences.is_empty() || config.types.is_empty() || config.tenant_claim.is_empty() {
            return Err(wrong("audiences, types and tenant_claim must not be empty"));
        }
        if config.clock_skew_s > CLOCK_SKEW_S_MAX {
            return Err(wrong("clock_skew_s must be at most 60"));
        }
        let url = config.issuer.parse().ok().filter(|url: &http::Uri| url.query().is_none());
        let target = url.as_ref().and_then(Target::of);
        let target = target.ok_or_else(|| {
            wrong("issuer must be an https URL without a query, or an http one on a loopback address")
        })?;
        let hosts = [Some(target.host.clone()), config.jwks_host.clone()].into_iter().flatten().collect();
        let timeout = Duration::from_millis(config.timeout_ms);
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Ok(Self {
            name: config.name.as_str().into(),
            rules: ClaimRules {
                issuer: config.issuer.clone(),
                audiences: config.audiences.clone(),
                types: config.types.clone(),
                tenant_claim: config.tenant_claim.clone(),
                tenants: config.tenants.clone(),
                scopes_max: config.scopes_max.clone(),
                clock_skew_s: config.clock_skew_s.into(),
            },
            discovery: format!("{}/.well-known/openid-configuration", config.issuer.trim_end_matches('/')),
            fetcher: Fetcher::new(hosts, target.https, &config.ca_file, timeout)?,
            refresh: seconds(config.refresh_s),
            refetch_interval: seconds(config.refetch_interval_s),
            stale_max: seconds(config.stale_max_s),
            keys: ArcSwapOption::empty(),
            last_attempt: Arc::default(),
        })
    }

    /// Whether tokens with this `iss` are its.
    pub(crate) fn is(&self, issuer: &str) -> bool {
        self.rules.issuer == issuer
    }

    /// Checks a token. Where its key is not known, the keys are fetched again, if that is not too soon;
    /// it waits for them until `deadline`.
    pub(crate) async fn verify(
        self: &Arc<Self>,
        token: &Token<'_>,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Claims, TokenError> {
        let seen = self.keys.load_full();
        match self.verify_with(seen.as_deref(), token, now) {
            Err(TokenError::UnknownKey | TokenError::NoKeys) => {}
            decided => return decided,
        }
        // Whatever it comes to by then, what is known decides.
        let _ = tokio::time::timeout_at(deadline, self.refetch(seen.as_ref(), Cause::Token)).await;
        self.verify_with(self.keys.load_full().as_deref(), token, now)
    }

    fn verify_with(
        &self,
        fetched: Option<&Fetched>,
        token: &Token<'_>,
        now: Timestamp,
    ) -> Result<Claims, TokenError> {
        // Keys that could not be refreshed for too long are none.
        let age_max = self.refresh.saturating_add(self.stale_max);
        let fetched = fetched.filter(|fetched| fetched.at.elapsed() <= age_max).ok_or(TokenError::NoKeys)?;
        let key = fetched.keys.find(token.kid.as_deref(), token.algorithm)?;
        token.verify(key, &self.rules, now)
    }

    /// Fetches the keys, unless somebody else has since `seen`, or a token had it tried just before.
    ///
    /// What was begun goes on, also when who asked for it has gone away: otherwise a client could use up
    /// the attempt of this interval, and leave before there is anything to show for it.
    async fn refetch(self: &Arc<Self>, seen: Option<&Arc<Fetched>>, cause: Cause) {
        let mut last_attempt = Arc::clone(&self.last_attempt).lock_owned().await;
        let now = self.keys.load_full();
        let changed = now.as_ref().map(Arc::as_ptr) != seen.map(Arc::as_ptr);
        let too_soon = last_attempt.is_some_and(|last| last.elapsed() < self.refetch_interval);
        if changed || (too_soon && cause == Cause::Token) {
            return;
        }
        *last_attempt = Some(Instant::now());
        let _ = tokio::spawn(Arc::clone(self).fetch_under(last_attempt)).await;
    }

    async fn fetch_under(self: Arc<Self>, _one_at_a_time: OwnedMutexGuard<Option<Instant>>) {
        match self.fetch().await {
            Ok(keys) => {
                tracing::debug!(issuer = &*self.name, keys = keys.len(), "an issuer's keys were fetched");
                self.keys.store(Some(Arc::new(Fetched { keys, at: Instant::now() })));
            }
            Err(error) => {
                tracing::warn!(issuer = &*self.name, %error, "an issuer's keys could not be fetched");
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let document = self.fetcher.get(&self.discovery).await?;
        let discovery: Discovery = serde_json::from_slice(&document).map_err(|_| FetchError::Document)?;
        // Section 4.3: otherwise one issuer could speak for another.
        if discovery.issuer != self.rules.issuer {
            return Err(FetchError::Document);
        }
        let keys = self.fetcher.get(&discovery.jwks_uri).await?;
        KeySet::parse(&keys).filter(|keys| keys.len() > 0).ok_or(FetchError::Document)
    }

    /// Keeps the keys fresh until the drain begins.
    pub(crate) async fn keep(self: Arc<Self>, drain: Drain) {
        loop {
            let seen = self.keys.load_full();
            let is_old = |fetched: &Arc<Fetched>| fetched.at.elapsed() >= self.refresh;
            if seen.as_ref().is_none_or(is_old)
                && drain.unless_started(self.refetch(seen.as_ref(), Cause::Age)).await.is_none()
            {
                return;
            }
            let since = self.keys.load_full().map(|fetched| fetched.at.elapsed());
            let wait = match since {
                Some(age) if age < self.refresh => self.refresh.saturating_sub(age),
                _ => self.refetch_interval,
            };
            let sleep = tokio::time::sleep(wait.max(WORKER_INTERVAL_MIN));
            if drain.unless_started(sleep).await.is_none() {
                return;
            }
        }
    }
}
