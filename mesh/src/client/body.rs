//! Requests as they are sent: one message that can be sent again, or a stream that cannot.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame};
use tonic::{Status, body::Body};

/// A request's body on its way into a connection.
pub(super) enum RequestBody {
    /// One framed message. It ends its stream in the same frame.
    Whole(Option<Bytes>),
    /// Whatever the caller sends as it goes.
    Stream(Body),
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            Self::Whole(message) => Poll::Ready(message.take().map(|message| Ok(Frame::data(message)))),
            Self::Stream(body) => Pin::new(body).poll_frame(context),
        }
    }

    // No size hint: hyper would make a header of it, which gRPC has no use for.
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(message) => message.is_none(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }
}

/// A request before its first attempt.
pub(super) enum Message {
    Whole(Bytes),
    /// Gone once it was handed out.
    Stream(Option<Body>),
}

impl Message {
    /// Reads a body that is one message; it is there already.
    pub(super) async fn whole(mut body: Body) -> Result<Self, Status> {
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if first.is_empty() {
                first = data;
            } else {
                rest.extend_from_slice(&data);
            }
        }
        if rest.is_empty() {
            return Ok(Self::Whole(first));
        }
        Ok(Self::Whole([first, rest.freeze()].concat().into()))
    }

    /// A body for one more attempt; `None` where there was one already and it cannot be sent again.
    pub(super) fn attempt(&mut self) -> Option<RequestBody> {
        match self {
            Self::Whole(message) => Some(RequestBody::Whole(Some(message.clone()))),
            Self::Stream(body) => body.take().map(RequestBody::Stream),
        }
    }

    /// Takes back what was not sent.
    pub(super) fn put_back(&mut self, unsent: RequestBody) {
        if let (Self::Stream(place), RequestBody::Stream(body)) = (self, unsent) {
            *place = Some(body);
        }
    }

    /// Whether there is something left to send.
    pub(super) fn can_be_sent(&self) -> bool {
        matches!(self, Self::Whole(_) | Self::Stream(Some(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_can_be_sent_again_and_a_stream_cannot() {
        let body = Body::new(http_body_util::Full::new(Bytes::from_static(b"abc")));
        let mut message = Message::whole(body).await.unwrap();
        for _ in 0..2 {
            let mut attempt = message.attempt().unwrap();
            assert!(!attempt.is_end_stream());
            let frame = attempt.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "abc");
            assert!(attempt.is_end_stream(), "one frame and the end of the stream with it");
        }
        let mut stream = Message::Stream(Some(Body::empty()));
        let unsent = stream.attempt().unwrap();
        assert!(stream.attempt().is_none() && !stream.can_be_sent());
        stream.put_back(unsent);
        assert!(stream.can_be_sent() && stream.attempt().is_some());
    }
}
