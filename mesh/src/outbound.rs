//! Single requests to somebody else's HTTP server, such as an issuer of tokens or a root of trust: over HTTPS, or in
//! clear to a loopback address, each on a connection of its own. Redirects are not followed, and no proxy is asked.
//!
//! Who has to see to it which address is called resolves the name, checks what comes, and sends to one of these
//! addresses ([`Outbound::send_at`]): it is not looked up again.
//!
//! Not for calls between services of the mesh: those are [`crate::client`]'s.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Instant,
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

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Asks other servers.
pub struct Outbound {
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    connect_timeout: Duration,
    body_bytes_max: usize,
}

/// A connection, in clear or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What is wanted of an answer's body.
enum Wanted {
    /// All of it.
    Whole,
    /// What comes of its beginning.
    Beginning,
}

impl Outbound {
    /// Trusts the authorities of these PEM files; without any it never asks over HTTPS. A request is given up after
    /// `timeout`, and an answer that is longer than `body_bytes_max`.
    ///
    /// # Errors
    /// Where a file holds no certificate.
    pub fn new<'a>(
        authorities: impl IntoIterator<Item = &'a Path>,
        timeout: Duration,
        body_bytes_max: usize,
    ) -> Result<Self, StartError> {
        let mut authorities = authorities.into_iter().peekable();
        let tls = authorities.peek().is_some().then(|| trusting(authorities)).transpose()?;
        Ok(Self { tls, timeout, connect_timeout: timeout, body_bytes_max })
    }

    /// Gives a request up when there is no connection, TLS included, within this time.
    #[must_use]
    pub fn connecting_within(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The answer to a request, whose URI says whom to ask, whatever its status is.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, OutboundError> {
        let target = Target::of(request.uri()).ok_or(OutboundError::Url)?;
        let until = Instant::now() + self.timeout;
        // Boxed, as a connection with its handshake is a large future.
        let sent = tokio::time::timeout_at(until, Box::pin(self.send_to(&target, request, until)));
        sent.await.map_err(|_| OutboundError::Time)?
    }

    /// The answer to a request that is sent to this very address: its URI says who should be there, for TLS and the
    /// header `host`, and is not looked up. Over http the caller has to know that it may be asked in clear.
    ///
    /// Given up at `until`, whatever the timeout is. Once its head has come the answer counts: of its body comes what
    /// is there of the first `body_bytes_max` bytes before it ends, breaks off or the time is over.
    pub async fn send_at(
        &self,
        address: SocketAddr,
        request: Request<Bytes>,
        until: Instant,
    ) -> Result<Response<Bytes>, OutboundError> {
        let target = Target::anywhere(request.uri()).ok_or(OutboundError::Url)?;
        Box::pin(async {
            let connecting = async {
                let stream = TcpStream::connect(address).await.map_err(|_| OutboundError::Connect)?;
                self.secured(&target, stream).await
            };
            let connected = tokio::time::timeout_at(self.connected_until(until), connecting).await;
            self.exchange(connected.map_err(|_| OutboundError::Time)??, request, Wanted::Beginning, until)
                .await
        })
        .await
    }

    fn connected_until(&self, until: Instant) -> Instant {
        until.min(Instant::now() + self.connect_timeout)
    }

    async fn send_to(
        &self,
        target: &Target,
        request: Request<Bytes>,
        until: Instant,
    ) -> Result<Response<Bytes>, OutboundError> {
        let connecting = async {
            let stream =
                TcpStream::connect((target.name(), target.port)).await.map_err(|_| OutboundError::Connect)?;
            // `localhost` may be any address that the resolver says.
            let loopback = stream.peer_addr().is_ok_and(|address: SocketAddr| address.ip().is_loopback());
            if target.https || loopback {
                self.secured(target, stream).await
            } else {
                Err(OutboundError::Url)
            }
        };
        let connected = tokio::time::timeout_at(self.connected_until(until), connecting).await;
        self.exchange(connected.map_err(|_| OutboundError::Time)??, request, Wanted::Whole, until).await
    }

    /// The connection to a target, over TLS if it is to be.
    async fn secured(&self, target: &Target, stream: TcpStream) -> Result<Box<dyn Stream>, OutboundError> {
        if !target.https {
            return Ok(Box::new(stream));
        }
        let tls = self.tls.as_ref().ok_or(OutboundError::Url)?;
        let name = ServerName::try_from(target.name().to_owned()).map_err(|_| OutboundError::Url)?;
        let connecting = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
        Ok(Box::new(connecting.await.map_err(|_| OutboundError::Tls)?))
    }

    async fn exchange(
        &self,
        stream: Box<dyn Stream>,
        request: Request<Bytes>,
        wanted: Wanted,
        until: Instant,
    ) -> Result<Response<Bytes>, OutboundError> {
        let (mut head, body) = request.into_parts();
        let host = head.uri.authority().ok_or(OutboundError::Url)?.as_str();
        let host = header::HeaderValue::from_str(host).map_err(|_| OutboundError::Url)?;
        head.headers.insert(header::HOST, host);
        head.headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse().map_err(|_| OutboundError::Url)?;
        let request = Request::from_parts(head, Full::new(body));
        let mut http1 = http1::Builder::new();
        http1.max_buf_size(HEAD_BYTES_MAX);
        let (mut sender, connection) =
            http1.handshake(TokioIo::new(stream)).await.map_err(|_| OutboundError::Connect)?;
        let conversation = async {
            let answer = tokio::time::timeout_at(until, sender.send_request(request)).await;
            let answer = answer.map_err(|_| OutboundError::Time)?.map_err(|_| OutboundError::Body)?;
            let (head, body) = answer.into_parts();
            let body = match wanted {
                Wanted::Whole => whole(body, self.body_bytes_max).await?,
                Wanted::Beginning => beginning(body, self.body_bytes_max, until).await,
            };
            Ok(Response::from_parts(head, body))
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

async fn whole(body: Incoming, most: usize) -> Result<Bytes, OutboundError> {
    Ok(Limited::new(body, most).collect().await.map_err(|_| OutboundError::Body)?.to_bytes())
}

/// The first `most` bytes, or what came of them until then.
async fn beginning(mut body: Incoming, most: usize, until: Instant) -> Bytes {
    let mut read = BytesMut::with_capacity(most.min(4096));
    while read.len() < most {
        let Ok(Some(Ok(frame))) = tokio::time::timeout_at(until, body.frame()).await else { break };
        let Ok(data) = frame.into_data() else { continue };
        read.extend_from_slice(&data[..data.len().min(most - read.len())]);
    }
    read.freeze()
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
        let target = Self::anywhere(url)?;
        let name = target.name();
        let loopback =
            name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        (target.https || loopback).then_some(target)
    }

    /// Also in clear beyond loopback.
    fn anywhere(url: &Uri) -> Option<Self> {
        let host = url.host().filter(|host| !host.is_empty())?.to_owned();
        // No user and password.
        if url.authority()?.as_str().contains('@') {
            return None;
        }
        let https = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return None,
        };
        let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
        Some(Self { https, host, port })
    }

    /// The host as a resolver and TLS call it: IPv6 addresses without their brackets.
    fn name(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }
}

/// TLS that trusts the authorities of this PEM file, and nobody else.
///
/// # Errors
/// Where the file holds no certificate.
pub fn client_config(authorities: &Path) -> Result<Arc<ClientConfig>, StartError> {
    trusting([authorities])
}

fn trusting<'a>(authorities: impl IntoIterator<Item = &'a Path>) -> Result<Arc<ClientConfig>, StartError> {
    let mut roots = RootCertStore::empty();
    for file in authorities {
        let wrong = |what: String| StartError::Config(format!("{}: {what}", file.display()));
        let certificates = CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
        let (added, _) = roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        if added == 0 {
            return Err(wrong("holds no certificate".into()));
        }
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
        let outbound = Outbound::new([], Duration::from_secs(5), 1).unwrap();
        let request = Request::get(url).body(Bytes::new()).unwrap();
        assert_eq!(outbound.send(request).await.unwrap_err(), OutboundError::Url);
    }

    /// Answers one request on a port of its own, and tells what it was sent.
    async fn answering(answer: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Open until the other side is done with it.
            let _ = stream.read_u8().await;
            String::from_utf8(head).unwrap()
        });
        (address, answering)
    }

    #[tokio::test]
    async fn a_request_is_sent_to_the_address_and_not_to_its_name() {
        let (address, answering) =
            answering("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly this").await;
        let outbound = Outbound::new([], Duration::from_secs(60), 4).unwrap();
        let request = Request::get("http://nowhere.invalid:7/a?b").body(Bytes::new()).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let answer = outbound.send_at(address, request, until).await.unwrap();
        assert_eq!((answer.status(), &answer.body()[..]), (http::StatusCode::OK, &b"only"[..]));
        let sent = answering.await.unwrap();
        assert!(
            sent.starts_with("GET /a?b HTTP/1.1\r\n") && sent.contains("host: nowhere.invalid:7\r\n"),
            "{sent}"
        );
    }

    #[tokio::test]
    async fn an_answer_counts_from_its_head_on() {
        for (answer, expected) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok((204, ""))),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegun", Ok((200, "begun"))),
            ("HTTP/1.1 200 OK\r\n", Err(OutboundError::Time)),
            ("no HTTP\r\n\r\n", Err(OutboundError::Body)),
        ] {
            let (address, answering) = answering(answer).await;
            let outbound = Outbound::new([], Duration::from_secs(60), 99).unwrap();
            let request = Request::get("http://nowhere.invalid/").body(Bytes::new()).unwrap();
            let until = Instant::now() + Duration::from_secs(2);
            let got = outbound.send_at(address, request, until).await;
            let got = got
                .as_ref()
                .map(|answer| (answer.status().as_u16(), std::str::from_utf8(answer.body()).unwrap()));
            assert_eq!(got, expected.as_ref().map(|expected| *expected), "{answer}");
            answering.await.unwrap();
        }
    }
}
