//! The call to a service, and its answer in HTTP's form: JSON, raw bytes, or a stream of either.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use mesh::{Fault, Reason, Upstream, call::IDEMPOTENCY_REPLAYED_HEADER};
use std::{sync::Arc, time::Instant};
use tonic::Streaming;

use super::{Caller, Gateway, Refusal, deadline_exceeded, plain, unreachable_upstream};
use crate::{
    body::Answer,
    codec::RawCodec,
    stream::{Form, MessageStream, StreamPlace},
    transcode::{RawBody, Route},
};

impl Gateway {
    fn client(&self, route: &Route) -> Result<tonic::client::Grpc<Upstream>, Fault> {
        // One exists for every route: see `Edge::build`.
        let upstreams = if route.streaming { &self.streaming_upstreams } else { &self.upstreams };
        let upstream = upstreams.get(&route.upstream).ok_or_else(unreachable_upstream)?;
        let client = tonic::client::Grpc::new(upstream.clone());
        Ok(client.max_decoding_message_size(mesh::client::ANSWER_BYTES_MAX))
    }

    /// The answer's message, and whether it was given before, under the same idempotency key.
    pub(super) async fn unary(
        &self,
        route: &Route,
        request: tonic::Request<Bytes>,
        deadline: Instant,
    ) -> Result<(Bytes, bool), Fault> {
        let mut client = self.client(route)?;
        let calling = async {
            client.ready().await.map_err(|_| unreachable_upstream())?;
            let answer = client.unary(request, route.grpc_path.clone(), RawCodec).await;
            answer.map_err(|status| Fault::from_status(&status))
        };
        let answer =
            tokio::time::timeout_at(deadline.into(), calling).await.map_err(|_| deadline_exceeded())??;
        let (metadata, message, _) = answer.into_parts();
        let replayed =
            metadata.get(IDEMPOTENCY_REPLAYED_HEADER.as_str()).is_some_and(|value| value == "true");
        Ok((message, replayed))
    }

    /// The messages of a stream that the service has accepted.
    pub(super) async fn streaming(
        &self,
        route: &Route,
        request: tonic::Request<Bytes>,
    ) -> Result<Streaming<Bytes>, Fault> {
        let mut client = self.client(route)?;
        client.ready().await.map_err(|_| unreachable_upstream())?;
        let answer = client.server_streaming(request, route.grpc_path.clone(), RawCodec).await;
        Ok(answer.map_err(|status| Fault::from_status(&status))?.into_inner())
    }

    /// One message, one answer.
    pub(super) async fn forward(
        &self,
        route: &Route,
        request: tonic::Request<Bytes>,
        caller: &Caller,
    ) -> Result<Answer, Refusal> {
        let (message, replayed) = self.unary(route, request, caller.deadline).await?;
        let mut answer = if route.response.is_raw() {
            let RawBody { content_type, data } =
                route.response.raw(&message).map_err(|_| unreadable(route))?;
            let mut answer = plain(StatusCode::OK, OCTETS, data);
            set_content_type(answer.headers_mut(), &content_type);
            answer
        } else {
            let json = route.response.decode(&self.api.schema, &message).map_err(|_| unreadable(route))?;
            plain(StatusCode::OK, "application/json", json)
        };
        if replayed {
            answer.headers_mut().insert(IDEMPOTENCY_REPLAYED_HEADER, HeaderValue::from_static("true"));
        }
        Ok(answer)
    }

    /// One message, and a stream of answers. Its headers go out as soon as the service has accepted the
    /// call (of raw bytes: with the first of them, which says their type); what goes wrong before that is a
    /// problem with its own status, what goes wrong afterwards is said in the stream.
    pub(super) async fn forward_stream(
        &self,
        index: usize,
        request: tonic::Request<Bytes>,
        headers: &HeaderMap,
        caller: &Caller,
        place: StreamPlace,
    ) -> Result<Answer, Refusal> {
        let route = &self.api.routes()[index];
        let calling = async {
            let mut messages = self.streaming(route, request).await?;
            let first = if route.response.is_raw() {
                messages.message().await.map_err(|status| Fault::from_status(&status))?
            } else {
                None
            };
            Ok::<_, Fault>((messages, first))
        };
        let (messages, first) = tokio::time::timeout_at(caller.deadline.into(), calling)
            .await
            .map_err(|_| deadline_exceeded())??;
        let form = if route.response.is_raw() { Form::Raw } else { Form::wanted(headers) };
        let first = first.map(|first| route.response.raw(&first)).transpose();
        let first = first.map_err(|_| unreadable(route))?;
        let content_type = first.as_ref().map(|first| first.content_type.clone()).unwrap_or_default();
        let stream = MessageStream::new(
            (Arc::clone(&self.api), index),
            form,
            (first.map(|first| first.data), messages),
            self.streams.timing(caller.began),
            Arc::clone(&caller.request_id),
            place,
        );
        let mut answer = plain(StatusCode::OK, form.content_type(), Bytes::new());
        *answer.body_mut() = stream.into_body();
        if form == Form::Raw {
            set_content_type(answer.headers_mut(), &content_type);
        }
        // For proxies that would gather a stream before they pass it on.
        answer.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(answer)
    }
}

/// What bytes of no particular type are.
const OCTETS: &str = "application/octet-stream";

/// Takes over the type that the service says, if it is one.
fn set_content_type(headers: &mut HeaderMap, content_type: &str) {
    let said = HeaderValue::from_str(content_type).ok().filter(|said| !said.is_empty());
    headers.insert(header::CONTENT_TYPE, said.unwrap_or_else(|| HeaderValue::from_static(OCTETS)));
}

fn unreadable(route: &Route) -> Fault {
    tracing::error!(rpc = &*route.rpc, "an answer could not be read");
    Fault::new(Reason::Internal, "Something went wrong on our side.")
}
