//! The body of a stream's answer. An RPC that answers with a stream is not over when its handler is: until the
//! last message it is under way, has its deadline, its scope and span, and its panics are kept to it. Its code
//! is the one that comes last.
//!
//! The answer of a unary RPC is one message that is there already, and goes out as it is.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_TYPE};
use hyper::body::{Body as _, Frame};
use tonic::{Code, Status, body::Body};

use crate::{
    drain::Drain,
    fault::Fault,
    panic_guard,
    scope::within,
    stack::{Surroundings, UnderWay, code_in, panicked, refused, too_late},
    turn::Turn,
};

/// A stream's messages, on their way.
pub(crate) struct Streamed {
    body: Body,
    under_way: UnderWay,
    around: Surroundings,
    parting: Parting,
    /// Ours while a message is waited for, and not while one waits to be taken.
    turn: Option<Turn>,
    is_over: bool,
}

impl Streamed {
    /// The messages of `body`. With `parting` the stream ends once that begins and there is nothing left to
    /// say.
    pub(crate) fn new(
        body: Body,
        under_way: UnderWay,
        around: Surroundings,
        parting: Option<Drain>,
        turn: Option<Turn>,
    ) -> Self {
        let begins = parting.map(|parting| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move { parting.started().await })
        });
        let parting = Parting { begins, has_begun: false };
        Self { body, under_way, around, parting, turn, is_over: false }
    }

    fn end(&mut self, code: Code) {
        self.is_over = true;
        let trace_id = self.around.recorded_trace();
        self.under_way.answered(code, trace_id);
        within(&mut self.around.scope, || tracing::debug!(?code, "a stream ended"));
    }

    /// Ends the stream ourselves, with what it says being given up.
    fn give_up(&mut self, fault: Fault) -> HeaderMap {
        self.drop_body();
        let mut trailers = refused(fault).into_parts().0.headers;
        trailers.remove(CONTENT_TYPE);
        self.end(code_in(&trailers).unwrap_or(Code::Unknown));
        trailers
    }

    /// What the handler's stream has to say at its end is said with its request's ids, and may panic, too.
    fn drop_body(&mut self) {
        let Self { body, around: Surroundings { scope, span, .. }, .. } = self;
        let body = std::mem::take(body);
        within(scope, || {
            let _entered = span.enter();
            let _ = panic_guard::catch(|| drop(body));
        });
    }
}

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let stream = self.get_mut();
        stream.is_ours(true);
        let next = stream.next(context);
        if next.is_ready() {
            stream.is_ours(false);
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

impl Streamed {
    fn is_ours(&mut self, is_ours: bool) {
        if let Some(turn) = &mut self.turn {
            turn.ours(is_ours);
        }
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let stream = self;
        if stream.is_over {
            return Poll::Ready(None);
        }
        // Before the messages, of which there may be no end.
        if stream.around.is_too_late(context) {
            return Poll::Ready(Some(Ok(Frame::trailers(stream.give_up(too_late())))));
        }
        // Before them, too: what was to be said before the parting is then there to be read.
        let parts = stream.parting.has_begun(context);
        let Self { body, around, .. } = &mut *stream;
        let Surroundings { scope, span, .. } = around;
        let polled = within(scope, || {
            let _entered = span.enter();
            panic_guard::catch(|| Pin::new(body).poll_frame(context)).map_err(|_| panicked())
        });
        let fault = match polled {
            Ok(Poll::Ready(Some(Ok(frame)))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let code = code_in(trailers).unwrap_or(Code::Unknown);
                    stream.end(code);
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Ok(Poll::Ready(Some(Err(status)))) => {
                stream.end(status.code());
                return Poll::Ready(Some(Err(status)));
            }
            Ok(Poll::Ready(None)) => {
                // Without trailers there is no code, which is what the client makes of it, too.
                stream.end(Code::Unknown);
                return Poll::Ready(None);
            }
            Ok(Poll::Pending) if parts => Fault::stopping(""),
            Ok(Poll::Pending) => return Poll::Pending,
            Err(fault) => fault,
        };
        Poll::Ready(Some(Ok(Frame::trailers(stream.give_up(fault)))))
    }
}

/// A client that goes away ends the stream in the middle.
impl Drop for Streamed {
    fn drop(&mut self) {
        self.drop_body();
    }
}

struct Parting {
    begins: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    has_begun: bool,
}

impl Parting {
    fn has_begun(&mut self, context: &mut Context<'_>) -> bool {
        if self.begins.as_mut().is_some_and(|begins| begins.as_mut().poll(context).is_ready()) {
            (self.begins, self.has_begun) = (None, true);
        }
        self.has_begun
    }
}
