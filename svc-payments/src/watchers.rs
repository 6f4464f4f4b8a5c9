//! Who waits for news of a payment: the driver tells after every commit, and whoever watches reads on.
//!
//! Knows nothing of events: what happened is read from the store, so that nothing is missed or said twice
//! however often the bell is rung. Bounded in all, and for each tenant.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh::{Drain, Fault, Reason};
use money::{PaymentId, TenantId};
use tokio::sync::watch;

type Key = (TenantId, PaymentId);

/// All who watch.
#[derive(Debug)]
pub struct Watchers {
    all_max: usize,
    per_tenant_max: usize,
    inner: Mutex<Inner>,
    closing: Drain,
}

#[derive(Debug, Default)]
struct Inner {
    all: usize,
    by_tenant: HashMap<TenantId, usize>,
    /// Only payments that someone watches.
    bells: HashMap<Key, watch::Sender<()>>,
}

/// One who watches; gives its place back when dropped.
#[derive(Debug)]
pub struct Watcher {
    watchers: Arc<Watchers>,
    key: Key,
    bell: Option<watch::Receiver<()>>,
}

impl Watchers {
    /// Nobody watches yet.
    pub fn new(all_max: usize, per_tenant_max: usize) -> Arc<Self> {
        Arc::new(Self { all_max, per_tenant_max, inner: Mutex::default(), closing: Drain::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place. What is committed from now on rings the bell; read the store only after this.
    pub fn enter(self: &Arc<Self>, tenant: TenantId, payment: PaymentId) -> Result<Watcher, Fault> {
        let mut inner = self.lock();
        let of_tenant = inner.by_tenant.get(&tenant).copied().unwrap_or(0);
        if inner.all >= self.all_max || of_tenant >= self.per_tenant_max {
            return Err(Fault::new(Reason::Overloaded, "Too many streams are open.").retry_after_s(5));
        }
        inner.all += 1;
        inner.by_tenant.insert(tenant.clone(), of_tenant + 1);
        let key = (tenant, payment);
        let bell = inner.bells.entry(key.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        drop(inner);
        Ok(Watcher { watchers: Arc::clone(self), key, bell: Some(bell) })
    }

    /// Something about this payment was committed.
    pub fn tell(&self, tenant: &TenantId, payment: PaymentId) {
        let inner = self.lock();
        // Nobody watches, nearly always.
        if inner.all == 0 {
            return;
        }
        if let Some(bell) = inner.bells.get(&(tenant.clone(), payment)) {
            bell.send_replace(());
        }
    }

    /// Ends all watching; from now on every stream ends by itself.
    pub fn close(&self) {
        self.closing.start();
    }

    /// Runs until it ends or watching does.
    pub async fn unless_closing<F: Future>(&self, future: F) -> Option<F::Output> {
        self.closing.unless_started(future).await
    }
}

impl Watcher {
    /// Waits until there is news that came after the last time, or after the place was taken.
    pub async fn news(&mut self) {
        // The sender is in the map as long as there is a receiver, so this does not fail.
        if let Some(bell) = &mut self.bell {
            let _ = bell.changed().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut inner = self.watchers.lock();
        inner.all = inner.all.saturating_sub(1);
        if let Entry::Occupied(mut count) = inner.by_tenant.entry(self.key.0.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        // Before the sender is asked who is left.
        self.bell = None;
        if inner.bells.get(&self.key).is_some_and(|bell| bell.receiver_count() == 0) {
            inner.bells.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn payment(number: u128) -> PaymentId {
        PaymentId::new(Uuid::from_u128(number))
    }

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn news_between_entering_and_waiting_is_not_lost() {
        let watchers = Watchers::new(10, 10);
        let mut watcher = watchers.enter(tenant("acme"), payment(1)).unwrap();
        watchers.tell(&tenant("acme"), payment(1));
        watchers.tell(&tenant("acme"), payment(1));
        watcher.news().await;
        // Both rings were one piece of news, and other payments and tenants are none of ours.
        watchers.tell(&tenant("acme"), payment(2));
        watchers.tell(&tenant("globex"), payment(1));
        let news = watcher.news();
        tokio::pin!(news);
        assert!(
            std::future::poll_fn(|context| std::task::Poll::Ready(news.as_mut().poll(context)))
                .await
                .is_pending()
        );
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let watchers = Watchers::new(3, 2);
        let first = watchers.enter(tenant("acme"), payment(1)).unwrap();
        let second = watchers.enter(tenant("acme"), payment(1)).unwrap();
        let refused = watchers.enter(tenant("acme"), payment(2)).unwrap_err();
        assert_eq!((refused.reason(), refused.retry_after()), (Reason::Overloaded, Some(5)));
        let third = watchers.enter(tenant("globex"), payment(1)).unwrap();
        assert!(watchers.enter(tenant("other"), payment(1)).is_err());
        drop((first, third));
        let again = watchers.enter(tenant("acme"), payment(2)).unwrap();
        assert_eq!(watchers.lock().bells.len(), 2, "a payment that nobody watches is forgotten");
        drop((second, again));
        let inner = watchers.lock();
        assert!(inner.all == 0 && inner.by_tenant.is_empty() && inner.bells.is_empty());
    }

    #[tokio::test]
    async fn closing_ends_what_waits() {
        let watchers = Watchers::new(1, 1);
        let waiting = watchers.unless_closing(std::future::pending::<()>());
        watchers.close();
        assert_eq!(waiting.await, None);
    }
}
