//! A small client of the REST edge, for the demo, the readiness check, tests and benchmarks.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

use crate::describe::Description;

/// An answer of the edge.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub bytes: Bytes,
    /// The body, read as JSON; null where it is none.
    pub body: Value,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The request could not be made.
    #[error("request: {0}")]
    Request(#[from] http::Error),
    /// The edge could not be reached, or went away in the middle.
    #[error("the edge did not answer: {0}")]
    Transport(#[from] hyper_util::client::legacy::Error),
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    Body(#[from] hyper::Error),
}

/// A client with one API key. Cheap to clone; keeps its connections.
#[derive(Clone)]
pub struct Rest {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
    key: String,
}

impl Rest {
    /// A client of the mesh that describes itself so.
    pub fn new(mesh: &Description) -> Self {
        Self::with_key(&mesh.edge_url, &mesh.api_key)
    }

    /// A client of this edge with this key.
    pub fn with_key(url: &str, key: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, url: url.to_owned(), key: key.to_owned() }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Answer, RestError> {
        self.send(Method::GET, path, None, None).await
    }

    /// POST with a JSON body, and an idempotency key where one is given.
    pub async fn post(&self, path: &str, key: Option<&str>, body: &Value) -> Result<Answer, RestError> {
        self.send(Method::POST, path, key, Some(body.to_string().into())).await
    }

    /// Any request.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        idempotency_key: Option<&str>,
        body: Option<Bytes>,
    ) -> Result<Answer, RestError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.key));
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let response = self.client.request(request.body(Full::new(body.unwrap_or_default()))?).await?;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, bytes, body })
    }
}
