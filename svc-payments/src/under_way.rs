//! What is being driven right now, and whether somebody had news of it meanwhile.
//!
//! Knows nothing of how it is driven.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use money::PaymentId;

/// An operation of a payment, by its number.
pub(crate) type Key = (PaymentId, u32);

/// Never two tasks of this process at one operation at once. Whether a webhook came while it was driven.
#[derive(Default)]
pub(crate) struct UnderWay(Mutex<HashMap<Key, bool>>, Mutex<HashSet<(PaymentId, String)>>);

/// A request that is beginning something, by its idempotency key: its duplicates leave the driving to it.
pub(crate) struct Beginning<'a>(&'a UnderWay, (PaymentId, String));

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl UnderWay {
    /// A request with this key begins something on a payment.
    pub(crate) fn beginning(&self, payment: PaymentId, key: &str) -> Beginning<'_> {
        let request = (payment, key.to_owned());
        self.1.lock().unwrap_or_else(PoisonError::into_inner).insert(request.clone());
        Beginning(self, request)
    }

    /// Whether a request with this key does.
    pub(crate) fn is_beginning(&self, payment: PaymentId, key: &str) -> bool {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).contains(&(payment, key.to_owned()))
    }

    /// Begins to drive it; `false`: that is done already. To be ended with `release`.
    pub(crate) fn hold(&self, key: Key) -> bool {
        let mut driven = self.driven();
        let free = !driven.contains_key(&key);
        if free {
            driven.insert(key, false);
        }
        free
    }

    /// A webhook says that there is news of this. If it is being driven, the processor may have been asked
    /// before there was, and what is about to be written down knows nothing of it.
    pub(crate) fn told(&self, payment: PaymentId) {
        for (_, told) in self.driven().iter_mut().filter(|((driven, _), _)| *driven == payment) {
            *told = true;
        }
    }

    /// There is more to do for whoever drives this. `false`: nobody does.
    pub(crate) fn more(&self, key: Key) -> bool {
        self.driven().get_mut(&key).map(|told| *told = true).is_some()
    }

    /// It is driven no longer. Whether it is to be asked about again.
    pub(crate) fn release(&self, key: &Key) -> bool {
        self.driven().remove(key).unwrap_or(false)
    }

    fn driven(&self) -> MutexGuard<'_, HashMap<Key, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_webhook_that_comes_while_it_is_driven_is_not_lost() {
        let under_way = UnderWay::default();
        let [payment, other] = [1, 2].map(|id| PaymentId::new(Uuid::from_u128(id)));
        under_way.told(payment);
        assert!(under_way.hold((payment, 1)));
        assert!(!under_way.hold((payment, 1)), "one at a time");
        assert!(under_way.hold((payment, 2)), "of each");
        assert!(!under_way.release(&(payment, 1)), "what came before it began, it knows of");
        assert!(under_way.hold((payment, 1)));
        under_way.told(other);
        assert!(!under_way.release(&(payment, 2)));
        under_way.told(payment);
        assert!(under_way.release(&(payment, 1)));
        assert!(!under_way.release(&(payment, 1)));
        assert!(!under_way.more((payment, 1)), "nobody would do it");
        under_way.hold((payment, 1));
        assert!(under_way.more((payment, 1)) && under_way.release(&(payment, 1)));
    }
}
