//! What one connection has come to: its requests, those that its client gave up, and answers that it does
//! not take. Pure: whoever holds it says when time has passed.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::Either;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

use crate::body::AnswerBody;

/// One connection's counts. All are of this connection alone and none guards another: relaxed.
#[derive(Debug)]
pub(crate) struct Watch {
    requested: AtomicBool,
    answered: AtomicU32,
    given_up: AtomicU32,
    resets_max: u32,
    /// Told once the client has given up too many requests.
    pub(crate) abused: Notify,
    under_way: AtomicUsize,
    /// Answers that the client has not taken yet, by whether they are of an even or an odd turn.
    untaken: [AtomicUsize; 2],
    turn: AtomicUsize,
    quiet_turns: AtomicUsize,
}

impl Watch {
    pub(crate) fn new(resets_max: u32) -> Arc<Self> {
        Arc::new(Self {
            requested: AtomicBool::new(false),
            answered: AtomicU32::new(0),
            given_up: AtomicU32::new(0),
            resets_max,
            abused: Notify::new(),
            under_way: AtomicUsize::new(0),
            untaken: [AtomicUsize::new(0), AtomicUsize::new(0)],
            turn: AtomicUsize::new(0),
            quiet_turns: AtomicUsize::new(0),
        })
    }

    /// Whether there was a request at all.
    pub(crate) fn has_requested(&self) -> bool {
        self.requested.load(Relaxed)
    }

    /// A request is under way until the guard is dropped; unless it was answered by then, its client has
    /// given it up.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        self.requested.store(true, Relaxed);
        self.quiet_turns.store(0, Relaxed);
        self.under_way.fetch_add(1, Relaxed);
        UnderWay { watch: Arc::clone(self), answered: false }
    }

    /// A turn of time has passed. Whether an answer has been waiting for the client for all of it.
    pub(crate) fn turn(&self) -> bool {
        let next = (self.turn.load(Relaxed) + 1) % 2;
        let waiting = self.untaken[next].load(Relaxed) > 0;
        self.turn.store(next, Relaxed);
        waiting
    }

    fn counter(&self, counted: Counted) -> &AtomicUsize {
        match counted {
            Counted::Untaken(turn) => &self.untaken[turn],
            Counted::Streaming => &self.under_way,
        }
    }

    /// For how many turns there has been nothing to do.
    pub(crate) fn quiet_turns(&self) -> usize {
        let busy = self.under_way.load(Relaxed) > 0 || self.untaken.iter().any(|open| open.load(Relaxed) > 0);
        if busy {
            self.quiet_turns.store(0, Relaxed);
            return 0;
        }
        self.quiet_turns.fetch_add(1, Relaxed) + 1
    }
}

/// A request under way.
pub(crate) struct UnderWay {
    watch: Arc<Watch>,
    answered: bool,
}

impl UnderWay {
    /// There is an answer: its body, which knows when the client has taken it.
    pub(crate) fn answered(mut self, body: AnswerBody) -> Watched {
        self.answered = true;
        self.watch.answered.fetch_add(1, Relaxed);
        let counted = match body {
            Either::Left(_) => Counted::Untaken(self.watch.turn.load(Relaxed)),
            Either::Right(_) => Counted::Streaming,
        };
        self.watch.counter(counted).fetch_add(1, Relaxed);
        Watched { body, watch: Arc::clone(&self.watch), counted }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.watch.under_way.fetch_sub(1, Relaxed);
        if self.answered {
            return;
        }
        let given_up = self.watch.given_up.fetch_add(1, Relaxed) + 1;
        if given_up > self.watch.resets_max && given_up > self.watch.answered.load(Relaxed) {
            self.watch.abused.notify_one();
        }
    }
}

/// As what an answer is counted.
#[derive(Debug, Clone, Copy)]
enum Counted {
    /// In hand since that turn.
    Untaken(usize),
    /// It may last as long as it likes.
    Streaming,
}

/// An answer's body, counted until the client has taken it.
pub(crate) struct Watched {
    body: AnswerBody,
    watch: Arc<Watch>,
    counted: Counted,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = <AnswerBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.counter(self.counted).fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::full;

    #[test]
    fn an_answer_that_waits_for_a_whole_turn_is_noticed() {
        let watch = Watch::new(1);
        let taken = watch.begin().answered(full("a"));
        assert!(!watch.turn());
        drop(taken);
        let _waiting = watch.begin().answered(full("b"));
        assert!(!watch.turn(), "not for a whole turn");
        assert!(watch.turn());
    }

    #[test]
    fn giving_up_more_than_was_waited_for_is_abuse() {
        let watch = Watch::new(2);
        let is_abused = || at_once(watch.abused.notified()).is_some();
        for _ in 0..5 {
            drop(watch.begin().answered(full("")));
        }
        for _ in 0..5 {
            drop(watch.begin());
        }
        assert!(!is_abused(), "as many were waited for");
        drop(watch.begin());
        assert!(is_abused());
    }

    /// The future's output, if it is there at once.
    fn at_once<F: Future>(future: F) -> Option<F::Output> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).as_mut().poll(&mut context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn quiet_turns_are_counted_while_there_is_nothing_to_do() {
        let watch = Watch::new(1);
        assert_eq!((watch.quiet_turns(), watch.quiet_turns()), (1, 2));
        let request = watch.begin();
        assert_eq!(watch.quiet_turns(), 0);
        let answer = request.answered(full("a"));
        assert_eq!(watch.quiet_turns(), 0);
        drop(answer);
        assert_eq!(watch.quiet_turns(), 1);
    }
}
