//! One attempt: the name is resolved once, every address that comes is checked, and one of these very addresses is
//! connected to. Whoever answers otherwise to a second question (DNS rebinding) is not asked it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use mesh::{
    Clock, StartError,
    client::Resolve,
    outbound::{Outbound, OutboundError},
};
use tokio::time::{Instant, timeout};

use crate::{
    config::WebhookConfig,
    domain::{
        attempt::{ANSWER_BYTES_MAX, AttemptError, Outcome, excerpt},
        schedule::retry_after_s,
        signing,
        url::{CallPolicy, EndpointHost, EndpointUrl},
    },
};

/// What is sent.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// Where.
    pub url: &'a EndpointUrl,
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`: seconds since the Unix epoch.
    pub timestamp: &'a str,
    /// `webhook-signature`.
    pub signature: &'a str,
    /// The body, which is JSON.
    pub body: Bytes,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What came of it.
    pub outcome: Outcome,
    /// The answer's `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// The beginning of the answer's body, fit to be kept.
    pub answer: String,
}

/// Makes attempts.
pub trait Sender: Send + Sync + 'static {
    /// Makes one attempt, which ends in the time that is configured.
    fn send(&self, message: Message<'_>) -> impl Future<Output = Sent> + Send;
}

/// Makes attempts over HTTP/1.1. Redirects are not followed, and no proxy is asked.
pub struct HttpSender {
    outbound: Outbound,
    resolver: Arc<dyn Resolve>,
    policy: CallPolicy,
    clock: Arc<dyn Clock>,
    resolve_timeout: Duration,
    attempt_timeout: Duration,
}

/// So many of a host's addresses are tried when there is no connection to one.
const ADDRESSES_TRIED: usize = 3;
const USER_AGENT: &str = concat!("paymesh-webhooks/", env!("CARGO_PKG_VERSION"));

impl HttpSender {
    /// A sender by this configuration. Names are looked up by `resolver`
    /// ([`SystemResolver`](mesh::client::SystemResolver)).
    ///
    /// # Errors
    /// Where a setting is wrong, or a file of authorities cannot be read.
    pub fn new(
        config: &WebhookConfig,
        resolver: Arc<dyn Resolve>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let outbound = Outbound::new(config.authorities(), config.attempt_timeout(), ANSWER_BYTES_MAX)?
            .connecting_within(config.connect_timeout());
        Ok(Self {
            outbound,
            resolver,
            policy: config.call_policy()?,
            clock,
            resolve_timeout: config.connect_timeout().min(config.attempt_timeout()),
            attempt_timeout: config.attempt_timeout(),
        })
    }

    async fn attempt(&self, message: &Message<'_>) -> Result<Sent, AttemptError> {
        let until = Instant::now() + self.attempt_timeout;
        // Again, as the operator may have changed what is called since the endpoint was made.
        self.policy.check_url(message.url).map_err(|_| AttemptError::Url)?;
        let resolving = timeout(self.resolve_timeout, self.addresses(message.url)).await;
        let addresses = resolving.map_err(|_| AttemptError::Name)??;
        self.policy.check_addresses(message.url, &addresses).map_err(|_| AttemptError::Address)?;
        let mut error = AttemptError::Name;
        for address in addresses.into_iter().take(ADDRESSES_TRIED) {
            let request = request(message).ok_or(AttemptError::Url)?;
            let address = SocketAddr::new(address, message.url.port());
            match self.outbound.send_at(address, request, until).await {
                Ok(answer) => {
                    let retry_after = answer.headers().get(header::RETRY_AFTER);
                    let retry_after = retry_after.and_then(|value| value.to_str().ok());
                    let ours = [&*message.body, message.signature.as_bytes()];
                    return Ok(Sent {
                        outcome: Outcome::Answered(answer.status().as_u16()),
                        retry_after_s: retry_after.and_then(|value| retry_after_s(value, self.clock.now())),
                        answer: excerpt(answer.body(), &ours),
                    });
                }
                // Nothing was sent: another address may do.
                Err(OutboundError::Connect) => error = AttemptError::Connect,
                Err(OutboundError::Url) => return Err(AttemptError::Url),
                Err(OutboundError::Tls) => return Err(AttemptError::Tls),
                Err(OutboundError::Body) => return Err(AttemptError::Answer),
                Err(OutboundError::Time) => return Err(AttemptError::Time),
            }
        }
        Err(error)
    }

    /// All addresses of the host, asked for once.
    async fn addresses(&self, url: &EndpointUrl) -> Result<Vec<IpAddr>, AttemptError> {
        let name = match url.host() {
            EndpointHost::Address(address) => return Ok(vec![*address]),
            EndpointHost::Name(name) => name.as_str().into(),
        };
        let found = self.resolver.resolve(name, url.port()).await.map_err(|_| AttemptError::Name)?;
        let mut addresses = Vec::with_capacity(found.len());
        for address in found {
            // An address within IPv6 that is one of IPv4 is called as that.
            let address = address.ip().to_canonical();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() { Err(AttemptError::Name) } else { Ok(addresses) }
    }
}

impl Sender for HttpSender {
    async fn send(&self, message: Message<'_>) -> Sent {
        self.attempt(&message).await.unwrap_or_else(|error| Sent {
            outcome: Outcome::Failed(error),
            retry_after_s: None,
            answer: String::new(),
        })
    }
}

/// `None` where a header's value is none, which ids, times and signatures never are.
fn request(message: &Message<'_>) -> Option<Request<Bytes>> {
    let mut headers = HeaderMap::with_capacity(8);
    for (name, value) in [
        (signing::ID, message.id),
        (signing::TIMESTAMP, message.timestamp),
        (signing::SIGNATURE, message.signature),
    ] {
        headers.insert(name, HeaderValue::from_str(value).ok()?);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    let mut request = Request::post(message.url.uri().clone()).body(message.body.clone()).ok()?;
    *request.headers_mut() = headers;
    Some(request)
}
