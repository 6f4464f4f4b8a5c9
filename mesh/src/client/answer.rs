//! An answer on its way to the caller. It knows when the call is over, and how it ended.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::Sleep;
use tonic::{Code, Status};

use super::{
    exchange::{Attempt, Underway},
    failure,
    said::Said,
};

/// The body of an answer. Dropped before its end, it cancels the call.
pub struct AnswerBody {
    /// Gone once the call is over early.
    incoming: Option<Incoming>,
    /// Gone once the outcome was said.
    call: Option<(Underway, Attempt)>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    pub(super) fn new(
        incoming: Incoming,
        underway: Underway,
        attempt: Attempt,
        deadline: Option<Pin<Box<Sleep>>>,
    ) -> Self {
        Self { incoming: Some(incoming), call: Some((underway, attempt)), deadline }
    }

    /// The status has come, with the headers or after the message.
    pub(super) fn ended(&mut self, said: Said) {
        if let Some((underway, attempt)) = self.call.take() {
            attempt.ended(said.code);
            underway.answered(said);
        }
        self.deadline = None;
    }

    /// The answer ends here with this code, and its own end will not come.
    fn broken_off(&mut self, code: Code) {
        if let Some((underway, attempt)) = self.call.take() {
            attempt.ended(code);
            underway.ended(code);
        }
        self.deadline = None;
    }

    /// The answer was not all there at the deadline. Of a stream that says nothing.
    fn timed_out(&mut self) {
        match self.call.take() {
            Some((underway, attempt)) if attempt.streams() => underway.ended_here(Code::DeadlineExceeded),
            call => {
                self.call = call;
                self.broken_off(Code::DeadlineExceeded);
            }
        }
        self.deadline = None;
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        match Pin::new(incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.ended(Said::in_trailers(trailers));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let status = failure::status(failure::of(&error));
                this.broken_off(status.code());
                Poll::Ready(Some(Err(status)))
            }
            Poll::Ready(None) => {
                this.broken_off(Code::Unknown);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(deadline) = &mut this.deadline else { return Poll::Pending };
                ready!(deadline.as_mut().poll(context));
                this.timed_out();
                // Dropped: the stream is reset, so that the server stops too.
                this.incoming = None;
                Poll::Ready(Some(Err(failure::deadline_exceeded())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
