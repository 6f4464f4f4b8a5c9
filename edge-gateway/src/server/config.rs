//! What connections are configured with.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// How long clients may keep the edge waiting, and how much they may begin and give up.
#[derive(Debug, Clone, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PatienceConfig {
    /// The rate at which a request's body must keep arriving once `header_timeout_ms` has passed since its
    /// headers, in bytes per second; else the request is refused with 408. Default: 1024.
    pub body_rate_min: u32,
    /// The rate at which a client must take each answer once it has let it wait for `answer_timeout_ms`, in
    /// bytes per second; else the connection is closed. Default: 1024.
    pub answer_rate_min: u32,
    /// How long answers, and what streams say, may wait for a client that does not take them, in
    /// milliseconds; then the connection is closed, after up to twice as long where it holds them up by the
    /// window of HTTP/2. A trusted proxy may hold up single answers by it for longer, as the connection is that
    /// of other clients, too: until the edge drains or a stream has gone on for too long. Default: 20000.
    pub answer_timeout_ms: u64,
    /// How long a connection may be kept without a request, in milliseconds. Default: 300000.
    pub idle_timeout_ms: u64,
    /// How many requests a client may give up on one connection; beyond, and when they are more than those
    /// that it waited for, the connection is closed (CVE-2023-44487). Default: 200.
    pub resets_max: u32,
}

impl Default for PatienceConfig {
    fn default() -> Self {
        Self {
            body_rate_min: 1_024,
            answer_rate_min: 1_024,
            answer_timeout_ms: 20_000,
            idle_timeout_ms: 300_000,
            resets_max: 200,
        }
    }
}

/// TLS 1.2 and 1.3 on `listen`, for clients without a certificate.
#[derive(Debug, Clone, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain (PEM), the edge's own first. Read again when it changes; one that is not valid at
    /// the time is not used.
    #[schemars(extend("x-file" = "public"))]
    pub cert_file: PathBuf,
    /// Its private key (PEM). Read again when it changes; a pair that does not fit together is not used.
    pub key_file: PathBuf,
    /// How often the files are looked at, in seconds. Default: 10.
    #[serde(default = "default_reload_s")]
    pub reload_s: u64,
    /// Where HTTP without TLS is taken as well, such as for probes from within. Default: nowhere.
    #[schemars(extend("x-listens" = true), example = "127.0.0.1:8081")]
    #[serde(default)]
    pub plain_listen: Option<SocketAddr>,
    /// The most connections there at once, apart from those of `listen`; further ones wait to be accepted.
    /// Default: 256.
    #[schemars(range(min = 1))]
    #[serde(default = "default_plain_connections_max")]
    pub plain_connections_max: usize,
}

const fn default_plain_connections_max() -> usize {
    256
}

const fn default_reload_s() -> u64 {
    10
}
