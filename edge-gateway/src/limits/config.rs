//! What the limits are configured with.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::address::ForwardedHeader;

/// How much a client may ask for. A refusal is a 429 with Retry-After; answers say what is left in the
/// fields RateLimit-Policy and RateLimit.
#[derive(Debug, Clone, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Requests from one client address (IPv6: one /64), counted before authentication and always by this
    /// process alone. Default: no limit.
    pub address: Option<QuotaConfig>,
    /// The most requests of one address that are worked on at once and whose credential is not known yet, or
    /// that need none; more are refused with 429. Trusted proxies: without limit. Default: 512.
    pub address_in_flight_max: usize,
    /// Requests of one tenant, over all its credentials. Default: no limit.
    pub tenant: Option<QuotaConfig>,
    /// Requests with one credential. Default: no limit.
    pub credential: Option<QuotaConfig>,
    /// The most requests of one tenant that are worked on at once; more are refused with 429.
    /// Default: 4096, half of `in_flight_max`.
    pub tenant_in_flight_max: usize,
    /// The most answers to one tenant that are streams at once; more are refused with 429. Default: 256, a
    /// quarter of `streams_max`.
    pub tenant_streams_max: usize,
    /// Other limits for some tenants, by tenant. Default: none.
    pub tenants: BTreeMap<String, TenantLimits>,
    /// The most addresses, tenants and credentials that are told apart (of each); beyond, newcomers share.
    /// Default: 65536.
    pub keys_max: usize,
    /// Networks whose hosts are proxies that may say for which address they speak, such as `10.0.0.0/8`.
    /// Their connections are not closed for one answer that is not taken: see `patience.answer_timeout_ms`.
    /// Default: none, so that the client is who connects.
    pub trusted_proxies: Vec<String>,
    /// The header in which they say it: `x-forwarded-for` or `forwarded` (RFC 7239). Default: the first.
    pub forwarded_header: ForwardedHeader,
    /// The most connections from one address at once (trusted proxies: without limit); more are closed.
    /// Default: 1024.
    pub connections_per_address_max: usize,
    /// Shares the limits of tenants and credentials among all edges. Default: each edge counts for itself.
    pub redis: Option<RedisConfig>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            address: None,
            address_in_flight_max: 512,
            tenant: None,
            credential: None,
            tenant_in_flight_max: 4_096,
            tenant_streams_max: 256,
            tenants: BTreeMap::new(),
            keys_max: 65_536,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            connections_per_address_max: 1_024,
            redis: None,
        }
    }
}

/// A token bucket: so many requests at once, refilled evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaConfig {
    /// How many requests an unused bucket holds; at least 1.
    pub requests: NonZeroU32,
    /// In how many seconds an empty bucket is full again; at least 1.
    pub window_s: NonZeroU32,
}

/// What is different for one tenant.
#[derive(Debug, Clone, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantLimits {
    /// Requests of this tenant. Default: as for every tenant.
    pub quota: Option<QuotaConfig>,
    /// Requests of this tenant that are worked on at once. Default: as for every tenant.
    pub in_flight_max: Option<usize>,
    /// Answers to this tenant that are streams at once. Default: as for every tenant.
    pub streams_max: Option<usize>,
    /// Requests with some of its credentials, by the credential's name; for keys of `auth.keys_file` also by
    /// their id, which goes before the name. Default: as for every credential.
    pub credentials: BTreeMap<String, QuotaConfig>,
}

/// The Redis that edges share their limits through: one server, or a primary with replicas.
#[derive(Debug, Clone, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// A file with its URL, such as `rediss://user:password@redis.internal:6379/0`.
    pub url_file: PathBuf,
    /// A file with the CA's certificate (PEM) for `rediss://`. Default: the system's CAs.
    #[schemars(extend("x-file" = "public"))]
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long its answer may take, in milliseconds, before a request goes on without it. Default: 50.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// What its keys begin with. Default: `paymesh:limits:`.
    #[serde(default = "default_key_prefix")]
    pub key_prefix: String,
    /// What happens while it cannot be reached. Default: `local`.
    #[serde(default)]
    pub when_unreachable: WhenUnreachable,
}

fn default_timeout_ms() -> u64 {
    50
}

fn default_key_prefix() -> String {
    "paymesh:limits:".to_owned()
}

/// What happens to requests while the shared limits cannot be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenUnreachable {
    /// Each edge counts for itself: a client may get its limit once per edge.
    #[default]
    Local,
    /// Requests that have a limit are refused with 503.
    Refuse,
}
