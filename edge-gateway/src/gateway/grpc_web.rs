//! gRPC-web (PROTOCOL-WEB.md of gRPC): the RPCs that have a route, called by the messages that they take and
//! give. A browser cannot read HTTP's trailers: they are the body's last frame.
//!
//! Who may call what is none of this: a request goes the way of every other, and only the ends of it differ.
//! Messages pass through unread. Raw bytes (`google.api.HttpBody`) have no form here: whoever signs them
//! signs an HTTP body.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut as _, Bytes};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Either};
use hyper::body::{Body, Frame};
use mesh::{
    Fault, Reason,
    call::{GRPC_TIMEOUT, IDEMPOTENCY_REPLAYED_HEADER, parse_timeout},
};
use tonic::{Status, Streaming, codegen::tokio_stream::Stream};

use super::{Caller, Gateway, Refusal, deadline_exceeded, plain, too_large};
use crate::{
    body::{Answer, StreamError},
    stream::StreamPlace,
    transcode::{Match, NoMatch, Route, Transcoder},
};

/// A frame's flags and the length of what follows.
const HEAD_BYTES: usize = 5;
const FLAG_COMPRESSED: u8 = 1;
const FLAG_TRAILERS: u8 = 0x80;

/// The RPCs that can be called so.
pub(crate) struct GrpcWeb {
    /// By path, the index of a route that leads to it. None where gRPC-web is switched off.
    routes: HashMap<String, usize>,
}

impl GrpcWeb {
    pub(crate) fn new(enabled: bool, api: &Transcoder) -> Self {
        let routes = api.routes().iter().enumerate();
        let offered =
            routes.filter(|(_, route)| enabled && !route.request.is_raw() && !route.response.is_raw());
        Self { routes: offered.map(|(index, route)| (route.grpc_path.path().to_owned(), index)).collect() }
    }

    /// The form in which a request asks to be answered, where it is one of gRPC-web.
    pub(super) fn asked(&self, parts: &Parts) -> Option<WebForm> {
        if self.routes.is_empty() || parts.method != Method::POST {
            return None;
        }
        let content_type = parts.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |names: [&str; 2]| names.iter().any(|name| essence.eq_ignore_ascii_case(name));
        if is(["application/grpc-web", "application/grpc-web+proto"]) {
            Some(WebForm::Binary)
        } else if is(["application/grpc-web-text", "application/grpc-web-text+proto"]) {
            Some(WebForm::Text)
        } else {
            None
        }
    }

    /// The RPC at `/<package>.<Service>/<Method>`.
    pub(super) fn find<'a>(
        &self,
        api: &'a Transcoder,
        path: &str,
    ) -> Result<(&'a Route, Match<'static>), NoMatch> {
        let target = *self.routes.get(path).ok_or(NoMatch::NotFound)?;
        Ok((&api.routes()[target], Match { target, captures: Vec::new() }))
    }
}

/// How frames are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WebForm {
    Binary,
    /// In base64, for clients that cannot read bytes as they come.
    Text,
}

impl WebForm {
    fn content_type(self) -> &'static str {
        match self {
            Self::Binary => "application/grpc-web+proto",
            Self::Text => "application/grpc-web-text+proto",
        }
    }

    /// The largest body that a message of this length makes.
    pub(super) fn body_bytes_max(self, message_max: usize) -> usize {
        let framed = message_max.saturating_add(HEAD_BYTES);
        match self {
            Self::Binary => framed,
            Self::Text => framed.div_ceil(3).saturating_mul(4),
        }
    }

    /// The one message of a body.
    pub(super) fn message(self, headers: &HeaderMap, body: Bytes, max: usize) -> Result<Bytes, Fault> {
        let wrong = |rule| {
            Fault::new(Reason::BodyMalformed, "The body is not one frame of gRPC-web.")
                .violating("body", rule)
        };
        if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(Fault::new(
                Reason::UnsupportedMediaType,
                "The frames of gRPC-web are sent as they are.",
            )
            .violating("Content-Encoding", "must be identity"));
        }
        let frames = match self {
            Self::Binary => body,
            Self::Text => decoded(&body).ok_or_else(|| wrong("must be base64"))?.into(),
        };
        let Some(([flags, length @ ..], message)) = frames.split_first_chunk::<HEAD_BYTES>() else {
            return Err(wrong("must hold a message"));
        };
        match *flags {
            0 => {}
            FLAG_COMPRESSED => {
                return Err(Fault::new(Reason::Unimplemented, "Compressed messages are not taken."));
            }
            _ => return Err(wrong("must hold a message and nothing else")),
        }
        if usize::try_from(u32::from_be_bytes(*length)) != Ok(message.len()) {
            return Err(wrong("must hold exactly one message, as long as its frame says"));
        }
        if message.len() > max {
            return Err(too_large(max));
        }
        Ok(frames.slice(HEAD_BYTES..))
    }

    fn written(self, frames: Vec<u8>) -> Bytes {
        match self {
            Self::Binary => frames.into(),
            Self::Text => STANDARD.encode(frames).into(),
        }
    }

    /// The answer that a fault is before there is any message: the trailers are headers. When to come back
    /// is said as it is in a problem, too.
    pub(super) fn refused(self, fault: Fault) -> Answer {
        let meant = StatusCode::from_u16(fault.reason().http_status());
        let mut answer = plain(StatusCode::OK, self.content_type(), Bytes::new());
        if let Some(seconds) = fault.retry_after() {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer.headers_mut().extend(trailers(&fault.into()));
        answer.extensions_mut().insert(Meant(meant.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)));
        answer
    }
}

/// What the HTTP status of a refusal would be, had it not to be 200.
#[derive(Debug, Clone, Copy)]
struct Meant(StatusCode);

/// The status of an answer for metrics and logs.
pub(super) fn meant(answer: &Answer) -> StatusCode {
    answer.extensions().get::<Meant>().map_or(answer.status(), |meant| meant.0)
}

/// The client's own deadline, where that is sooner.
pub(super) fn deadline(headers: &HeaderMap, began: Instant, longest: Instant) -> Result<Instant, Fault> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(longest) };
    let timeout = value.to_str().ok().and_then(parse_timeout);
    let timeout =
        timeout.ok_or_else(|| Fault::invalid("grpc-timeout", "must be up to 8 digits and a unit"))?;
    Ok(began.checked_add(timeout).map_or(longest, |deadline| deadline.min(longest)))
}

/// Base64, of which each part that was encoded by itself may end with its padding.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut rest = text;
    while !rest.is_empty() {
        let padding = rest.iter().position(|byte| *byte == b'=');
        let end = padding.map_or(rest.len(), |at| rest.len().min((at / 4 + 1) * 4));
        let (part, further) = rest.split_at(end);
        STANDARD.decode_vec(part, &mut bytes).ok()?;
        rest = further;
    }
    Some(bytes)
}

fn put_frame(out: &mut Vec<u8>, flags: u8, content: &[u8]) {
    out.put_u8(flags);
    // A message of more than 4 GiB would not have been read.
    out.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
    out.put_slice(content);
}

/// A status as the fields that it is.
fn trailers(status: &Status) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if status.add_header(&mut fields).is_err() {
        fields.insert(Status::GRPC_STATUS, HeaderValue::from(status.code() as i32));
    }
    fields
}

fn put_trailers(out: &mut Vec<u8>, status: &Status) {
    let mut lines = Vec::new();
    for (name, value) in &trailers(status) {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.push(b':');
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    put_frame(out, FLAG_TRAILERS, &lines);
}

impl Gateway {
    /// One message, one answer.
    pub(super) async fn web_unary(
        &self,
        form: WebForm,
        route: &Route,
        request: tonic::Request<Bytes>,
        deadline: Instant,
    ) -> Result<Answer, Refusal> {
        let (message, replayed) = self.unary(route, request, deadline).await?;
        let mut frames = Vec::with_capacity(message.len() + 32);
        put_frame(&mut frames, 0, &message);
        put_trailers(&mut frames, &Status::ok(""));
        let mut answer = plain(StatusCode::OK, form.content_type(), form.written(frames));
        if replayed {
            answer.headers_mut().insert(IDEMPOTENCY_REPLAYED_HEADER, HeaderValue::from_static("true"));
        }
        Ok(answer)
    }

    /// One message, and a stream of answers.
    pub(super) async fn web_stream(
        &self,
        form: WebForm,
        route: &Route,
        request: tonic::Request<Bytes>,
        (caller, deadline): (&Caller, Instant),
        place: StreamPlace,
    ) -> Result<Answer, Refusal> {
        let opening = self.streaming(route, request);
        let opened = tokio::time::timeout_at(caller.deadline.min(deadline).into(), opening).await;
        let messages = opened.map_err(|_| deadline_exceeded())??;
        let body = Frames {
            form,
            messages,
            over: self.streams.timing(caller.began).over(),
            done: false,
            rpc: Arc::clone(&route.rpc),
            _place: place,
        };
        let mut answer = plain(StatusCode::OK, form.content_type(), Bytes::new());
        *answer.body_mut() = Either::Right(body.boxed_unsync());
        // For proxies that would gather a stream before they pass it on.
        answer.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(answer)
    }
}

/// A stream's messages, and its trailers at the end. A message is asked for only when the connection can take
/// it.
struct Frames {
    form: WebForm,
    messages: Streaming<Bytes>,
    /// The stream's longest duration, or the drain.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    done: bool,
    rpc: Arc<str>,
    _place: StreamPlace,
}

impl Frames {
    fn end(&mut self, fault: Option<Fault>) -> Bytes {
        self.done = true;
        if let Some(fault) = &fault {
            tracing::debug!(rpc = &*self.rpc, reason = fault.reason().as_str(), "a stream failed");
        }
        let mut frame = Vec::new();
        put_trailers(&mut frame, &fault.map_or_else(|| Status::ok(""), Status::from));
        self.form.written(frame)
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let bytes = if self.over.as_mut().poll(context).is_ready() {
            // OK would say that there is nothing more to come.
            let message = "The stream has lasted as long as it may, or the edge stops; ask again.";
            self.end(Some(Fault::new(Reason::Unavailable, message)))
        } else {
            match ready!(Pin::new(&mut self.messages).poll_next(context)) {
                Some(Ok(message)) => {
                    let mut frame = Vec::with_capacity(message.len() + HEAD_BYTES);
                    put_frame(&mut frame, 0, &message);
                    self.form.written(frame)
                }
                Some(Err(status)) => self.end(Some(Fault::from_status(&status))),
                None => self.end(None),
            }
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}
