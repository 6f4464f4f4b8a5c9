//! How much a client may ask for: requests by address, tenant and credential, and requests under way by
//! tenant.
//!
//! `gcra` is the pure core. Addresses are counted before authentication and by this process alone: a
//! flood from outside must not become one upon Redis. Tenants and credentials are counted in `shared`
//! where that is configured, else in a `table` here. A request that a limit refuses is not counted by
//! the others that come after it, nor by those of the same step.

pub(crate) mod address;
pub(crate) mod config;
pub(crate) mod fields;
mod gcra;
mod places;
mod shared;
mod table;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use http::HeaderMap;
use mesh::{Fault, Metrics, Reason, StartError};
use money::TenantId;

use crate::auth::Principal;
use address::Proxies;
use config::{LimitsConfig, QuotaConfig, WhenUnreachable};
use fields::seconds;
use places::{Place, Places};
use shared::{Bucket, Shared};

pub use fields::{Kind, Report};
pub use gcra::{Quota, Verdict};
pub use table::Table;

/// Every limit of the edge on how much it is asked.
pub(crate) struct Limiter {
    pub(crate) proxies: Proxies,
    address: Option<Quota>,
    general: ForTenant,
    tenants: HashMap<TenantId, ForTenant>,
    origin: Instant,
    addresses: Table,
    by_tenant: Table,
    by_credential: Table,
    shared: Option<Shared>,
    /// Addresses with requests whose credential is not known yet.
    unknown: Arc<Places<u128>>,
    address_in_flight_max: usize,
    places: Arc<Places<TenantId>>,
    streams: Arc<Places<TenantId>>,
}

/// The limits of one tenant.
struct ForTenant {
    quota: Option<Quota>,
    in_flight_max: usize,
    streams_max: usize,
    credential: Option<Quota>,
    credentials: HashMap<String, Quota>,
}

/// A place of a tenant's.
pub(crate) type TenantPlace = Place<TenantId>;

impl ForTenant {
    /// The limit of a credential. One of `paymesh keys` is called `name (id)`, and found by either as well.
    fn of_credential(&self, called: &str) -> Option<Quota> {
        let of = |name: &str| self.credentials.get(name).copied();
        let parts = || called.strip_suffix(')')?.rsplit_once(" (");
        let own = of(called).or_else(|| {
            let (name, id) = parts()?;
            of(id).or_else(|| of(name))
        });
        own.or(self.credential)
    }
}

/// What the limits have to say of a request: filled in on its way, read for its answer.
#[derive(Default)]
pub(crate) struct Notes(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    report: Report,
    /// Until the caller is known.
    unknown: Option<Place<u128>>,
    place: Option<TenantPlace>,
}

impl Notes {
    fn with<T>(&self, work: impl FnOnce(&mut Noted) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes what is left into an answer.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        self.with(|noted| noted.report.write(headers));
    }

    /// Whether the caller is known, and has a place of its tenant's.
    pub(crate) fn is_of_known(&self) -> bool {
        self.with(|noted| noted.place.is_some())
    }

    /// The tenant's place, for whoever goes on working for this request when it has been answered.
    pub(crate) fn place(&self) -> Option<TenantPlace> {
        self.with(|noted| noted.place.take())
    }
}

impl Limiter {
    pub(crate) fn new(config: &LimitsConfig, metrics: &Metrics) -> Result<Self, StartError> {
        let wrong = |what: String| StartError::Config(format!("limits.{what}"));
        let quota = |config: &QuotaConfig| Quota::new(config.requests, config.window_s);
        let general = ForTenant {
            quota: config.tenant.as_ref().map(quota),
            in_flight_max: config.tenant_in_flight_max,
            streams_max: config.tenant_streams_max,
            credential: config.credential.as_ref().map(quota),
            credentials: HashMap::new(),
        };
        let mut tenants = HashMap::new();
        for (name, limits) in &config.tenants {
            let tenant: TenantId =
                name.parse().map_err(|error| wrong(format!("tenants: a tenant's name {error}")))?;
            let credentials = &limits.credentials;
            let own = ForTenant {
                quota: limits.quota.as_ref().map(quota).or(general.quota),
                in_flight_max: limits.in_flight_max.unwrap_or(general.in_flight_max),
                streams_max: limits.streams_max.unwrap_or(general.streams_max),
                credential: general.credential,
                credentials: credentials.iter().map(|(name, own)| (name.clone(), quota(own))).collect(),
            };
            tenants.insert(tenant, own);
        }
        let table = || Table::new(config.keys_max);
        Ok(Self {
            proxies: Proxies::new(&config.trusted_proxies, config.forwarded_header)
                .map_err(|what| wrong(format!("trusted_proxies: each {what}")))?,
            address: config.address.as_ref().map(quota),
            general,
            tenants,
            origin: Instant::now(),
            addresses: table(),
            by_tenant: table(),
            by_credential: table(),
            shared: config.redis.as_ref().map(|redis| Shared::new(redis, metrics)).transpose()?,
            unknown: Places::new(),
            address_in_flight_max: config.address_in_flight_max,
            places: Places::new(),
            streams: Places::new(),
        })
    }

    /// Takes a place of the address's for as long as the caller is not known. Trusted proxies have no end of
    /// them: they speak for many.
    pub(crate) fn enter(&self, address: IpAddr, notes: &Notes) -> Result<(), Fault> {
        if self.proxies.trusts(address) {
            return Ok(());
        }
        let place = self.unknown.take(&address::of_client(address), self.address_in_flight_max);
        let place = place.ok_or_else(|| {
            let message = "Too many requests of this address are under way without a credential.";
            Fault::new(Reason::Overloaded, message).retry_after_s(1)
        })?;
        notes.with(|noted| noted.unknown = Some(place));
        Ok(())
    }

    /// Counts a request from `address`, before anything else is known of it.
    pub(crate) fn address(&self, address: IpAddr, now: Instant, notes: &Notes) -> Result<(), Fault> {
        let Some(quota) = self.address else { return Ok(()) };
        let verdict = self.addresses.take(address::of_client(address), &quota, self.since_origin(now));
        notes.with(|noted| noted.report.add(Kind::Address, quota, verdict));
        if verdict.allowed { Ok(()) } else { Err(refused(Kind::Address, verdict)) }
    }

    /// Counts a request of a known caller, and takes a place of its tenant's.
    pub(crate) async fn principal(
        &self,
        principal: &Principal,
        now: Instant,
        notes: &Notes,
    ) -> Result<(), Fault> {
        let limits = self.of(&principal.tenant);
        let place = self.places.take(&principal.tenant, limits.in_flight_max).ok_or_else(|| {
            let message = "Too many requests of this tenant are under way.";
            Fault::new(Reason::Overloaded, message).retry_after_s(1)
        })?;
        notes.with(|noted| (noted.unknown, noted.place) = (None, Some(place)));
        let credential = limits.of_credential(&principal.credential);
        if limits.quota.is_none() && credential.is_none() {
            return Ok(());
        }
        let verdicts = match &self.shared {
            None => self.take(principal, limits.quota, credential, now),
            Some(shared) => match take_shared(shared, principal, limits.quota, credential).await {
                Some(verdicts) => verdicts,
                None if shared.when_unreachable == WhenUnreachable::Local => {
                    self.take(principal, limits.quota, credential, now)
                }
                None => {
                    let message = "The limits cannot be checked now; try again.";
                    return Err(Fault::new(Reason::Unavailable, message).retry_after_s(1));
                }
            },
        };
        let mut refusal = Ok(());
        for (kind, quota, verdict) in verdicts.into_iter().flatten() {
            notes.with(|noted| noted.report.add(kind, quota, verdict));
            if !verdict.allowed {
                refusal = Err(refused(kind, verdict));
            }
        }
        refusal
    }

    /// A place among the tenant's streams.
    pub(crate) fn stream(&self, tenant: &TenantId) -> Result<TenantPlace, Fault> {
        self.streams.take(tenant, self.of(tenant).streams_max).ok_or_else(|| {
            Fault::new(Reason::Overloaded, "Too many streams of this tenant are open.").retry_after_s(5)
        })
    }

    fn of(&self, tenant: &TenantId) -> &ForTenant {
        self.tenants.get(tenant).unwrap_or(&self.general)
    }

    /// Takes from both buckets of this process, or from none.
    fn take(
        &self,
        principal: &Principal,
        tenant: Option<Quota>,
        credential: Option<Quota>,
        now: Instant,
    ) -> [Option<(Kind, Quota, Verdict)>; 2] {
        let now = self.since_origin(now);
        let by_tenant = tenant
            .map(|quota| (Kind::Tenant, quota, self.by_tenant.take(principal.tenant.as_str(), &quota, now)));
        if by_tenant.is_some_and(|(_, _, verdict)| !verdict.allowed) {
            return [by_tenant, None];
        }
        let key = (principal.tenant.as_str(), &*principal.credential);
        let by_credential =
            credential.map(|quota| (Kind::Credential, quota, self.by_credential.take(key, &quota, now)));
        if let (Some((_, quota, _)), Some((_, _, Verdict { allowed: false, .. }))) =
            (by_tenant, by_credential)
        {
            self.by_tenant.put_back(principal.tenant.as_str(), &quota, now);
        }
        [by_tenant, by_credential]
    }

    fn since_origin(&self, now: Instant) -> u64 {
        // 584 years.
        u64::try_from(now.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }
}

async fn take_shared(
    shared: &Shared,
    principal: &Principal,
    tenant: Option<Quota>,
    credential: Option<Quota>,
) -> Option<[Option<(Kind, Quota, Verdict)>; 2]> {
    let name = principal.tenant.as_str();
    let tenant = tenant.map(|quota| (Kind::Tenant, quota, shared.key(&["t", name])));
    let credential =
        credential.map(|quota| (Kind::Credential, quota, shared.key(&["c", name, &principal.credential])));
    let limits = [tenant, credential];
    let buckets = limits.iter().flatten().map(|(_, quota, key)| Bucket { key: key.clone(), quota: *quota });
    let mut verdicts = shared.take(buckets.collect()).await?.into_iter();
    Some(limits.map(|limit| {
        let (kind, quota, _) = limit?;
        Some((kind, quota, verdicts.next()?))
    }))
}

fn refused(kind: Kind, verdict: Verdict) -> Fault {
    let message = match kind {
        Kind::Address => "This address has sent too many requests; wait as long as Retry-After says.",
        Kind::Tenant => "This tenant has sent too many requests; wait as long as Retry-After says.",
        Kind::Credential => "This credential has sent too many requests; wait as long as Retry-After says.",
    };
    Fault::new(Reason::RateLimited, message).retry_after_s(seconds(verdict.wait_ns))
}

#[cfg(test)]
mod tests;
