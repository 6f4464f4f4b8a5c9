//! What a handler knows about its caller, and what it passes on when it calls further.
//!
//! The server stack makes a [`Call`] of the verified identity and the metadata; handlers read it.

use std::{
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use money::TenantId;

use crate::{
    fault::{Fault, Reason},
    identity::SpiffeId,
    telemetry,
    trace::TraceContext,
};

/// Metadata: the tenant that the caller speaks for. Internal; the edge drops it from outside requests.
pub const TENANT_HEADER: HeaderName = HeaderName::from_static("paymesh-tenant");
/// Metadata and HTTP header: the request's id, made at the edge.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Metadata and HTTP header: the key that makes a retry safe.
pub const IDEMPOTENCY_KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Response metadata: the answer is the stored one of an earlier request.
pub const IDEMPOTENCY_REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotency-replayed");
const TRACEPARENT: HeaderName = HeaderName::from_static(TraceContext::HEADER);
/// Metadata and HTTP header: how long the caller waits, as `TimeoutValue TimeoutUnit` of the gRPC protocol.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Of a request: those here, and those of gRPC itself.
const HEADERS: usize = 12;

/// Held back from the deadline at each hop, so that the caller hears of a timeout before its own ends.
const DEADLINE_MARGIN: Duration = Duration::from_millis(5);

/// 1 to 255 visible ASCII characters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        if (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Self(text.into()));
        }
        Err(Fault::new(Reason::IdempotencyKeyInvalid, "The idempotency key cannot be used.")
            .violating("Idempotency-Key", "must be 1 to 255 visible ASCII characters"))
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug)]
struct Inner {
    peer: SpiffeId,
    tenant: Option<TenantId>,
    request_id: Arc<str>,
    trace: TraceContext,
    deadline: Option<Instant>,
    idempotency_key: Option<IdempotencyKey>,
}

/// One request's caller, tenant, ids and deadline. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Call(Arc<Inner>);

/// What the one who starts a call says of it; see [`Call::start`].
#[derive(Debug)]
pub struct Origin {
    /// The workload that starts the call.
    pub peer: SpiffeId,
    /// The tenant that it speaks for.
    pub tenant: Option<TenantId>,
    /// The id that all logs of this request carry.
    pub request_id: Arc<str>,
    /// The trace that it belongs to.
    pub trace: TraceContext,
    /// When it is of no use any more.
    pub deadline: Option<Instant>,
    /// The key that makes a retry safe.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl Call {
    /// A call that begins here: a request from outside, or a background duty.
    pub fn start(origin: Origin) -> Self {
        let Origin { peer, tenant, request_id, trace, deadline, idempotency_key } = origin;
        Self(Arc::new(Inner { peer, tenant, request_id, trace, deadline, idempotency_key }))
    }

    /// A call that begins by itself, with nobody's request behind it: a background duty, an operator's
    /// question. `fresh` makes its ids.
    pub fn begin(peer: SpiffeId, tenant: Option<TenantId>, fresh: uuid::Uuid) -> Self {
        Self::start(Origin {
            peer,
            tenant,
            request_id: fresh.simple().to_string().into(),
            trace: telemetry::start_trace(fresh),
            deadline: None,
            idempotency_key: None,
        })
    }

    /// The call that a gRPC request belongs to.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Fault> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| {
            Fault::new(Reason::Internal, "The request did not come through the mesh's server stack.")
        })
    }

    /// Reads the metadata of a request from `peer`. `fresh` makes an id where one is missing.
    pub fn read(
        peer: SpiffeId,
        headers: &HeaderMap,
        now: Instant,
        fresh: impl Fn() -> uuid::Uuid,
    ) -> Result<Self, Fault> {
        let mut made = None;
        let mut fresh = || *made.get_or_insert_with(&fresh);
        let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{0}"));
        let tenant = match text(&TENANT_HEADER) {
            Some(name) => Some(
                name.parse()
                    .map_err(|e: money::TenantError| Fault::invalid("paymesh-tenant", e.to_string()))?,
            ),
            None => None,
        };
        let idempotency_key = text(&IDEMPOTENCY_KEY_HEADER).map(str::parse).transpose()?;
        let timeout = match text(&GRPC_TIMEOUT) {
            Some(value) => Some(
                parse_timeout(value)
                    .ok_or_else(|| Fault::invalid("grpc-timeout", "must be up to 8 digits and a unit"))?,
            ),
            None => None,
        };
        let request_id = match text(&REQUEST_ID_HEADER) {
            Some(id) if is_request_id(id) => id.into(),
            _ => (&*fresh().simple().encode_lower(&mut uuid::Uuid::encode_buffer())).into(),
        };
        let trace = text(&TRACEPARENT)
            .and_then(TraceContext::parse)
            .unwrap_or_else(|| telemetry::start_trace(fresh()));
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        Ok(Self::start(Origin { peer, tenant, request_id, trace, deadline, idempotency_key }))
    }

    /// The workload that calls.
    pub fn peer(&self) -> &SpiffeId {
        &self.0.peer
    }

    /// The tenant that the caller speaks for.
    pub fn tenant(&self) -> Result<&TenantId, Fault> {
        self.0.tenant.as_ref().ok_or_else(|| {
            Fault::new(
                Reason::TenantRequired,
                "The call does not say for which tenant it is (metadata paymesh-tenant).",
            )
        })
    }

    /// The tenant of an item of a batch: its own where it names one, else the call's.
    pub fn tenant_of_item(&self, tenant: &str) -> Result<TenantId, Fault> {
        if tenant.is_empty() {
            return self.tenant().cloned();
        }
        tenant.parse().map_err(|error: money::TenantError| Fault::invalid("tenant", error.to_string()))
    }

    /// The id that all logs of this request carry.
    pub fn request_id(&self) -> &Arc<str> {
        &self.0.request_id
    }

    /// The trace that the request belongs to.
    pub fn trace(&self) -> TraceContext {
        self.0.trace
    }

    /// The same call, for a task outside the current span: what it calls is below that span in the trace
    /// all the same.
    #[must_use]
    pub fn in_span(&self) -> Self {
        let Some(trace) = telemetry::current_trace() else { return self.clone() };
        let Inner { peer, tenant, request_id, trace: _, deadline, idempotency_key } = &*self.0;
        Self::start(Origin {
            peer: peer.clone(),
            tenant: tenant.clone(),
            request_id: Arc::clone(request_id),
            trace,
            deadline: *deadline,
            idempotency_key: idempotency_key.clone(),
        })
    }

    /// When the caller stops waiting.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// The caller's idempotency key.
    pub fn idempotency_key(&self) -> Option<&IdempotencyKey> {
        self.0.idempotency_key.as_ref()
    }

    /// A request to another service on behalf of this call: tenant, ids, trace and the remaining time
    /// go with it. The idempotency key does not: it belongs to the RPC that it was given to.
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        self.with_metadata(message, None)
    }

    /// As [`Call::request`], with the idempotency key: for the edge, which passes a request on as it is.
    pub fn forward<T>(&self, message: T) -> tonic::Request<T> {
        self.with_metadata(message, self.0.idempotency_key.as_ref())
    }

    fn with_metadata<T>(&self, message: T, key: Option<&IdempotencyKey>) -> tonic::Request<T> {
        let mut headers = HeaderMap::with_capacity(HEADERS);
        let mut put = |name: HeaderName, text: &[u8]| {
            if let Ok(mut value) = HeaderValue::from_bytes(text) {
                // Never kept in a compression table (RFC 7541, section 7.1.3), where it would displace what comes
                // again, nor shown by Debug.
                value.set_sensitive(name == IDEMPOTENCY_KEY_HEADER);
                headers.insert(name, value);
            }
        };
        if let Some(tenant) = &self.0.tenant {
            put(TENANT_HEADER, tenant.as_str().as_bytes());
        }
        put(REQUEST_ID_HEADER, self.0.request_id.as_bytes());
        put(TRACEPARENT, &telemetry::current_trace().unwrap_or(self.0.trace).header());
        if let Some(key) = key {
            put(IDEMPOTENCY_KEY_HEADER, key.as_str().as_bytes());
        }
        if let Some(deadline) = self.0.deadline {
            let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(DEADLINE_MARGIN);
            put(GRPC_TIMEOUT, format_timeout(left).as_bytes());
        }
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        request
    }
}

/// What is a request's id: short and harmless in a log.
pub fn is_request_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Whether an id from outside can be taken over: one that holds what could be a card number (13 to 19
/// digits in a row that pass the Luhn check, ISO/IEC 7812) would carry it into every log.
pub fn is_outside_request_id(text: &str) -> bool {
    is_request_id(text) && !text.split(|c: char| !c.is_ascii_digit()).any(could_be_card_number)
}

fn could_be_card_number(digits: &str) -> bool {
    let doubled = |(place, digit): (usize, u8)| {
        let value = u32::from(digit - b'0');
        if place % 2 == 0 { value } else { value * 2 % 10 + value / 5 }
    };
    (13..=19).contains(&digits.len()) && digits.bytes().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

/// `TimeoutValue TimeoutUnit` of the gRPC protocol: up to 8 digits and one of H, M, S, m, u, n.
pub fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3_600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// Milliseconds up to a day, seconds beyond; never more than the 8 digits allowed.
pub(crate) fn format_timeout(timeout: Duration) -> String {
    match timeout.as_millis() {
        millis @ 0..=86_400_000 => format!("{millis}m"),
        _ => format!("{}S", timeout.as_secs().min(99_999_999)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SpiffeId {
        SpiffeId::of("svc-payments").unwrap()
    }

    #[test]
    fn what_is_passed_on_is_what_came_in_with_less_time() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("paymesh-tenant", "acme"),
            ("x-request-id", "req-1"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("grpc-timeout", "2S"),
            ("idempotency-key", "k1"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let call = Call::read(peer(), &headers, Instant::now(), uuid::Uuid::nil).unwrap();
        let request = call.request(());
        let sent = request.metadata();
        assert_eq!(sent.get("paymesh-tenant").unwrap(), "acme");
        assert_eq!(sent.get("x-request-id").unwrap(), "req-1");
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(sent.get("traceparent").unwrap(), trace);
        assert!(sent.get("idempotency-key").is_none(), "a key belongs to one RPC");
        let forwarded = call.forward(());
        let key = forwarded.metadata().get("idempotency-key").unwrap();
        assert!(key == "k1" && key.is_sensitive(), "{key:?}");
        let is_sensitive = |name| forwarded.metadata().get(name).unwrap().is_sensitive();
        assert!(
            !["paymesh-tenant", "x-request-id", "traceparent", "grpc-timeout"]
                .map(is_sensitive)
                .contains(&true)
        );
        let left = parse_timeout(sent.get("grpc-timeout").unwrap().to_str().unwrap()).unwrap();
        assert!(left < Duration::from_secs(2), "{left:?}");
    }

    #[test]
    fn a_request_id_is_short_plain_and_no_card_number() {
        for id in ["req-1", "01a1fc0f1c7a7721a2a446cf3bb03706", "a.b_c-D", "4242424242424241"] {
            assert!(is_outside_request_id(id), "{id}");
        }
        for id in ["", "a b", "é", "4242424242424242", "x378282246310005x", &"x".repeat(129)] {
            assert!(!is_outside_request_id(id), "{id}");
        }
    }

    #[test]
    fn bad_metadata_is_refused_by_name() {
        for (name, value) in [
            ("paymesh-tenant", "A/B"),
            ("idempotency-key", "a b"),
            ("grpc-timeout", "5"),
            ("grpc-timeout", "123456789S"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            let fault = Call::read(peer(), &headers, Instant::now(), uuid::Uuid::nil).unwrap_err();
            assert_eq!(fault.violations()[0].field.to_lowercase(), name);
        }
    }
}
