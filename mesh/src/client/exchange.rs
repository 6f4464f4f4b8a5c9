//! One call: admitted, attempted, attempted again where that is safe, ended at its deadline.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header::HeaderName};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status, body::Body};

use super::{
    Shared,
    answer::AnswerBody,
    body::{Message, RequestBody},
    breaker::{Outcome, Pass},
    contract::{self, Repeatable, Rpc},
    endpoint::{Endpoint, Open},
    failure,
    outlier::is_failure,
    pool::Picked,
    retry::{Again, Failure, PREVIOUS_ATTEMPTS, Pushback, decide},
    said::{Said, outcome},
    settings::{UpstreamSettings, ms},
};
use crate::call::{GRPC_TIMEOUT, IDEMPOTENCY_KEY_HEADER, format_timeout, parse_timeout};

/// How often a request goes to another connection because the one chosen had ended meanwhile.
const NOT_SENT_MAX: u32 = 8;
/// A timeout that is off by less is sent as it came.
const TIMEOUT_STALE: Duration = Duration::from_millis(5);
const ATTEMPTS_HEADER: HeaderName = HeaderName::from_static(PREVIOUS_ATTEMPTS);

/// A call that was let through. Says how it ended, also when its caller goes away.
pub(super) struct Underway {
    shared: Arc<Shared>,
    pass: Option<Pass>,
    began: Instant,
}

impl Underway {
    /// Lets a call through, or says why not.
    #[allow(clippy::result_large_err)] // tonic's own error type
    fn admit(shared: &Arc<Shared>, began: Instant) -> Result<Self, Status> {
        let refused = |status: Status| {
            shared.pool.metrics.counted(status.code());
            status
        };
        if !shared.enter() {
            return Err(refused(failure::overloaded()));
        }
        let mut underway = Self { shared: Arc::clone(shared), pass: None, began };
        match shared.admit(began) {
            Ok(pass) => underway.pass = Some(pass),
            Err(wait) => return Err(refused(failure::unavailable(wait))),
        }
        Ok(underway)
    }

    /// The service, or a proxy before it, answered.
    pub(super) fn answered(mut self, said: Said) {
        self.give_back(said.of_the_service(|| self.began.elapsed()), said.code);
    }

    /// The call ended with this code, and no answer or only a part of it.
    pub(super) fn ended(mut self, code: Code) {
        self.give_back(outcome(code, || self.began.elapsed()), code);
    }

    /// The service is at it, and the caller does not wait.
    fn put_off(mut self, code: Code) {
        self.give_back(Outcome::Succeeded, code);
    }

    /// The call ended before it got to the service, or in a way that says nothing about it.
    pub(super) fn ended_here(mut self, code: Code) {
        self.give_back(Outcome::Nothing, code);
    }

    fn give_back(&mut self, outcome: Outcome, code: Code) {
        let Some(pass) = self.pass.take() else { return };
        let now = Instant::now();
        self.shared.ended(pass, outcome, now);
        self.shared.pool.metrics.ended(code, now.saturating_duration_since(self.began));
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.give_back(Outcome::Nothing, Code::Cancelled);
        self.shared.leave();
    }
}

/// One attempt at an endpoint, counted there as long as it lasts.
pub(super) struct Attempt {
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    open: Arc<Open>,
    began: Instant,
    /// When waiting for it is over.
    deadline: Option<Instant>,
    /// Once answered, it goes on for as long as there is something to say.
    streams: bool,
    answered: bool,
    said: bool,
}

impl Attempt {
    fn begin(exchange: &Exchange<'_>, Picked { endpoint, open }: Picked) -> Self {
        endpoint.begin(&open);
        let (shared, began) = (Arc::clone(exchange.shared), Instant::now());
        let (deadline, streams) = (exchange.deadline, !exchange.rpc.unary_answer);
        Self { shared, endpoint, open, began, deadline, streams, answered: false, said: false }
    }

    /// Whether the end of its time, once it has answered, is nobody's fault.
    pub(super) fn streams(&self) -> bool {
        self.streams
    }

    /// The headers of an answer have come, and say this.
    fn answered(&mut self, said: Option<Said>) {
        self.answered = true;
        let (took, now_ms) = (self.began.elapsed(), self.shared.pool.now_ms());
        match said {
            Some(said) if !said.is_work() => self.endpoint.observe_at_least(took, now_ms),
            _ => self.endpoint.observe(took, now_ms),
        }
        if let Some(said) = said {
            self.ended_with(said.code);
        }
    }

    /// The endpoint answered with this code.
    pub(super) fn ended(mut self, code: Code) {
        self.ended_with(code);
    }

    fn ended_with(&mut self, code: Code) {
        match outcome(code, || self.began.elapsed()) {
            Outcome::Nothing => {}
            outcome => self.say(outcome == Outcome::Failed),
        }
    }

    fn say(&mut self, failed: bool) {
        if !self.said {
            self.said = true;
            self.shared.pool.outcome(&self.endpoint, failed);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.endpoint.end(&self.open);
        if self.answered {
            return;
        }
        // It would have taken at least this long.
        self.endpoint.observe_at_least(self.began.elapsed(), self.shared.pool.now_ms());
        // Given up by its caller says nothing, given up at the deadline does.
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.ended_with(Code::DeadlineExceeded);
        }
    }
}

type Answer = Response<AnswerBody>;

/// Makes a call.
pub(super) async fn call(shared: Arc<Shared>, request: Request<Body>) -> Result<Answer, Status> {
    let began = Instant::now();
    let (mut head, body) = request.into_parts();
    let underway = Underway::admit(&shared, began)?;
    let rpc = contract::rpc(head.uri.path());
    let said = head.headers.get(GRPC_TIMEOUT).and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    let timeout = said.or_else(|| {
        let timeout = default_timeout(rpc, &shared.pool.settings)?;
        put_timeout(&mut head.headers, timeout);
        Some(timeout)
    });
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        underway.ended_here(Code::DeadlineExceeded);
        return Err(failure::deadline_exceeded());
    }
    let deadline = timeout.and_then(|timeout| began.checked_add(timeout));
    let message = if rpc.unary_request { Message::whole(body).await? } else { Message::Stream(Some(body)) };
    let exchange = Exchange {
        uri: shared.uri(&head.uri),
        has_key: head.headers.contains_key(IDEMPOTENCY_KEY_HEADER),
        headers: head.headers,
        shared: &shared,
        rpc,
        began,
        deadline,
    };
    // One timer for all of the call: for its attempts here, then for the rest of its answer.
    let mut timer = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
    let attempted = {
        let attempts = exchange.attempts(message);
        tokio::pin!(attempts);
        match &mut timer {
            None => attempts.await,
            Some(timer) => tokio::select! {
                biased;
                attempted = &mut attempts => attempted,
                () = timer.as_mut() => {
                    underway.ended(Code::DeadlineExceeded);
                    return Err(failure::deadline_exceeded());
                }
            },
        }
    };
    match attempted {
        Ok((response, attempt)) => Ok(answer(response, underway, attempt, timer)),
        Err(failed) => {
            let status = failure::status(failed);
            match failed {
                Failure::Underway => underway.put_off(status.code()),
                _ => underway.ended(status.code()),
            }
            Err(status)
        }
    }
}

/// The time that a call is given which came without one.
fn default_timeout(rpc: Rpc, settings: &UpstreamSettings) -> Option<Duration> {
    let timeout = ms(settings.default_timeout_ms);
    (rpc.unary_request && rpc.unary_answer && !timeout.is_zero()).then_some(timeout)
}

fn put_timeout(headers: &mut HeaderMap, timeout: Duration) {
    if let Ok(timeout) = HeaderValue::try_from(format_timeout(timeout)) {
        // In the place of the one that was there.
        headers.insert(GRPC_TIMEOUT, timeout);
    }
}

fn answer(
    response: Response<Incoming>,
    underway: Underway,
    attempt: Attempt,
    timer: Option<Pin<Box<Sleep>>>,
) -> Answer {
    let said = Said::in_head(&response);
    let mut answer = response.map(|incoming| AnswerBody::new(incoming, underway, attempt, timer));
    if let Some(said) = said {
        answer.body_mut().ended(said);
    }
    answer
}

/// How an attempt went.
enum Attempted {
    /// The service, or a proxy before it, answered.
    Answered(Response<Incoming>, Attempt),
    Failed {
        failure: Failure,
        at: Option<Arc<Endpoint>>,
        unsent: Option<RequestBody>,
    },
}

struct Exchange<'a> {
    shared: &'a Arc<Shared>,
    uri: Uri,
    headers: HeaderMap,
    rpc: Rpc,
    has_key: bool,
    began: Instant,
    deadline: Option<Instant>,
}

impl Exchange<'_> {
    async fn attempts(&self, mut message: Message) -> Result<(Response<Incoming>, Attempt), Failure> {
        let (mut retries, mut not_sent) = (0, 0);
        // Whether an earlier attempt may be what the service is at; whether one was refused unseen.
        let (mut may_have_begun, mut was_refused) = (false, false);
        let mut avoid = None;
        let settings = &self.shared.pool.settings;
        self.shared.budget.earn();
        loop {
            let Some(body) = message.attempt() else { return Err(Failure::Lost) };
            let attempted = match self.hedge_after() {
                Some(after) => self.hedged(body, message.attempt(), avoid.as_ref(), retries, after).await,
                None => self.attempt(body, avoid.as_ref(), retries, None).await,
            };
            let (failure, pushback, given) = match attempted {
                Attempted::Answered(response, attempt) => match Said::in_head(&response) {
                    Some(said) if said.code == Code::Unavailable => {
                        let pushback = Pushback::read(response.headers());
                        avoid = Some(Arc::clone(&attempt.endpoint));
                        // What a proxy says is told in our words.
                        let given = (!said.by_proxy).then_some((response, attempt));
                        (Failure::Answered(Code::Unavailable), pushback, given)
                    }
                    Some(said) if said.code == Code::Aborted && may_have_begun => {
                        let Some(wait) = failure::underway(response.headers()) else {
                            return Ok((response, attempt));
                        };
                        // For the caller this is its first request: nobody else's is in its way.
                        (Failure::Underway, Some(Pushback::After(wait)), None)
                    }
                    _ => return Ok((response, attempt)),
                },
                Attempted::Failed { failure, at, unsent } => {
                    avoid = at;
                    if let Some(unsent) = unsent {
                        message.put_back(unsent);
                    }
                    (failure, None, None)
                }
            };
            may_have_begun |= failure.may_have_begun();
            let dice = &*self.shared.pool.dice;
            // Once without being counted or paid for, as the server has not looked at it (gRFC A6, transparent
            // retries).
            let is_free = failure == Failure::Refused && !was_refused && message.can_be_sent();
            was_refused |= failure == Failure::Refused;
            let again = if is_free {
                Again::AtOnce
            } else {
                decide(failure, self.rpc.repeatable, self.has_key, retries, pushback, &settings.retry, dice)
            };
            match again {
                Again::AtOnce if not_sent < NOT_SENT_MAX => not_sent += 1,
                Again::After(wait) if message.can_be_sent() && self.may_wait(wait) => {
                    drop(given);
                    tokio::time::sleep(wait).await;
                    retries += 1;
                    self.shared.pool.metrics.retries.inc();
                }
                _ => return given.ok_or(failure),
            }
        }
    }

    /// Whether there is time left after the wait, and a retry to be had for it.
    fn may_wait(&self, wait: Duration) -> bool {
        let in_time = self.deadline.is_none_or(|deadline| Instant::now() + wait < deadline);
        in_time && self.shared.budget.spend(self.shared.pool.now_ms())
    }

    fn hedge_after(&self) -> Option<Duration> {
        let after = ms(self.shared.pool.settings.hedge_after_ms);
        let is_hedged = self.rpc.repeatable == Repeatable::Reads && self.rpc.unary_answer;
        (is_hedged && !after.is_zero()).then_some(after)
    }

    /// Two attempts, the second begun when the first is slow. The first good answer counts; the other
    /// attempt is cancelled.
    async fn hedged(
        &self,
        body: RequestBody,
        again: Option<RequestBody>,
        avoid: Option<&Arc<Endpoint>>,
        retries: u32,
        after: Duration,
    ) -> Attempted {
        let place = OnceLock::new();
        let first = self.attempt(body, avoid, retries, Some(&place));
        tokio::pin!(first);
        tokio::select! {
            biased;
            attempted = &mut first => return attempted,
            () = tokio::time::sleep(after) => {}
        }
        let Some(again) = again else { return first.await };
        if !self.shared.budget.spend(self.shared.pool.now_ms()) {
            return first.await;
        }
        self.shared.pool.metrics.hedges.inc();
        let second = self.attempt(again, place.get().or(avoid), retries + 1, None);
        tokio::pin!(second);
        tokio::select! {
            attempted = &mut first => better(attempted, second).await,
            attempted = &mut second => better(attempted, first).await,
        }
    }

    /// One attempt. `avoid` is where it had better not go, `before` how many came before it; `place` is
    /// told where it went.
    async fn attempt(
        &self,
        body: RequestBody,
        avoid: Option<&Arc<Endpoint>>,
        before: u32,
        place: Option<&OnceLock<Arc<Endpoint>>>,
    ) -> Attempted {
        let Some(picked) = self.shared.pool.acquire(avoid).await else {
            return Attempted::Failed { failure: Failure::Unreachable, at: None, unsent: Some(body) };
        };
        let upstream = &*self.shared.pool.name;
        tracing::debug!(upstream, address = %picked.endpoint.address, before, "an attempt begins");
        if let Some(place) = place {
            let _ = place.set(Arc::clone(&picked.endpoint));
        }
        let mut attempt = Attempt::begin(self, picked);
        let request = self.request(body, before, attempt.began);
        let mut sender = attempt.open.sender();
        match sender.try_send_request(request).await {
            Ok(response) => {
                attempt.answered(Said::in_head(&response));
                Attempted::Answered(response, attempt)
            }
            Err(mut error) => {
                let unsent = error.take_message().map(Request::into_body);
                let failure = if unsent.is_some() { Failure::NotSent } else { failure::of(error.error()) };
                match failure {
                    // The connection has ended, in order or not: nothing is said about the next one.
                    Failure::NotSent | Failure::Refused | Failure::Underway => {}
                    Failure::Unreachable | Failure::Lost => attempt.say(true),
                    Failure::Answered(code) => attempt.ended_with(code),
                }
                Attempted::Failed { failure, at: Some(Arc::clone(&attempt.endpoint)), unsent }
            }
        }
    }

    fn request(&self, body: RequestBody, before: u32, now: Instant) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        if before > 0 {
            headers.insert(ATTEMPTS_HEADER, HeaderValue::from(before));
        }
        // Time has gone since: in earlier attempts, or until there was a connection.
        if let Some(deadline) = self.deadline
            && now.saturating_duration_since(self.began) >= TIMEOUT_STALE
        {
            put_timeout(headers, deadline.saturating_duration_since(now));
        }
        request
    }
}

/// The first one if it is good, else the second; but that the service wants no more of it holds, whichever of
/// them was told.
async fn better(first: Attempted, second: impl Future<Output = Attempted>) -> Attempted {
    if is_good(&first) {
        return first;
    }
    let second = second.await;
    if wants_no_more(&first) && !is_good(&second) { first } else { second }
}

fn wants_no_more(attempted: &Attempted) -> bool {
    match attempted {
        Attempted::Answered(response, _) => Pushback::read(response.headers()) == Some(Pushback::Never),
        Attempted::Failed { .. } => false,
    }
}

fn is_good(attempted: &Attempted) -> bool {
    match attempted {
        Attempted::Answered(response, _) => Said::in_head(response).is_none_or(|said| !is_failure(said.code)),
        Attempted::Failed { .. } => false,
    }
}
