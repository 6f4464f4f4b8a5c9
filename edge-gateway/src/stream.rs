//! A stream of messages as the body of an HTTP answer: server-sent events (HTML Standard, "Server-sent
//! events"), newline-delimited JSON, or raw bytes.
//!
//! A message is asked for only when the connection can take it, so a slow client slows the service down
//! and nothing piles up here. Dropping the body, as hyper does when the client goes away, cancels the RPC.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, header::ACCEPT};
use http_body_util::{BodyExt as _, Either};
use hyper::body::{Body, Frame};
use mesh::{Drain, Fault, Reason};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tonic::{Streaming, codegen::tokio_stream::Stream};

use crate::{
    body::{AnswerBody, StreamError},
    limits::TenantPlace,
    problem,
    transcode::{Route, Transcoder},
};

/// What a client with nothing to read is told, so that it and whatever is between know that it is alive.
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// The streams of this edge: how many, and how long.
pub(crate) struct Streams {
    places: Arc<Semaphore>,
    duration_max: Duration,
    heartbeat: Duration,
    drain: Drain,
}

/// A stream's places, for as long as it is open.
pub(crate) struct StreamPlace {
    _of_all: OwnedSemaphorePermit,
    _of_tenant: Option<TenantPlace>,
}

/// When things are due in one stream.
pub(crate) struct Timing {
    end: Instant,
    heartbeat: Duration,
    drain: Drain,
}

impl Streams {
    pub(crate) fn new(places: usize, duration_max: Duration, heartbeat: Duration, drain: Drain) -> Self {
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        // An hour is no heartbeat, and none at all would be a busy loop.
        let heartbeat = heartbeat.clamp(Duration::from_millis(1), Duration::from_secs(3_600));
        Self { places, duration_max, heartbeat, drain }
    }

    /// A place among the streams, or a refusal. `of_tenant` is the one that it has among its tenant's.
    pub(crate) fn enter(&self, of_tenant: Option<TenantPlace>) -> Result<StreamPlace, Fault> {
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Fault::new(Reason::Overloaded, "Too many streams are open.").retry_after_s(5))?;
        Ok(StreamPlace { _of_all: place, _of_tenant: of_tenant })
    }

    /// When a stream that began then ends at the latest.
    fn end(&self, began: Instant) -> Instant {
        began + self.duration_max
    }

    /// The deadline of its call: later, so that the stream ends by itself and not by an error.
    pub(crate) fn deadline(&self, began: Instant) -> Instant {
        self.end(began) + CALL_GRACE
    }

    pub(crate) fn timing(&self, began: Instant) -> Timing {
        Timing { end: self.end(began), heartbeat: self.heartbeat, drain: self.drain.clone() }
    }
}

impl Timing {
    /// Done when the stream has to end: after its longest duration, or with the drain.
    pub(crate) fn over(self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let Self { end, drain, .. } = self;
        Box::pin(async move {
            drain.unless_started(tokio::time::sleep_until(end.into())).await;
        })
    }
}

/// How much longer the call behind a stream may go on.
const CALL_GRACE: Duration = Duration::from_secs(5);

/// How messages are written one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `text/event-stream`
    Events,
    /// `application/x-ndjson`
    Lines,
    /// The bytes of `google.api.HttpBody`.
    Raw,
}

impl Form {
    /// Events where the client asks for them, else lines.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let events = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("text/event-stream"));
            // A weight of nothing means "not acceptable" (RFC 9110, section 12.4.2).
            named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        };
        if ranges.flat_map(|value| value.split(',')).any(events) { Self::Events } else { Self::Lines }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream",
            Self::Lines => "application/x-ndjson",
            Self::Raw => "application/octet-stream",
        }
    }
}

/// The body.
pub(crate) struct MessageStream {
    api: Arc<Transcoder>,
    /// By index in the API.
    route: usize,
    form: Form,
    /// Read already, and not sent yet.
    first: Option<Bytes>,
    messages: Streaming<Bytes>,
    heartbeat_after: Duration,
    heartbeat: Pin<Box<Sleep>>,
    /// The stream's longest duration, or the drain.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    request_id: Arc<str>,
    done: bool,
    _place: StreamPlace,
}

impl MessageStream {
    pub(crate) fn new(
        (api, route): (Arc<Transcoder>, usize),
        form: Form,
        (first, messages): (Option<Bytes>, Streaming<Bytes>),
        timing: Timing,
        request_id: Arc<str>,
        place: StreamPlace,
    ) -> Self {
        let heartbeat = timing.heartbeat;
        Self {
            api,
            route,
            form,
            first,
            messages,
            heartbeat_after: heartbeat,
            heartbeat: Box::pin(tokio::time::sleep(heartbeat)),
            end: timing.over(),
            request_id,
            done: false,
            _place: place,
        }
    }

    pub(crate) fn into_body(self) -> AnswerBody {
        Either::Right(self.boxed_unsync())
    }

    fn route(&self) -> &Route {
        &self.api.routes()[self.route]
    }

    /// A message as it is sent.
    fn written(&self, message: &Bytes) -> Result<Bytes, Fault> {
        let unreadable = |_| {
            tracing::error!(rpc = &*self.route().rpc, "a message of a stream could not be read");
            Fault::new(Reason::Internal, "Something went wrong on our side.")
        };
        let (plan, schema) = (&self.route().response, &self.api.schema);
        if self.form == Form::Raw {
            return Ok(plan.raw(message).map_err(unreadable)?.data);
        }
        let json = plan.decode(schema, message).map_err(unreadable)?;
        let mut out = Vec::with_capacity(json.len() + 48);
        if self.form == Form::Events {
            if let Some(id) = plan.event_id(schema, message).map_err(unreadable)? {
                out.extend_from_slice(b"id: ");
                out.extend_from_slice(id.as_bytes());
                out.push(b'\n');
            }
            // JSON as it is written here has no line breaks.
            out.extend_from_slice(b"data: ");
        }
        out.extend_from_slice(&json);
        out.extend_from_slice(if self.form == Form::Events { b"\n\n" } else { b"\n" });
        Ok(out.into())
    }

    /// The last thing that is said in a stream that fails.
    fn failed(&self, fault: &Fault) -> Result<Bytes, StreamError> {
        tracing::debug!(rpc = &*self.route().rpc, reason = fault.reason().as_str(), "a stream failed");
        let problem = problem::json(fault, &self.request_id);
        let (before, after): (&[u8], &[u8]) = match self.form {
            Form::Events => (b"event: error\ndata: ", b"\n\n"),
            Form::Lines => (b"{\"error\":", b"}\n"),
            // Bytes have no place for it: the client sees that the body is not whole.
            Form::Raw => return Err(io::Error::other("the service did not finish its answer")),
        };
        Ok([before, &problem, after].concat().into())
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.done || self.end.as_mut().poll(context).is_ready() {
            self.done = true;
            return Poll::Ready(None);
        }
        let fault = match Pin::new(&mut self.messages).poll_next(context) {
            Poll::Ready(Some(Ok(message))) => match self.written(&message) {
                Ok(frame) => {
                    self.rest_heartbeat();
                    return Poll::Ready(Some(Ok(frame)));
                }
                Err(fault) => fault,
            },
            Poll::Ready(Some(Err(status))) => Fault::from_status(&status),
            Poll::Ready(None) => {
                self.done = true;
                return Poll::Ready(None);
            }
            Poll::Pending if self.form == Form::Events => {
                ready!(self.heartbeat.as_mut().poll(context));
                self.rest_heartbeat();
                return Poll::Ready(Some(Ok(HEARTBEAT)));
            }
            Poll::Pending => return Poll::Pending,
        };
        self.done = true;
        Poll::Ready(Some(self.failed(&fault)))
    }

    fn rest_heartbeat(&mut self) {
        let next = tokio::time::Instant::now() + self.heartbeat_after;
        self.heartbeat.as_mut().reset(next);
    }
}

impl Body for MessageStream {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let message = ready!(self.poll_message(context));
        Poll::Ready(message.map(|message| message.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn events_are_for_those_who_ask_for_them() {
        for (accept, expected) in [
            ("text/event-stream", Form::Events),
            ("application/json, Text/Event-Stream; q=0.5", Form::Events),
            ("text/event-stream;q=0", Form::Lines),
            ("application/x-ndjson", Form::Lines),
            ("*/*", Form::Lines),
            ("text/*", Form::Lines),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Form::wanted(&headers), expected, "{accept}");
        }
        assert_eq!(Form::wanted(&HeaderMap::new()), Form::Lines);
    }

    #[test]
    fn places_are_bounded() {
        let second = Duration::from_secs(1);
        let streams = Streams::new(1, second, second, Drain::new());
        let place = streams.enter(None).unwrap();
        assert_eq!(streams.enter(None).err().unwrap().reason(), Reason::Overloaded);
        drop(place);
        assert!(streams.enter(None).is_ok());
    }

    /// One gRPC frame: not compressed, its length, the message.
    fn framed(message: &[u8]) -> Bytes {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], message].concat().into()
    }

    /// An API with one RPC that streams raw bytes.
    fn raw_api() -> Arc<Transcoder> {
        let dir = tempfile::tempdir().unwrap();
        let source = "syntax = \"proto3\"; package paymesh.sample.v1;
            import \"google/api/annotations.proto\"; import \"google/api/httpbody.proto\";
            import \"paymesh/options/v1/options.proto\";
            service Sample {
              rpc Download(Asked) returns (stream google.api.HttpBody) {
                option (google.api.http) = {get: \"/v1/files/{name}\"};
              }
            }
            message Asked { string name = 1; }";
        std::fs::write(dir.path().join("raw.proto"), source).unwrap();
        let contract = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
        let mut compiler = protox::Compiler::new([dir.path(), contract.as_ref()]).unwrap();
        compiler.include_imports(true).open_file("raw.proto").unwrap();
        let set = compiler.encode_file_descriptor_set();
        let pool = prost_reflect::DescriptorPool::decode(set.as_slice()).unwrap();
        Arc::new(Transcoder::new(&pool).unwrap())
    }

    async fn raw_body(code: &'static str) -> Result<Bytes, StreamError> {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        // HttpBody { data: "two" }: field 2, three bytes.
        let frames = [Frame::data(framed(b"\x12\x03two")), Frame::trailers(trailers)];
        let frames = tonic::codegen::tokio_stream::iter(frames.map(Ok::<_, tonic::Status>));
        let body = http_body_util::StreamBody::new(frames);
        let messages =
            Streaming::new_response(crate::codec::RawCodec, body, http::StatusCode::OK, None, None);
        let hour = Duration::from_secs(3_600);
        let streams = Streams::new(1, hour, hour, Drain::new());
        let stream = MessageStream::new(
            (raw_api(), 0),
            Form::Raw,
            (Some(Bytes::from_static(b"one ")), messages),
            streams.timing(Instant::now()),
            "req-1".into(),
            streams.enter(None).unwrap(),
        );
        stream.collect().await.map(http_body_util::Collected::to_bytes)
    }

    #[tokio::test]
    async fn raw_bytes_come_one_after_another_and_broken_off_is_not_whole() {
        assert_eq!(raw_body("0").await.unwrap(), "one two");
        assert!(raw_body("14").await.is_err());
    }
}
