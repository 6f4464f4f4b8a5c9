//! What one connection has come to: its requests, those that its client gave up, and answers that it does
//! not take, or streams that do not end. Pure: whoever holds it says when time has passed.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Buf, Bytes};
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
    /// Pieces of answers that the client has not taken yet, by whether they are of an even or an odd turn.
    untaken: [AtomicUsize; 2],
    turn: AtomicUsize,
    /// What of a piece must be taken in one turn, so that it is not waiting.
    bytes_per_turn: AtomicUsize,
    quiet_turns: AtomicUsize,
    /// When the streams that are open should have ended, told apart by a number.
    streams: Mutex<BTreeSet<(Instant, u32)>>,
}

impl Watch {
    /// `bytes_per_turn` is what the client must take of each answer in one turn, if there is so much.
    pub(crate) fn new(resets_max: u32, bytes_per_turn: usize) -> Arc<Self> {
        Arc::new(Self {
            requested: AtomicBool::new(false),
            answered: AtomicU32::new(0),
            given_up: AtomicU32::new(0),
            resets_max,
            abused: Notify::new(),
            under_way: AtomicUsize::new(0),
            untaken: [AtomicUsize::new(0), AtomicUsize::new(0)],
            turn: AtomicUsize::new(0),
            bytes_per_turn: AtomicUsize::new(bytes_per_turn),
            quiet_turns: AtomicUsize::new(0),
            streams: Mutex::default(),
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

    /// Turns have another length from now on, and so have what must be taken in one.
    pub(crate) fn set_bytes_per_turn(&self, bytes: usize) {
        self.bytes_per_turn.store(bytes, Relaxed);
    }

    /// A turn of time has passed. Whether the connection is to be closed, as an answer has been waiting for
    /// the client for all of it, unless the client `waits_for_many`; or as a stream goes on that should have
    /// ended: nobody asks it, as long as the client takes nothing.
    pub(crate) fn turn(&self, now: Instant, waits_for_many: bool) -> bool {
        let next = (self.turn.load(Relaxed) + 1) % 2;
        let waiting = self.untaken[next].load(Relaxed) > 0;
        self.turn.store(next, Relaxed);
        (waiting && !waits_for_many) || self.streams().first().is_some_and(|(end, _)| *end <= now)
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

    fn streams(&self) -> MutexGuard<'_, BTreeSet<(Instant, u32)>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way.
pub(crate) struct UnderWay {
    watch: Arc<Watch>,
    answered: bool,
}

impl UnderWay {
    /// There is an answer: its body, which knows when the client has taken it, and if it is a stream, when
    /// it should have ended.
    pub(crate) fn answered(mut self, body: AnswerBody, stream_end: impl FnOnce() -> Instant) -> Watched {
        self.answered = true;
        let number = self.watch.answered.fetch_add(1, Relaxed);
        let counted = match body {
            Either::Left(_) => Counted::InHand(Some(Untaken::of(&self.watch))),
            Either::Right(_) => Counted::Streaming(Streaming::new(&self.watch, (stream_end(), number))),
        };
        Watched { body, counted }
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
enum Counted {
    /// Untaken from the beginning, and until its one piece is.
    InHand(Option<Untaken>),
    /// It may last until its end; each piece is to be taken.
    Streaming(Streaming),
}

/// An answer's body, counted until the client has taken it.
pub(crate) struct Watched {
    body: AnswerBody,
    counted: Counted,
}

impl Body for Watched {
    type Data = Piece;
    type Error = <AnswerBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let untaken = match &mut self.counted {
            Counted::InHand(untaken) => untaken.take(),
            Counted::Streaming(streaming) => Some(Untaken::of(&streaming.watch)),
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| Piece { bytes, untaken }))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that goes on, until this is dropped.
struct Streaming {
    watch: Arc<Watch>,
    end: (Instant, u32),
}

impl Streaming {
    fn new(watch: &Arc<Watch>, end: (Instant, u32)) -> Self {
        watch.under_way.fetch_add(1, Relaxed);
        watch.streams().insert(end);
        Self { watch: Arc::clone(watch), end }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.watch.under_way.fetch_sub(1, Relaxed);
        self.watch.streams().remove(&self.end);
    }
}

/// Bytes of an answer. Whoever writes the connection drops it once they are written, and for HTTP/2 that is
/// when the client has given room for them: until then they count as untaken.
pub(crate) struct Piece {
    bytes: Bytes,
    untaken: Option<Untaken>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(untaken) = &mut self.untaken {
            untaken.taken(count);
        }
    }
}

/// In hand since a turn, until this is dropped.
struct Untaken {
    watch: Arc<Watch>,
    turn: usize,
    /// What was taken of it since then.
    bytes: usize,
}

impl Untaken {
    fn of(watch: &Arc<Watch>) -> Self {
        let turn = watch.turn.load(Relaxed);
        watch.untaken[turn].fetch_add(1, Relaxed);
        Self { watch: Arc::clone(watch), turn, bytes: 0 }
    }

    /// Who has taken enough for one turn has another one for the rest.
    fn taken(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= self.watch.bytes_per_turn.load(Relaxed) {
            let turn = self.watch.turn.load(Relaxed);
            self.watch.untaken[turn].fetch_add(1, Relaxed);
            self.watch.untaken[self.turn].fetch_sub(1, Relaxed);
            (self.turn, self.bytes) = (turn, 0);
        }
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.watch.untaken[self.turn].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;
    use crate::body::full;

    const BYTES_PER_TURN: usize = 10;

    fn watch(resets_max: u32) -> Arc<Watch> {
        Watch::new(resets_max, BYTES_PER_TURN)
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(3_600)
    }

    fn answered(watch: &Arc<Watch>, body: &'static str) -> Watched {
        watch.begin().answered(full(body), far)
    }

    /// The next piece of an answer, as whoever writes the connection holds it.
    fn piece(body: &mut Watched) -> Piece {
        at_once(body.frame()).unwrap().unwrap().unwrap().into_data().ok().unwrap()
    }

    /// A stream of these pieces that then goes on without any.
    fn stream(pieces: &[&'static str]) -> AnswerBody {
        use tonic::codegen::tokio_stream::{StreamExt as _, iter, pending};
        let frames: Vec<_> = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from(*piece)))).collect();
        Either::Right(StreamBody::new(iter(frames).chain(pending())).boxed_unsync())
    }

    #[test]
    fn an_answer_that_waits_for_a_whole_turn_is_noticed() {
        let watch = watch(1);
        let taken = answered(&watch, "a");
        assert!(!watch.turn(Instant::now(), false));
        drop(taken);
        let _waiting = answered(&watch, "b");
        assert!(!watch.turn(Instant::now(), false), "not for a whole turn");
        assert!(watch.turn(Instant::now(), false));
    }

    /// As hyper does: it hands all of the body on, and drops it.
    #[test]
    fn an_answer_that_was_handed_on_is_untaken_until_it_is_written() {
        let watch = watch(1);
        let mut body = answered(&watch, "ab");
        let mut held = piece(&mut body);
        drop(body);
        assert!(!watch.turn(Instant::now(), false));
        held.advance(1);
        assert!(watch.turn(Instant::now(), false), "a byte is not enough");
        drop(held);
        assert!(!watch.turn(Instant::now(), false));
        assert_eq!(watch.quiet_turns(), 1);
    }

    #[test]
    fn who_takes_enough_in_every_turn_has_another_one() {
        let watch = watch(1);
        let mut body = answered(&watch, "0123456789012345678901234567890123456789");
        let mut held = piece(&mut body);
        for _ in 0..3 {
            held.advance(BYTES_PER_TURN);
            assert!(!watch.turn(Instant::now(), false));
        }
        held.advance(BYTES_PER_TURN - 1);
        assert!(watch.turn(Instant::now(), false));
    }

    #[test]
    fn a_stream_may_be_silent_but_what_it_says_is_to_be_taken() {
        let watch = watch(1);
        let mut body = watch.begin().answered(stream(&["one", "two"]), far);
        for _ in 0..3 {
            assert!(!watch.turn(Instant::now(), false));
        }
        drop(piece(&mut body));
        assert!(!watch.turn(Instant::now(), false));
        let _held = piece(&mut body);
        assert!(!watch.turn(Instant::now(), false));
        assert!(watch.turn(Instant::now(), false));
    }

    #[test]
    fn a_stream_that_should_have_ended_is_noticed() {
        let watch = watch(1);
        let (before, second) = (Instant::now(), Duration::from_secs(1));
        let end = before + second;
        let (body, longer) = (watch.begin().answered(stream(&[]), || end), answered(&watch, ""));
        assert!(!watch.turn(before, false));
        drop(longer);
        assert!(watch.turn(end, false));
        drop(body);
        assert!(!watch.turn(end, false));
    }

    /// Several users' answers come over one connection of a proxy.
    #[test]
    fn who_waits_for_many_may_let_answers_wait_but_no_stream_beyond_its_end() {
        let watch = watch(1);
        let before = Instant::now();
        let end = before + Duration::from_secs(1);
        let _waiting = answered(&watch, "a");
        let mut endless = watch.begin().answered(stream(&["one"]), || end);
        let held = piece(&mut endless);
        for _ in 0..3 {
            assert!(!watch.turn(before, true));
        }
        assert_eq!(watch.quiet_turns(), 0);
        assert!(watch.turn(end, true));
        drop((held, endless));
        assert!(!watch.turn(end, true));
        // While the edge drains, it waits no longer than for others.
        assert!(watch.turn(end, false));
    }

    #[test]
    fn giving_up_more_than_was_waited_for_is_abuse() {
        let watch = watch(2);
        let is_abused = || at_once(watch.abused.notified()).is_some();
        for _ in 0..5 {
            drop(answered(&watch, ""));
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
        let watch = watch(1);
        assert_eq!((watch.quiet_turns(), watch.quiet_turns()), (1, 2));
        let request = watch.begin();
        assert_eq!(watch.quiet_turns(), 0);
        let answer = request.answered(full("a"), far);
        assert_eq!(watch.quiet_turns(), 0);
        drop(answer);
        assert_eq!(watch.quiet_turns(), 1);
    }
}
