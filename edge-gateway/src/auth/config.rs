//! What authentication is configured with. Secrets are named by their files.

use std::{fmt, path::PathBuf};

use money::TenantId;
use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{keys::hex, scope::Scope};

/// Who may call the edge, beside the plain `api_keys`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// The file of API keys that `paymesh keys` writes. It is read again when it changes. Default: none.
    #[schemars(example = "secrets/api-keys.toml")]
    pub keys_file: Option<PathBuf>,
    /// The pepper that the keys are hashed under, at least 32 bytes; needed with `keys_file`. Default: none.
    #[schemars(example = "secrets/api-keys.pepper")]
    pub pepper_file: Option<PathBuf>,
    /// How often `keys_file` and `pepper_file` are looked at for changes, in milliseconds. A change counts once
    /// two looks in a row have found it: a revoked key is accepted for up to twice as long, and the time that
    /// reading takes. Streams that are open go on to their end. At least 1. Default: 1000.
    pub reload_interval_ms: u64,
    /// Who may issue tokens (JWT) for the edge. Default: nobody.
    pub issuers: Vec<IssuerConfig>,
    /// How failed attempts are slowed down.
    pub throttle: ThrottleConfig,
    /// How signed requests are checked, for keys that demand them.
    pub signatures: SignatureConfig,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            keys_file: None,
            pepper_file: None,
            reload_interval_ms: 1_000,
            issuers: Vec::new(),
            throttle: ThrottleConfig::default(),
            signatures: SignatureConfig::default(),
        }
    }
}

/// An OpenID Connect provider whose access tokens are accepted.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IssuerConfig {
    /// A short name for logs and metrics. Needed.
    pub name: String,
    /// Its URL, exactly as in the tokens' `iss`. HTTPS, or HTTP on a loopback address. Needed.
    pub issuer: String,
    /// The `aud` that tokens must have, one of these. Needed.
    pub audiences: Vec<String>,
    /// The claim that names the tenant. Default: `tenant`.
    pub tenant_claim: String,
    /// The tenants that its tokens may speak for. Default: any.
    #[schemars(with = "Vec<String>")]
    pub tenants: Vec<TenantId>,
    /// The `typ` that tokens may have; RFC 9068 says `at+jwt`. Adding `JWT` also lets tokens in that were
    /// made for something else, such as ID tokens, if their audience fits. Default: `at+jwt`.
    pub types: Vec<String>,
    /// The scopes that its tokens can have at most, whatever they say. Default: all.
    pub scopes_max: Vec<Scope>,
    /// How far the clocks may be apart, in seconds, at most 60. Default: 30.
    pub clock_skew_s: u32,
    /// A host other than the issuer's that its keys may be fetched from (`jwks_uri`). Default: none.
    #[schemars(example = "keys.example.com")]
    pub jwks_host: Option<String>,
    /// The PEM file of the authorities that its certificate is checked against. Default:
    /// /etc/ssl/certs/ca-certificates.crt.
    #[schemars(extend("x-file" = "public"))]
    pub ca_file: PathBuf,
    /// How long one request to it may take, in milliseconds. Default: 5000.
    pub timeout_ms: u64,
    /// How often its keys are fetched, in seconds. Default: 300.
    pub refresh_s: u32,
    /// How soon after one fetch another one may follow, for an unknown key or after a failure, in seconds.
    /// Default: 10.
    pub refetch_interval_s: u32,
    /// How long keys are used that could not be refreshed, in seconds. Default: 86400.
    pub stale_max_s: u32,
}

impl Default for IssuerConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            issuer: String::new(),
            audiences: Vec::new(),
            tenant_claim: "tenant".to_owned(),
            tenants: Vec::new(),
            types: vec!["at+jwt".to_owned()],
            scopes_max: vec![Scope::all()],
            clock_skew_s: 30,
            jwks_host: None,
            ca_file: "/etc/ssl/certs/ca-certificates.crt".into(),
            timeout_ms: 5_000,
            refresh_s: 300,
            refetch_interval_s: 10,
            stale_max_s: 86_400,
        }
    }
}

/// How failed attempts are slowed down: by 429 and Retry-After, per client address.
///
/// Behind a proxy that hides the clients' addresses they all share one; then set `failures_free` high.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ThrottleConfig {
    /// So many failures in a row have no consequence. Default: 10.
    pub failures_free: u32,
    /// What the first failure beyond costs, in seconds; each further one costs twice as much. Default: 1.
    pub delay_s: u32,
    /// The longest that an address is refused, in seconds. Default: 900.
    pub delay_max_s: u32,
    /// After so many seconds without a failure, half of them are forgotten. Default: 300.
    pub half_life_s: u32,
    /// How many addresses are remembered. Default: 65536.
    pub entries_max: usize,
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self { failures_free: 10, delay_s: 1, delay_max_s: 900, half_life_s: 300, entries_max: 65_536 }
    }
}

/// How signed requests (RFC 9421) are checked.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SignatureConfig {
    /// The scheme that clients see, `https` or `http`: part of what they sign. Default: https.
    pub scheme: Scheme,
    /// How far a signature's `created` may be from now, in seconds. Default: 300.
    pub tolerance_s: u32,
    /// How many nonces are remembered for each key, on each edge; beyond that its requests are refused with
    /// 429. Default: 100000.
    pub nonces_max: usize,
}

impl Default for SignatureConfig {
    fn default() -> Self {
        Self { scheme: Scheme::Https, tolerance_s: 300, nonces_max: 100_000 }
    }
}

/// The scheme of the URLs that clients use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// TLS, here or in front of here.
    Https,
    /// None.
    Http,
}

impl Scheme {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// One plain API key, for development: for whom it speaks, and its hash or the file it is in.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyConfig {
    /// The tenant that its holder speaks for: 1 to 64 characters of a-z, 0-9, `-` and `_`.
    #[schemars(with = "String", example = &"acme")]
    pub tenant: TenantId,
    /// A name to tell the tenant's keys apart by; shown in logs.
    #[schemars(example = "billing app")]
    pub name: String,
    /// The SHA-256 of the key, in hexadecimal. Either this or `key_file`.
    #[schemars(
        extend("x-hidden" = true),
        example = "0000000000000000000000000000000000000000000000000000000000000000"
    )]
    #[serde(default)]
    pub sha256: Option<String>,
    /// A file with the key itself; white space around it does not count. Either this or `sha256`.
    #[schemars(example = "secrets/billing-app.key")]
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// What it may do. Default: everything.
    #[serde(default = "all_scopes")]
    pub scopes: Vec<Scope>,
}

fn all_scopes() -> Vec<Scope> {
    vec![Scope::all()]
}

impl ApiKeyConfig {
    /// An entry for a key in hand, with all scopes. Only its hash is kept.
    pub fn of_key(tenant: TenantId, name: impl Into<String>, key: &str) -> Self {
        let sha256 = Some(hex::encode(digest(&SHA256, key.as_bytes()).as_ref()));
        Self { tenant, name: name.into(), sha256, key_file: None, scopes: all_scopes() }
    }
}

impl fmt::Debug for ApiKeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyConfig")
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}
