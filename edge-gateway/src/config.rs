//! What the edge is configured with. Keys never appear in its `Debug`.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::auth::config::{ApiKeyConfig, AuthConfig};
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
    /// Plain API keys, beside those of `auth.keys_file`. Default: none.
    pub api_keys: Vec<ApiKeyConfig>,
    /// Who else may call, and how credentials are checked.
    pub auth: AuthConfig,
    /// How long a request may take altogether, in milliseconds; at most 30000, so that a drain, which waits 35
    /// seconds, cuts none off.
    #[schemars(range(min = 1, max = 30_000))]
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
    /// The most answers that are streams at once; more are refused with 429.
    #[schemars(range(min = 1))]
    pub streams_max: usize,
    /// How long a stream may last before it ends and the client has to ask again, in milliseconds.
    #[schemars(range(min = 1))]
    pub stream_duration_max_ms: u64,
    /// After how long without a message a stream of events says that it is alive, in milliseconds.
    #[schemars(range(min = 1))]
    pub stream_heartbeat_ms: u64,
    /// Services that `/readyz` asks beside those that the routes lead to.
    pub ready_services: Vec<String>,
    /// How much a client may ask for.
    pub limits: LimitsConfig,
    /// How the edge behaves as an HTTP server.
    pub http: HttpConfig,
    /// How long clients may keep the edge waiting.
    pub patience: PatienceConfig,
    /// TLS on `listen`; without it, HTTP is taken there.
    pub https: Option<TlsConfig>,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            listener: None,
            api_keys: Vec::new(),
            auth: AuthConfig::default(),
            request_timeout_ms: 30_000,
            header_timeout_ms: 10_000,
            connections_max: 8_192,
            body_bytes_max: 1024 * 1024,
            in_flight_max: 8_192,
            streams_max: 1_024,
            stream_duration_max_ms: 1_800_000,
            stream_heartbeat_ms: 15_000,
            ready_services: Vec::new(),
            limits: LimitsConfig::default(),
            http: HttpConfig::default(),
            patience: PatienceConfig::default(),
            https: None,
        }
    }
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
