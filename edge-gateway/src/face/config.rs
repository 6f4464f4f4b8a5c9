//! What the HTTP face is configured with.

use serde::{Deserialize, Serialize};

/// How the edge behaves as an HTTP server, whatever it is asked for.
#[derive(Debug, Clone, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Which web pages of other origins may call. Default: none.
    pub cors: CorsConfig,
    /// Whether the RPCs that have a route are also taken as gRPC-web: `POST /<package>.<Service>/<Method>` with
    /// `application/grpc-web` or `application/grpc-web-text`, under the same rules. Default: no.
    pub grpc_web: bool,
    /// Answers of at least so many bytes are compressed with gzip for clients that take it; 0 compresses
    /// nothing. Only what is read (GET) and holds no field marked as sensitive is. Default: 1024.
    pub compress_bytes_min: usize,
    /// For how many seconds browsers shall insist on TLS, told in answers over TLS (RFC 6797); 0 says
    /// nothing. Default: a year.
    pub hsts_max_age_s: u32,
    /// The longest path and query, in bytes; longer ones are refused with 414. Default: 8192.
    pub uri_bytes_max: usize,
    /// The most that a request's header fields may hold, in bytes; more is refused with 431.
    /// Default: 32768.
    pub header_bytes_max: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            cors: CorsConfig::default(),
            grpc_web: false,
            compress_bytes_min: 1_024,
            hsts_max_age_s: 31_536_000,
            uri_bytes_max: 8 * 1_024,
            header_bytes_max: 32 * 1_024,
        }
    }
}

/// Cross-origin requests (the Fetch standard's CORS protocol). Credentials are never allowed in its sense,
/// that is, cookies: a page gives its key in the Authorization header.
#[derive(Debug, Clone, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorsConfig {
    /// The origins that may, each exactly as browsers send it, such as `https://shop.example`.
    /// Default: none.
    pub origins: Vec<String>,
    /// For how many seconds a browser may remember the permission. Default: 600.
    pub max_age_s: u32,
}

impl Default for CorsConfig {
    fn default() -> Self {
        Self { origins: Vec::new(), max_age_s: 600 }
    }
}
