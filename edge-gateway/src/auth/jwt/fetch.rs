//! Fetches an issuer's documents: over HTTPS, or over plain HTTP from a loopback address, and from the hosts
//! that the configuration names alone. Redirects are not followed.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use mesh::{
    StartError,
    outbound::{Outbound, OutboundError, Target},
};

/// The largest document, in bytes.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// Why a document could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the URL must be https, or http on a loopback address, and its host one that is configured")]
    Url,
    #[error("the host cannot be reached")]
    Connect,
    #[error("the host's certificate is not trusted, or TLS failed")]
    Tls,
    #[error("the answer was not 200")]
    Status,
    #[error("the answer could not be read, or is larger than 256 KiB")]
    Body,
    #[error("the answer did not come in time")]
    Time,
    #[error("the document is not what it should be")]
    Document,
}

impl From<OutboundError> for FetchError {
    fn from(error: OutboundError) -> Self {
        match error {
            OutboundError::Url => Self::Url,
            OutboundError::Connect => Self::Connect,
            OutboundError::Tls => Self::Tls,
            OutboundError::Body => Self::Body,
            OutboundError::Time => Self::Time,
        }
    }
}

/// Fetches from some hosts.
pub(crate) struct Fetcher {
    hosts: Vec<String>,
    outbound: Outbound,
}

impl Fetcher {
    /// For these hosts. The authorities are read only if `https` is.
    pub(crate) fn new(
        hosts: Vec<String>,
        https: bool,
        authorities: &Path,
        timeout: Duration,
    ) -> Result<Self, StartError> {
        let outbound = Outbound::new(https.then_some(authorities), timeout, DOCUMENT_BYTES_MAX)?;
        Ok(Self { hosts, outbound })
    }

    /// The body of what is at this URL.
    pub(crate) async fn get(&self, url: &str) -> Result<Bytes, FetchError> {
        let url: Uri = url.parse().map_err(|_| FetchError::Url)?;
        let target = Target::of(&url).ok_or(FetchError::Url)?;
        if !self.hosts.iter().any(|host| host.eq_ignore_ascii_case(&target.host)) {
            return Err(FetchError::Url);
        }
        let request = Request::get(url).header(header::ACCEPT, "application/json").body(Bytes::new());
        let answer = self.outbound.send(request.map_err(|_| FetchError::Url)?).await?;
        if answer.status() == StatusCode::OK { Ok(answer.into_body()) } else { Err(FetchError::Status) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_that_is_not_configured_is_not_asked() {
        let fetcher =
            Fetcher::new(vec!["127.0.0.1".into()], false, Path::new("/none"), Duration::from_secs(1))
                .unwrap();
        for url in ["http://127.0.0.2:1/", "http://localhost:1/", "https://example.com/", "not a url"] {
            assert_eq!(fetcher.get(url).await, Err(FetchError::Url), "{url}");
        }
        // Without TLS set up nothing is fetched over it.
        assert_ne!(fetcher.get("https://127.0.0.1:1/").await, Ok(Bytes::new()));
    }
}
