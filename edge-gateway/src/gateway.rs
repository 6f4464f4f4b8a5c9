//! One HTTP request's way to one gRPC call and back: probes and documents, then credential, route,
//! idempotency key, body, call, answer (`forward`). There is no code for any particular RPC.
//!
//! Nothing is copied from the request's headers into the call: what the mesh trusts (tenant,
//! identities, `l5d-*`, `paymesh-*`) cannot come from outside. Paths, queries and bodies are not
//! logged: a card number may be anywhere in them.

mod forward;
pub(crate) mod grpc_web;
mod headers;
mod pages;

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts,
};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use mesh::{
    Call, Clock, Fault, IdempotencyKey, Ids, Origin, Reason, SpiffeId, TraceContext, Upstream,
    call::{REQUEST_ID_HEADER, is_outside_request_id},
    scope::{self, Scope},
    telemetry,
};
use tracing::{Instrument as _, Span};

use self::pages::Page;
use crate::{
    auth::{Authenticator, Principal, Refused, ScopeTable},
    body::{Answer, full, holding, is_stream},
    face::{
        Face, Kind,
        encoding::{Unpacking, unpacked},
    },
    limits::{Limiter, Notes},
    metrics::EdgeMetrics,
    problem,
    readiness::Readiness,
    stream::Streams,
    transcode::{NoMatch, Route, Transcoder},
};
use grpc_web::{GrpcWeb, WebForm};
use headers::{idempotency_key, is_json};

/// How much of a body that is refused is read all the same, and for how long.
const DISCARDED_BYTES_MAX: usize = 16 * 1024 * 1024;
const DISCARD_DEADLINE: Duration = Duration::from_secs(2);
/// Where there is too much of everything already, or nobody knows for whom it would be: the answer must not
/// wait for the body.
const SHED_DISCARD_DEADLINE: Duration = Duration::from_millis(5);

/// How many headers an answer has room for from the beginning.
const ANSWER_HEADERS: usize = 12;

/// What all requests share.
pub(crate) struct Gateway {
    pub(crate) api: Arc<Transcoder>,
    pub(crate) upstreams: BTreeMap<Arc<str>, Upstream>,
    /// The same services over connections of their own, so that messages that wait for clients hold up nothing
    /// but streams.
    pub(crate) streaming_upstreams: BTreeMap<Arc<str>, Upstream>,
    pub(crate) authenticator: Authenticator,
    pub(crate) scopes: ScopeTable,
    pub(crate) readiness: Readiness,
    pub(crate) openapi: Bytes,
    pub(crate) metrics: EdgeMetrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) identity: SpiffeId,
    pub(crate) limits: Limits,
    pub(crate) streams: Streams,
    pub(crate) limiter: Limiter,
    pub(crate) face: Face,
    pub(crate) grpc_web: GrpcWeb,
    /// The first segments of all routes: below them nothing is told without a credential.
    pub(crate) guarded: HashSet<String>,
    /// The label of requests that have no route.
    pub(crate) no_rpc: Arc<str>,
}

/// What a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) request_timeout: Duration,
    pub(crate) body_bytes_max: usize,
    pub(crate) in_flight_max: usize,
    /// A body must keep arriving at this rate, in bytes per second, once `body_grace` has passed.
    pub(crate) body_rate_min: u32,
    pub(crate) body_grace: Duration,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// Whether it came by TLS.
    pub(crate) secure: bool,
    /// Whether it is a trusted proxy, which speaks for many clients.
    pub(crate) is_proxy: bool,
}

/// What is known of a request before its route is.
struct Caller {
    /// Where the request comes from, also behind trusted proxies.
    address: IpAddr,
    request_id: Arc<str>,
    trace: TraceContext,
    began: Instant,
    deadline: Instant,
    /// What the limits have to say of it.
    notes: Notes,
}

impl Gateway {
    /// Answers a request, whatever it is.
    pub(crate) async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Answer {
        let (parts, mut body) = request.into_parts();
        let caller = self.caller(&parts.headers, peer.address);
        let path = parts.uri.path();
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        let page = reads.then(|| Page::at(path)).flatten();
        let kind = page.map_or(Kind::Rpc, Page::kind);
        let web = self.grpc_web.asked(&parts);
        let mut under_way = self.metrics.begin(kind != Kind::Probe, &self.no_rpc, caller.began);
        let answered = match (self.admit(&parts, &caller, kind, under_way.others), page) {
            (Err(refusal), _) => Err(refusal),
            (Ok(Some(answer)), _) => Ok(answer),
            (Ok(None), Some(page)) => {
                let answer = self.page(page, path, &caller).await;
                answer.ok_or_else(|| Self::not_documented(path).into())
            }
            (Ok(None), None) => self.proxy(&parts, &mut body, web, &caller, &mut under_way.rpc).await,
        };
        let mut answer = match answered {
            Ok(answer) => answer,
            Err(Refusal { fault, header: Some(allow) })
                if parts.method == Method::OPTIONS && fault.reason() == Reason::MethodNotAllowed =>
            {
                let mut answer = Response::new(full(Bytes::new()));
                *answer.status_mut() = StatusCode::NO_CONTENT;
                let (name, value) = *allow;
                answer.headers_mut().insert(name, value);
                answer
            }
            Err(Refusal { fault, header }) => {
                // Who waits to be told to go on has sent nothing yet, and need not.
                if !parts.headers.contains_key(header::EXPECT) {
                    discard(&mut body, patience(fault.reason(), caller.notes.is_of_known())).await;
                }
                let mut answer = match web {
                    Some(form) => form.refused(fault),
                    None => problem::response(&fault, &caller.request_id),
                };
                if let Some(header) = header {
                    let (name, value) = *header;
                    answer.headers_mut().insert(name, value);
                }
                answer
            }
        };
        if let Ok(id) = HeaderValue::from_str(&caller.request_id) {
            answer.headers_mut().insert(REQUEST_ID_HEADER, id);
        }
        if answer.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            // RFC 9110, section 12.5.3: what a body may be encoded with.
            answer.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        caller.notes.write(answer.headers_mut());
        let mut answer = self.face.finish(&parts, &under_way.rpc, kind, peer.secure, answer);
        if let (true, Some(place)) = (is_stream(&answer), caller.notes.place()) {
            answer = answer.map(|body| holding(body, place));
        }
        if parts.method == Method::HEAD {
            answer = without_body(answer);
        }
        under_way.answered(&caller.request_id, grpc_web::meant(&answer));
        answer
    }

    /// Whether a request is looked at at all. Probes always are: who supervises us must learn that we are
    /// alive when there is too much to do.
    fn admit(
        &self,
        parts: &Parts,
        caller: &Caller,
        kind: Kind,
        others_under_way: usize,
    ) -> Result<Option<Answer>, Refusal> {
        self.face.check_size(parts)?;
        if kind == Kind::Probe {
            return Ok(None);
        }
        if others_under_way >= self.limits.in_flight_max {
            let fault = Fault::new(Reason::Overloaded, "Too many requests are under way.");
            return Err(fault.retry_after_s(1).into());
        }
        self.limiter.enter(caller.address, &caller.notes)?;
        self.limiter.address(caller.address, caller.began, &caller.notes)?;
        Ok(self.face.preflight(parts))
    }

    /// What is answered where answering itself went wrong.
    pub(crate) fn broken(&self, peer: Peer) -> Answer {
        let id = self.ids.uuid_v7(self.clock.now()).simple().to_string();
        tracing::error!(request_id = id, "answering a request panicked");
        let fault = Fault::new(Reason::Internal, "Something went wrong on our side.");
        let mut answer = problem::response(&fault, &id);
        if let Ok(id) = HeaderValue::from_str(&id) {
            answer.headers_mut().insert(REQUEST_ID_HEADER, id);
        }
        self.face.protect(answer.headers_mut(), peer.secure);
        answer
    }

    fn caller(&self, headers: &HeaderMap, peer: IpAddr) -> Caller {
        let fresh = self.ids.uuid_v7(self.clock.now());
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let request_id = match text(REQUEST_ID_HEADER.as_str()) {
            Some(id) if is_outside_request_id(id) => id.into(),
            _ => fresh.simple().to_string().into(),
        };
        let began = Instant::now();
        Caller {
            address: self.limiter.proxies.client(peer, headers),
            request_id,
            trace: telemetry::trace_from_outside(text(TraceContext::HEADER), fresh),
            began,
            deadline: began + self.limits.request_timeout,
            notes: Notes::default(),
        }
    }

    fn call(&self, caller: &Caller, tenant: Option<money::TenantId>, key: Option<IdempotencyKey>) -> Call {
        self.call_until(caller, tenant, key, caller.deadline)
    }

    fn call_until(
        &self,
        caller: &Caller,
        tenant: Option<money::TenantId>,
        key: Option<IdempotencyKey>,
        deadline: Instant,
    ) -> Call {
        Call::start(Origin {
            peer: self.identity.clone(),
            tenant,
            request_id: Arc::clone(&caller.request_id),
            trace: caller.trace,
            deadline: Some(deadline),
            idempotency_key: key,
        })
    }

    async fn proxy(
        &self,
        parts: &Parts,
        body: &mut Incoming,
        web: Option<WebForm>,
        caller: &Caller,
        rpc: &mut Arc<str>,
    ) -> Result<Answer, Refusal> {
        let path = parts.uri.path();
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        if web.is_none() && !self.guarded.contains(first) {
            return Err(Self::not_documented(path).into());
        }
        let found = match web {
            Some(_) => self.grpc_web.find(&self.api, path),
            None => self.api.find(&parts.method, path),
        };
        // Without a credential nothing is told of a path, unless it is that of an RPC that asks for none.
        let principal = match &found {
            Ok((route, _)) if route.public => None,
            _ => Some(self.authenticator.authenticate(parts, caller.address, caller.deadline).await?),
        };
        if let Some(principal) = &principal {
            self.limiter.principal(principal, caller.began, &caller.notes).await?;
        }
        let (route, found) = found.map_err(no_route)?;
        *rpc = Arc::clone(&route.rpc);
        if let Some(principal) = &principal {
            self.authenticator.allow(principal, self.scopes.get(&route.rpc))?;
        }
        let idempotency_key = idempotency_key(route.idempotency, &parts.headers)?;
        let limit = self.body_bytes_max(route);
        let body_max = web.map_or(limit, |form| form.body_bytes_max(limit));
        let body = self.body(body_max, body, caller.deadline).await?;
        if let Some(principal) = &principal {
            // What is signed is what was sent (RFC 9530, section 2).
            self.authenticator.check_body(principal, &body)?;
        }
        let (query, headers) = (parts.uri.query(), &parts.headers);
        let message = if let Some(form) = web {
            form.message(headers, body, limit)?
        } else {
            let body = self.readable(route, headers, body)?;
            let encoded = route.request.encode(&self.api.schema, &found.captures, query, headers, &body);
            encoded.map_err(Fault::from)?
        };
        let tenant = principal.as_ref().map(|principal| principal.tenant.clone());
        let mut deadline =
            if route.streaming { self.streams.deadline(caller.began) } else { caller.deadline };
        if web.is_some() {
            deadline = grpc_web::deadline(headers, caller.began, deadline)?;
        }
        let call = self.call_until(caller, tenant, idempotency_key, deadline);
        let span = span(route, caller, principal.as_ref());
        let scope = Scope {
            service: "edge",
            rpc: String::from(&*route.rpc).into(),
            call: call.clone(),
            credential: principal.as_ref().map(|principal| Arc::clone(&principal.credential)),
            has_span: !span.is_disabled(),
        };
        let forwarded = async {
            // Within the span, so that the call carries it as its parent.
            let request = call.forward(message);
            if route.streaming {
                let of_tenant = principal.as_ref().map(|principal| self.limiter.stream(&principal.tenant));
                let place = self.streams.enter(of_tenant.transpose()?)?;
                match web {
                    None => self.forward_stream(found.target, request, headers, caller, place).await,
                    Some(form) => self.web_stream(form, route, request, (caller, deadline), place).await,
                }
            } else {
                match web {
                    None => self.forward(route, request, caller).await,
                    Some(form) => self.web_unary(form, route, request, deadline).await,
                }
            }
        };
        scope::during(scope, pin!(forwarded.instrument(span))).await
    }

    fn not_documented(path: &str) -> Fault {
        if Page::at(path).is_some() {
            return Fault::new(Reason::MethodNotAllowed, "This path takes GET only.");
        }
        Fault::new(Reason::RouteNotFound, "There is nothing at this path; /openapi.json lists what there is.")
    }

    fn body_bytes_max(&self, route: &Route) -> usize {
        let limit = self.limits.body_bytes_max;
        route.body_bytes_max.map_or(limit, |of_rpc| of_rpc.min(limit))
    }

    /// The body as it was sent.
    async fn body(&self, limit: usize, body: &mut Incoming, deadline: Instant) -> Result<Bytes, Fault> {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        // A length said beforehand is refused before anything is kept.
        if body.size_hint().lower() > limit as u64 {
            return Err(too_large(limit));
        }
        self.read(body, limit, deadline).await?.ok_or_else(|| too_large(limit))
    }

    /// The body as the route reads it. A raw one stays as it was sent, encoding and all.
    fn readable(&self, route: &Route, headers: &HeaderMap, body: Bytes) -> Result<Bytes, Fault> {
        if body.is_empty() || route.request.is_raw() {
            return Ok(body);
        }
        let limit = self.body_bytes_max(route);
        let bytes = unpacked(headers, body, limit).map_err(|why| match why {
            Unpacking::TooLarge => too_large(limit),
            Unpacking::Malformed => Fault::new(Reason::BodyMalformed, "The body is not what gzip makes."),
            Unpacking::Unknown => {
                Fault::new(Reason::UnsupportedMediaType, "The body may be encoded with gzip only.")
                    .violating("Content-Encoding", "must be gzip or identity")
            }
        })?;
        if !bytes.is_empty() && !is_json(headers) {
            let message = "The body must be JSON: send the header `Content-Type: application/json`.";
            return Err(Fault::new(Reason::UnsupportedMediaType, message)
                .violating("Content-Type", "must be application/json"));
        }
        Ok(bytes)
    }

    /// The body, or `None` where it is larger than it may be. It must keep arriving: who sends a byte now
    /// and then would otherwise hold a place until the deadline.
    async fn read(
        &self,
        body: &mut Incoming,
        limit: usize,
        deadline: Instant,
    ) -> Result<Option<Bytes>, Fault> {
        let began = Instant::now();
        let mut all = BytesMut::new();
        loop {
            let earned = Duration::from_secs(1) * u32::try_from(all.len()).unwrap_or(u32::MAX)
                / self.limits.body_rate_min.max(1);
            let patience = (began + self.limits.body_grace + earned).min(deadline);
            let frame = tokio::time::timeout_at(patience.into(), body.frame()).await;
            let frame =
                frame.map_err(|_| Fault::new(Reason::RequestTimeout, "The body did not arrive in time."))?;
            let ended = |_| Fault::new(Reason::BodyMalformed, "The body ended before its length.");
            let Some(frame) = frame.transpose().map_err(ended)? else { return Ok(Some(all.freeze())) };
            // Trailers mean nothing here.
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > limit - all.len() {
                return Ok(None);
            }
            if all.is_empty() && body.is_end_stream() {
                return Ok(Some(data));
            }
            all.extend_from_slice(&data);
        }
    }
}

/// The request's span, where its trace is recorded. Otherwise its scope is enough for the log.
fn span(route: &Route, caller: &Caller, principal: Option<&Principal>) -> Span {
    if !telemetry::is_recorded(caller.trace) {
        return Span::none();
    }
    // At this level it is there, however little is logged.
    let span = tracing::error_span!(
        "edge",
        rpc = &*route.rpc,
        request_id = &*caller.request_id,
        trace_id = format_args!("{:032x}", caller.trace.trace_id),
        tenant = principal.map(|principal| principal.tenant.as_str()),
        credential = principal.map(|principal| &*principal.credential),
    );
    telemetry::adopt(&span, caller.trace);
    span
}

fn too_large(limit: usize) -> Fault {
    Fault::new(Reason::BodyTooLarge, format!("The body is larger than {limit} bytes."))
        .violating("body", format!("must be at most {limit} bytes"))
}

/// How long the body of a request that is refused for this is read on. Who is not known waits no longer than
/// it takes to read what has arrived, and who did not send it in time has waited enough.
fn patience(reason: Reason, is_known: bool) -> Duration {
    match reason {
        Reason::RequestTimeout => Duration::ZERO,
        Reason::Overloaded | Reason::RateLimited => SHED_DISCARD_DEADLINE,
        _ if !is_known => SHED_DISCARD_DEADLINE,
        _ => DISCARD_DEADLINE,
    }
}

/// Reads on for a while and keeps nothing. A connection that is closed with unread bytes in it is reset,
/// and then the client might never learn why it was refused (RFC 9112, section 9.6).
async fn discard(body: &mut Incoming, patience: Duration) {
    let reading = async {
        let mut left = DISCARDED_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(still) = left.checked_sub(length) else { return };
            left = still;
        }
    };
    let _ = tokio::time::timeout(patience, reading).await;
}

/// A fault, with a header that goes with it: `Allow` of a 405, or what a credential lacks.
struct Refusal {
    fault: Fault,
    /// Boxed: nearly every answer is none of these.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl From<Refused> for Refusal {
    fn from(Refused { fault, challenge }: Refused) -> Self {
        Self { fault, header: challenge.map(|value| Box::new((header::WWW_AUTHENTICATE, value))) }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let documents = fault.reason() == Reason::MethodNotAllowed;
        let allow = documents.then(|| Box::new((header::ALLOW, HeaderValue::from_static("GET, HEAD"))));
        Self { fault, header: allow }
    }
}

fn no_route(no_match: NoMatch) -> Refusal {
    match no_match {
        NoMatch::NotFound => Fault::new(
            Reason::RouteNotFound,
            "There is nothing at this path; /openapi.json lists what there is.",
        )
        .into(),
        NoMatch::MethodNotAllowed(methods) => {
            let mut names: Vec<&str> = methods.iter().map(Method::as_str).collect();
            if names.contains(&"GET") {
                names.push("HEAD");
            }
            let names = names.join(", ");
            let allow = HeaderValue::from_str(&names).ok();
            Refusal {
                fault: Fault::new(Reason::MethodNotAllowed, format!("This path takes {names}.")),
                header: allow.map(|value| Box::new((header::ALLOW, value))),
            }
        }
    }
}

fn deadline_exceeded() -> Fault {
    Fault::new(Reason::DeadlineExceeded, "The request took longer than its deadline.")
}

fn unreachable_upstream() -> Fault {
    Fault::new(Reason::Unavailable, "A service that is needed cannot be reached now; try again.")
        .retry_after_s(1)
}

fn plain(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    *response.headers_mut() = HeaderMap::with_capacity(ANSWER_HEADERS);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer to HEAD: the headers of GET, its length included, and no body.
fn without_body(answer: Answer) -> Answer {
    let (mut parts, body) = answer.into_parts();
    // A 304 or 204 has no body with GET either, and its length would be taken for that of a 200.
    let bodiless = matches!(parts.status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT);
    if let (Some(length), false) = (body.size_hint().exact(), bodiless) {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, full(Bytes::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_a_stranger_and_a_late_one_are_not_waited_for() {
        assert_eq!(patience(Reason::InvalidRequest, true), DISCARD_DEADLINE);
        for (reason, is_known) in [
            (Reason::Unauthenticated, false),
            (Reason::MethodNotAllowed, false),
            (Reason::BodyTooLarge, false),
            (Reason::RateLimited, true),
        ] {
            assert_eq!(patience(reason, is_known), SHED_DISCARD_DEADLINE, "{reason:?}");
        }
        assert_eq!(patience(Reason::RequestTimeout, true), Duration::ZERO);
    }
}
