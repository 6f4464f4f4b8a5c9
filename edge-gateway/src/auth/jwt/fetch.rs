//! Fetches an issuer's documents: over HTTPS, or over plain HTTP from a loopback address, and from the hosts
//! that the configuration names alone. Redirects are not followed.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh::StartError;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

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

/// Fetches from some hosts.
pub(crate) struct Fetcher {
    hosts: Vec<String>,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

impl Fetcher {
    /// For these hosts. The authorities are read only if `https` is.
    pub(crate) fn new(
        hosts: Vec<String>,
        https: bool,
        authorities: &Path,
        timeout: Duration,
    ) -> Result<Self, StartError> {
        let tls = if https { Some(client_config(authorities)?) } else { None };
        Ok(Self { hosts, tls, timeout })
    }

    /// The body of what is at this URL.
    pub(crate) async fn get(&self, url: &str) -> Result<Bytes, FetchError> {
        let url: Uri = url.parse().map_err(|_| FetchError::Url)?;
        let target = Target::of(&url).ok_or(FetchError::Url)?;
        if !self.hosts.iter().any(|host| host.eq_ignore_ascii_case(&target.host)) {
            return Err(FetchError::Url);
        }
        tokio::time::timeout(self.timeout, self.fetch(&url, &target)).await.map_err(|_| FetchError::Time)?
    }

    async fn fetch(&self, url: &Uri, target: &Target) -> Result<Bytes, FetchError> {
        let address = (target.host.trim_matches(['[', ']']), target.port);
        let stream = TcpStream::connect(address).await.map_err(|_| FetchError::Connect)?;
        if !target.https {
            // `localhost` may be any address that the resolver says.
            let loopback = stream.peer_addr().is_ok_and(|address: SocketAddr| address.ip().is_loopback());
            return if loopback { exchange(stream, url).await } else { Err(FetchError::Url) };
        }
        let tls = self.tls.as_ref().ok_or(FetchError::Url)?;
        let name = ServerName::try_from(address.0.to_owned()).map_err(|_| FetchError::Url)?;
        let connecting = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
        exchange(connecting.await.map_err(|_| FetchError::Tls)?, url).await
    }
}

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) https: bool,
    pub(crate) host: String,
    port: u16,
}

impl Target {
    /// `None` for a URL that is never fetched.
    pub(crate) fn of(url: &Uri) -> Option<Self> {
        let host = url.host().filter(|host| !host.is_empty())?.to_owned();
        // No user and password.
        if url.authority()?.as_str().contains('@') {
            return None;
        }
        let loopback = host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse()
                .is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        let https = match url.scheme_str() {
            Some("https") => true,
            Some("http") if loopback => false,
            _ => return None,
        };
        let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
        Some(Self { https, host, port })
    }
}

async fn exchange<S>(stream: S, url: &Uri) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let host = url.authority().ok_or(FetchError::Url)?.as_str();
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::Url)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|_| FetchError::Connect)?;
    let conversation = async {
        let answer = sender.send_request(request).await.map_err(|_| FetchError::Body)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status);
        }
        let body = Limited::new(answer.into_body(), DOCUMENT_BYTES_MAX).collect().await;
        Ok(body.map_err(|_| FetchError::Body)?.to_bytes())
    };
    // The connection is driven here, so that it ends with the conversation.
    tokio::pin!(connection, conversation);
    tokio::select! {
        answer = &mut conversation => answer,
        // A peer that closes after its answer ends the connection first; the answer is then at hand.
        _ = &mut connection => conversation.await,
    }
}

fn client_config(authorities: &Path) -> Result<Arc<ClientConfig>, StartError> {
    let wrong = |what: String| StartError::Config(format!("{}: {what}", authorities.display()));
    let certificates =
        CertificateDer::pem_file_iter(authorities).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if added == 0 {
        return Err(wrong("holds no certificate".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(mesh::tls::TlsError::from)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_are_fetched() {
        let target = |url: &str| Target::of(&url.parse().unwrap());
        for (url, host, port) in [
            ("https://id.example.com/a", "id.example.com", 443),
            ("https://id.example.com:8443", "id.example.com", 8443),
            ("http://127.0.0.1:9/jwks", "127.0.0.1", 9),
            ("http://[::1]/jwks", "[::1]", 80),
            ("http://localhost:1", "localhost", 1),
        ] {
            let found = target(url).unwrap();
            assert_eq!((found.host.as_str(), found.port), (host, port));
        }
        for url in [
            "http://id.example.com/a",
            "http://10.0.0.1/",
            "http://127.0.0.1.example.com/",
            "https://user:password@id.example.com/",
            "ftp://id.example.com/",
            "/jwks",
        ] {
            assert_eq!(target(url), None, "{url}");
        }
    }

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
