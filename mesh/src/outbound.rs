//! Single requests to somebody else's HTTP server, such as an issuer of tokens or a root of trust: over HTTPS, or in
//! clear to a loopback address, each on a connection of its own. Redirects are not followed.
//!
//! Not for calls between services of the mesh: those are [`crate::client`]'s.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::service::StartError;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The URL leads nowhere that is asked.
    #[error("the URL must be https, or http on a loopback address")]
    Url,
    /// No connection.
    #[error("the host cannot be reached")]
    Connect,
    /// No TLS, or with somebody else.
    #[error("the host's certificate is not trusted, or TLS failed")]
    Tls,
    /// The answer broke off, or is too long.
    #[error("the answer could not be read, or is too large")]
    Body,
    /// Not in time.
    #[error("the answer did not come in time")]
    Time,
}

/// Asks other servers.
pub struct Outbound {
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    body_bytes_max: usize,
}

impl Outbound {
    /// Trusts the authorities of this PEM file; `None`: it never asks over HTTPS. A request is given up after
    /// `timeout`, and an answer that is longer than `body_bytes_max`.
    ///
    /// # Errors
    /// Where the file holds no certificate.
    pub fn new(
        authorities: Option<&Path>,
        timeout: Duration,
        body_bytes_max: usize,
    ) -> Result<Self, StartError> {
        Ok(Self { tls: authorities.map(client_config).transpose()?, timeout, body_bytes_max })
    }

    /// The answer to a request, whose URI says whom to ask, whatever its status is.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, OutboundError> {
        let target = Target::of(request.uri()).ok_or(OutboundError::Url)?;
        // Boxed, as a connection with its handshake is a large future.
        let sent = tokio::time::timeout(self.timeout, Box::pin(self.send_to(&target, request)));
        sent.await.map_err(|_| OutboundError::Time)?
    }

    async fn send_to(
        &self,
        target: &Target,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, OutboundError> {
        let address = (target.host.trim_matches(['[', ']']), target.port);
        let stream = TcpStream::connect(address).await.map_err(|_| OutboundError::Connect)?;
        if !target.https {
            // `localhost` may be any address that the resolver says.
            let loopback = stream.peer_addr().is_ok_and(|address: SocketAddr| address.ip().is_loopback());
            return if loopback { self.exchange(stream, request).await } else { Err(OutboundError::Url) };
        }
        let tls = self.tls.as_ref().ok_or(OutboundError::Url)?;
        let name = ServerName::try_from(address.0.to_owned()).map_err(|_| OutboundError::Url)?;
        let connecting = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
        self.exchange(connecting.await.map_err(|_| OutboundError::Tls)?, request).await
    }

    async fn exchange<S>(&self, stream: S, request: Request<Bytes>) -> Result<Response<Bytes>, OutboundError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut head, body) = request.into_parts();
        let host = head.uri.authority().ok_or(OutboundError::Url)?.as_str();
        let host = header::HeaderValue::from_str(host).map_err(|_| OutboundError::Url)?;
        head.headers.insert(header::HOST, host);
        head.headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse().map_err(|_| OutboundError::Url)?;
        let request = Request::from_parts(head, Full::new(body));
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|_| OutboundError::Connect)?;
        let conversation = async {
            let answer = sender.send_request(request).await.map_err(|_| OutboundError::Body)?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, self.body_bytes_max).collect().await;
            Ok(Response::from_parts(head, body.map_err(|_| OutboundError::Body)?.to_bytes()))
        };
        // The connection is driven here, so that it ends with the conversation.
        tokio::pin!(connection, conversation);
        tokio::select! {
            answer = &mut conversation => answer,
            // A peer that closes after its answer ends the connection first; the answer is then at hand.
            _ = &mut connection => conversation.await,
        }
    }
}

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether over TLS.
    pub https: bool,
    /// The host, as it is written.
    pub host: String,
    /// The port, also where it is not written.
    pub port: u16,
}

impl Target {
    /// `None` for a URL that is never asked.
    pub fn of(url: &Uri) -> Option<Self> {
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

/// TLS that trusts the authorities of this PEM file, and nobody else.
///
/// # Errors
/// Where the file holds no certificate.
pub fn client_config(authorities: &Path) -> Result<Arc<ClientConfig>, StartError> {
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
        .map_err(crate::tls::TlsError::from)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_are_asked() {
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
    async fn without_authorities_nothing_is_asked_over_tls() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let outbound = Outbound::new(None, Duration::from_secs(5), 1).unwrap();
        let request = Request::get(url).body(Bytes::new()).unwrap();
        assert_eq!(outbound.send(request).await.unwrap_err(), OutboundError::Url);
    }
}
