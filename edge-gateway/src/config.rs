//! What the edge is configured with. Keys never appear in its `Debug`.

use std::{fmt, net::SocketAddr, path::PathBuf};

use money::TenantId;
use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    face::config::HttpConfig,
    limits::config::LimitsConfig,
    server::config::{PatienceConfig, TlsConfig},
};

/// What edge-gateway alone has.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeConfig {
    /// Where HTTP requests are taken: `IP:port`; port 0 takes a free one.
    #[schemars(extend("x-listens" = true))]
    pub listen: SocketAddr,
    /// Already bound; then `listen` is not used. For whoever starts the edge within its own process
    /// and needs to know the port.
    #[serde(skip)]
    pub listener: Option<tokio::net::TcpListener>,
    /// Who may call.
    pub api_keys: Vec<ApiKeyConfig>,
    /// How long a request may take altogether, in milliseconds.
    #[schemars(range(min = 1))]
    pub request_timeout_ms: u64,
    /// How long a client may take to send a request's headers, and from connecting to its first request,
    /// in milliseconds.
    #[schemars(range(min = 1))]
    pub header_timeout_ms: u64,
    /// The most connections at once; further ones wait to be accepted.
    #[schemars(range(min = 1))]
    pub connections_max: usize,
    /// The largest request body, in bytes.
    #[schemars(range(min = 1))]
    pub body_bytes_max: usize,
    /// The most requests worked on at once; more are refused with 429.
    #[schemars(range(min = 1))]
    pub in_flight_max: usize,
    /// Services that `/readyz` asks beside those that the routes lead to.
    pub ready_services: Vec<String>,
    /// How much a client may ask for.
    pub limits: LimitsConfig,
    /// How the edge behaves as an HTTP server.
    pub http: HttpConfig,
    /// How long clients may keep the edge waiting.
    pub patience: PatienceConfig,
    /// TLS on `listen`; without it, HTTP is taken there.
    pub tls: Option<TlsConfig>,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            listener: None,
            api_keys: Vec::new(),
            request_timeout_ms: 30_000,
            header_timeout_ms: 10_000,
            connections_max: 8_192,
            body_bytes_max: 1024 * 1024,
            in_flight_max: 8_192,
            ready_services: Vec::new(),
            limits: LimitsConfig::default(),
            http: HttpConfig::default(),
            patience: PatienceConfig::default(),
            tls: None,
        }
    }
}

/// One API key: for whom it speaks, and its hash or the file it is in.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyConfig {
    /// The tenant that its holder speaks for: 1 to 64 characters of a-z, 0-9, `-` and `_`.
    #[schemars(with = "String", example = &"acme")]
    pub tenant: TenantId,
    /// A name to tell keys apart by; shown in logs.
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
}

impl ApiKeyConfig {
    /// An entry for a key in hand. Only its hash is kept.
    pub fn of_key(tenant: TenantId, name: impl Into<String>, key: &str) -> Self {
        let sha256 = Some(to_hex(digest(&SHA256, key.as_bytes()).as_ref()));
        Self { tenant, name: name.into(), sha256, key_file: None }
    }
}

impl fmt::Debug for ApiKeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyConfig")
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_settings_are_refused_and_keys_are_not_shown() {
        assert!(serde_json::from_str::<EdgeConfig>(r#"{"lisen":"127.0.0.1:1"}"#).is_err());
        let config = r#"{"api_keys":[{"tenant":"acme","name":"ci","sha256":"00ff"}]}"#;
        let config: EdgeConfig = serde_json::from_str(config).unwrap();
        assert!(!format!("{config:?}").contains("00ff"));
    }
}
