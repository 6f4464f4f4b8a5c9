//! The ledger is told what each payment demands, in order: the next posting of a payment once it has confirmed the one
//! before. Whoever tells it twice tells it the same.

use std::sync::Arc;

use mesh::Call;
use money::{PaymentId, TenantId};

use super::{Driver, Held};
use crate::{
    clients::Posted,
    domain::posting::Posting,
    store::{Done, Store},
};

/// No operation has this number: it stands for a payment's postings among what is under way.
const POSTINGS: u32 = 0;

impl<S: Store> Driver<S> {
    /// Tells the ledger what a commit demands. What it does not confirm now stays on record, and the background goes
    /// on.
    pub(super) async fn see_postings_through(self: &Arc<Self>, call: &Call, done: &Done) {
        let payment = &done.change.payment;
        let Some(last) = done.change.postings.last() else { return };
        let Some(mut held) = self.hold_postings(payment.id) else { return };
        if done.earlier_postings {
            drop(held);
            self.post_all(&payment.tenant, payment.id).await;
            return;
        }
        if let Some(ordinal) = self.tell(call, &done.change.postings).await {
            // Not waited for: doing it again would be harmless.
            let (store, payment) = (self.store.clone(), last.payment);
            self.tasks.spawn(async move {
                if let Err(error) = store.postings_done(payment, ordinal).await {
                    tracing::warn!(%error, "a confirmed posting could not be crossed off");
                }
            });
        }
        if held.release() {
            self.post_all(&payment.tenant, payment.id).await;
        }
    }

    /// `None`: somebody else tells the ledger of this payment, and will do so of what is on record now too.
    fn hold_postings(self: &Arc<Self>, payment: PaymentId) -> Option<Held<S>> {
        loop {
            if let Some(held) = self.hold((payment, POSTINGS)) {
                return Some(held);
            }
            if self.under_way.more((payment, POSTINGS)) {
                return None;
            }
        }
    }

    /// Tells the ledger everything of a payment that it has not confirmed. Whether it has now.
    pub(super) async fn post_all(self: &Arc<Self>, tenant: &TenantId, payment: PaymentId) -> bool {
        loop {
            let Some(mut held) = self.hold_postings(payment) else { return true };
            let all = self.post_on_record(tenant, payment).await;
            if !held.release() || !all {
                return all;
            }
        }
    }

    async fn post_on_record(self: &Arc<Self>, tenant: &TenantId, payment: PaymentId) -> bool {
        let postings = match self.store.postings(tenant.clone(), payment).await {
            Ok(postings) => postings,
            Err(error) => {
                tracing::warn!(%error, "postings that are due could not be read");
                return false;
            }
        };
        let Some(last) = postings.last() else { return true };
        let Some(ordinal) = self.tell(&self.background_call(tenant), &postings).await else { return false };
        if let Err(error) = self.store.postings_done(payment, ordinal).await {
            tracing::warn!(%error, "a confirmed posting could not be crossed off");
        }
        ordinal == last.ordinal
    }

    /// The ordinal of the last posting that the ledger has confirmed.
    async fn tell(&self, call: &Call, postings: &[Posting]) -> Option<u32> {
        let mut confirmed = None;
        for posting in postings {
            match self.clients.post(call, posting).await {
                Ok(Posted::Done) => confirmed = Some(posting.ordinal),
                Ok(Posted::Refused(code)) => {
                    tracing::error!(payment = %posting.payment, code, "the ledger refuses a posting; it is kept for inspection");
                    break;
                }
                Err(fault) => {
                    tracing::warn!(payment = %posting.payment, %fault, "a posting waits for the ledger");
                    break;
                }
            }
        }
        confirmed
    }
}
