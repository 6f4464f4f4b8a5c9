//! Which RPC the current thread is working on, so that whatever is logged meanwhile carries its ids.
//!
//! A `tracing` span does the same and costs more than all the rest of the server stack: its fields are
//! formatted for every request, also where nothing is logged. So only requests whose trace is recorded
//! have one; all have a scope, which is formatted when something is logged.

use std::{
    borrow::Cow,
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
};

use tracing::Instrument as _;

use crate::call::Call;

/// The names of spans that say the same as a scope: a service's and the edge's.
pub(crate) const SPANS: [&str; 2] = ["rpc", "edge"];

/// The RPC that is being worked on. Cloned where something is logged, and for work that goes on in a task.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The service that works on it.
    pub service: &'static str,
    /// The RPC, as in metrics.
    pub rpc: Cow<'static, str>,
    /// Its caller and ids.
    pub call: Call,
    /// By its name, the credential of whoever called from outside, at the edge.
    pub credential: Option<Arc<str>>,
    /// Whether a span says the same.
    pub has_span: bool,
}

impl Scope {
    /// The names that a span of an RPC has, too, but for the trace's id and the credential. None of the values
    /// needs an escape: each is checked where it comes in, or is a name of ours.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let tenant = self.call.tenant().ok().map(|tenant| ("tenant", tenant.as_str()));
        [
            ("service", self.service),
            ("rpc", &self.rpc),
            ("request_id", self.call.request_id()),
            ("peer", self.call.peer().name()),
        ]
        .into_iter()
        .chain(tenant)
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// The RPC that the current thread is working on.
pub fn current() -> Option<Scope> {
    CURRENT.try_with(|current| current.try_borrow().ok()?.clone()).ok().flatten()
}

/// Works on an RPC: it is the current one meanwhile, and nested ones end in order.
pub(crate) fn within<R>(scope: &mut Option<Scope>, work: impl FnOnce() -> R) -> R {
    let entered = Entered::new(scope);
    let result = work();
    drop(entered);
    result
}

/// Exchanges the scope with the thread's, and back when dropped, also by a panic.
struct Entered<'a>(&'a mut Option<Scope>);

impl<'a> Entered<'a> {
    fn new(scope: &'a mut Option<Scope>) -> Self {
        exchange(scope);
        Self(scope)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        exchange(self.0);
    }
}

fn exchange(scope: &mut Option<Scope>) {
    // On a thread that is ending there is nothing to log any more.
    let _ = CURRENT.try_with(|current| {
        if let Ok(mut current) = current.try_borrow_mut() {
            std::mem::swap(&mut *current, scope);
        }
    });
}

/// Works on an RPC in a future: it is the current one whenever the future is polled. The future is pinned by
/// the caller: an `async fn` that takes one by value has room for it twice.
pub fn during<F: Future + Unpin>(scope: Scope, future: F) -> impl Future<Output = F::Output> {
    polled_within(Some(scope), future)
}

/// Takes the current scope and span along, for work that goes on in a task of its own.
pub fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
    polled_within(current(), Box::pin(future)).instrument(tracing::Span::current())
}

fn polled_within<F: Future + Unpin>(
    mut scope: Option<Scope>,
    mut future: F,
) -> impl Future<Output = F::Output> {
    poll_fn(move |context| within(&mut scope, || Pin::new(&mut future).poll(context)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::call_of;

    fn scope(rpc: &'static str) -> Scope {
        Scope {
            service: "svc-test",
            rpc: rpc.into(),
            call: call_of("acme"),
            credential: None,
            has_span: false,
        }
    }

    fn rpc() -> Option<Cow<'static, str>> {
        current().map(|scope| scope.rpc)
    }

    #[test]
    fn scopes_nest_and_end_also_by_a_panic() {
        let (mut outer, mut inner) = (Some(scope("outer")), Some(scope("inner")));
        within(&mut outer, || {
            assert_eq!(rpc(), Some("outer".into()));
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                within(&mut inner, || {
                    assert_eq!(rpc(), Some("inner".into()));
                    panic!("planted");
                });
            }));
            assert!(panicked.is_err());
            assert_eq!(rpc(), Some("outer".into()));
        });
        assert_eq!((rpc(), inner.map(|scope| scope.rpc)), (None, Some("inner".into())));
    }

    #[tokio::test]
    async fn a_future_has_its_scope_whenever_it_is_polled_and_one_room() {
        let work = async {
            let (room, before) = ([1_u8; 4_096], rpc());
            tokio::task::yield_now().await;
            (before, rpc(), room.len())
        };
        let work = std::pin::pin!(work);
        let working = during(scope("one"), work);
        assert!(size_of_val(&working) <= size_of::<Scope>() + 64);
        assert_eq!(working.await, (Some("one".into()), Some("one".into()), 4_096));
        assert_eq!(rpc(), None);
    }

    #[tokio::test]
    async fn a_task_of_its_own_carries_the_scope() {
        let mut outer = Some(scope("outer"));
        let work = within(&mut outer, || {
            tokio::spawn(carry(async {
                tokio::task::yield_now().await;
                rpc()
            }))
        });
        assert_eq!((work.await.unwrap(), rpc()), (Some("outer".into()), None));
    }
}
