//! The REST API as the load generator uses it: HTTP/1.1 with JSON, one request at a time on a connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::error::BenchError;

/// Test cards that the simulated processor approves, with their codes.
const APPROVING_CARDS: [(&str, &str); 4] = [
    ("4242424242424242", "123"),
    ("5555555555554444", "123"),
    ("378282246310005", "1234"),
    ("6011111111111117", "123"),
];
/// Amounts go round, so that no two neighbours are the same payment.
const AMOUNTS: u64 = 10_000;

/// Where the edge is, and the key to it.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    address: SocketAddr,
    host: HeaderValue,
    authorization: HeaderValue,
}

impl Edge {
    /// The edge at `url`, which must be on this machine: a load generator is not for others'.
    pub(super) fn new(url: &str, api_key: &str) -> Result<Self, BenchError> {
        let wrong = |what: &str| BenchError::Arguments(format!("the edge {url}: {what}"));
        let uri: Uri = url.parse().map_err(|_| wrong("this is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("must start with http://"));
        }
        let host = uri.host().ok_or_else(|| wrong("names no host"))?;
        let ip = match host.trim_matches(['[', ']']) {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            literal => literal.parse().map_err(|_| wrong("must be a loopback address, such as 127.0.0.1"))?,
        };
        if !ip.is_loopback() {
            return Err(wrong("must be a loopback address: load is only put on this machine"));
        }
        let port = uri.port_u16().unwrap_or(80);
        let mut authorization = HeaderValue::try_from(format!("Bearer {api_key}"))
            .map_err(|_| BenchError::Arguments("the API key has characters that no key has".to_owned()))?;
        authorization.set_sensitive(true);
        let host = HeaderValue::try_from(format!("{host}:{port}")).map_err(|_| wrong("its host is none"))?;
        Ok(Self { address: SocketAddr::new(ip, port), host, authorization })
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Connection, BenchError> {
        let failed = || BenchError::io(format!("connecting to the edge at {}", self.address));
        let stream = TcpStream::connect(self.address).await.map_err(failed())?;
        stream.set_nodelay(true).map_err(failed())?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        Ok(Connection { edge: self.clone(), sender })
    }
}

fn broken(error: impl std::fmt::Display) -> BenchError {
    BenchError::Edge(format!("the connection broke: {error}"))
}

/// A connection to the edge.
#[derive(Debug)]
pub(super) struct Connection {
    edge: Edge,
    sender: SendRequest<Full<Bytes>>,
}

#[derive(Deserialize)]
struct Token {
    id: String,
}

/// As much of a payment as matters here.
#[derive(Deserialize)]
struct Payment {
    status: String,
    failure: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    code: String,
}

/// RFC 9457, as much as matters here.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: Option<String>,
}

impl Connection {
    /// Whether every service of the mesh is ready.
    pub(super) async fn is_ready(&mut self) -> Result<bool, BenchError> {
        let (status, _) = self.send(Method::GET, "/readyz", None, String::new()).await?;
        Ok(status == StatusCode::OK)
    }

    /// A token for each approving card.
    pub(super) async fn make_tokens(&mut self) -> Result<Vec<String>, BenchError> {
        let mut tokens = Vec::with_capacity(APPROVING_CARDS.len());
        for (number, cvc) in APPROVING_CARDS {
            let body = format!(
                r#"{{"card":{{"number":"{number}","exp_month":12,"exp_year":2035,"cvc":"{cvc}","holder_name":"Bench"}}}}"#
            );
            let (status, answer) = self.send(Method::POST, "/v1/tokens", Some(Uuid::new_v4()), body).await?;
            if !status.is_success() {
                return Err(BenchError::Edge(format!("no token: {}", problem(status, &answer))));
            }
            let token: Token = serde_json::from_slice(&answer)
                .map_err(|error| BenchError::Edge(format!("the answer is not a token: {error}")))?;
            tokens.push(token.id);
        }
        Ok(tokens)
    }

    /// Makes a payment; answers with its state, or with what was wrong with the request.
    pub(super) async fn pay(
        &mut self,
        number: u64,
        token: &str,
        capture_method: &str,
    ) -> Result<String, BenchError> {
        let amount = 100 + number % AMOUNTS;
        let body = format!(
            r#"{{"amount":{amount},"currency":"EUR","payment_method":{{"token":"{token}"}},"capture_method":"{capture_method}","reference":"bench-{number}"}}"#
        );
        let (status, answer) = self.send(Method::POST, "/v1/payments", Some(Uuid::new_v4()), body).await?;
        if !status.is_success() {
            return Ok(problem(status, &answer));
        }
        let payment: Payment = serde_json::from_slice(&answer)
            .map_err(|error| BenchError::Edge(format!("the answer is not a payment: {error}")))?;
        Ok(match payment.failure {
            Some(failure) => format!("{} ({})", payment.status, failure.code),
            None => payment.status,
        })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &'static str,
        idempotency_key: Option<Uuid>,
        body: String,
    ) -> Result<(StatusCode, Bytes), BenchError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.edge.host)
            .header(AUTHORIZATION, &self.edge.authorization);
        if let Some(key) = idempotency_key {
            let mut text = Uuid::encode_buffer();
            let key: &str = key.hyphenated().encode_lower(&mut text);
            request = request.header(CONTENT_TYPE, "application/json").header("idempotency-key", key);
        }
        let request = request.body(Full::from(body)).map_err(broken)?;
        self.sender.ready().await.map_err(broken)?;
        let answer = self.sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(broken)?.to_bytes();
        Ok((status, body))
    }
}

/// What the edge objects to; a code where it gave one.
fn problem(status: StatusCode, answer: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(answer) {
        Ok(Problem { code, detail: Some(detail) }) => format!("{} {code}: {detail}", status.as_u16()),
        Ok(Problem { code, detail: None }) => format!("{} {code}", status.as_u16()),
        Err(_) => status.as_u16().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_put_under_load() {
        for url in ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:8080/", "http://127.8.9.1"] {
            assert!(Edge::new(url, "key").is_ok(), "{url}");
        }
        for url in ["http://192.0.2.1:8080", "http://example.com", "https://127.0.0.1", "127.0.0.1:8080", ""]
        {
            assert!(matches!(Edge::new(url, "key"), Err(BenchError::Arguments(_))), "{url}");
        }
    }

    #[test]
    fn the_key_is_not_shown() {
        let edge = Edge::new("http://127.0.0.1:1", "sk_secret").unwrap();
        assert!(!format!("{edge:?}").contains("sk_secret"));
    }

    #[test]
    fn problems_are_told_by_their_code() {
        let answer = br#"{"type":"about:blank","code":"INVALID_REQUEST","detail":"no","status":400}"#;
        assert_eq!(problem(StatusCode::BAD_REQUEST, answer), "400 INVALID_REQUEST: no");
        assert_eq!(problem(StatusCode::BAD_GATEWAY, b"<html>"), "502");
    }
}
