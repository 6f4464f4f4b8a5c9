//! What is due is taken up in the background: unknown outcomes, what a crash left behind, payments at the end of their
//! time, and what somebody has news of.

use std::sync::Arc;

use mesh::{Call, Fault};
use money::{PaymentId, TenantId};

use super::{Attempt, Driver, payment_not_found, put_off};
use crate::{
    domain::{
        due, hold,
        payment::{Change, Payment},
    },
    store::{Store, Work},
};

impl<S: Store> Driver<S> {
    /// Takes something up. What cannot be done now is put off, so that it neither keeps others from their turn nor is
    /// tried all the time.
    pub(crate) async fn take_up(self: &Arc<Self>, work: Work) {
        let driver = Arc::clone(self);
        // In a task that a drain waits for.
        let taken = self.tasks.spawn(async move {
            let settled = match &work {
                Work::Payment(tenant, id) => driver.take_up_payment(tenant, *id).await,
                Work::Postings(tenant, id) => driver.post_all(tenant, *id).await,
            };
            if !settled {
                put_off(&driver.store, work, due::retry(driver.now())).await;
            }
        });
        // A panic has been told of already, and the work is due again by itself.
        drop(taken.await);
    }

    async fn take_up_payment(self: &Arc<Self>, tenant: &TenantId, id: PaymentId) -> bool {
        match self.drive_due(tenant, id).await {
            Ok(()) => true,
            Err(fault) => {
                tracing::warn!(%fault, "work that was due will be tried again");
                false
            }
        }
    }

    async fn drive_due(self: &Arc<Self>, tenant: &TenantId, id: PaymentId) -> Result<(), Fault> {
        let call = self.background_call(tenant);
        let payment = self.read(tenant, id).await?;
        let now = self.now();
        let terms = self.terms;
        let expired = payment.expires_at.is_some_and(|at| at <= now);
        if expired {
            let decide = |payment: Payment, now| {
                let unchanged = Change::of(payment.clone());
                Ok(hold::expire(payment, &terms, now)?.unwrap_or(unchanged))
            };
            self.commit(&call, payment, decide).await?;
        }
        let payment = self.read(tenant, id).await?;
        let open = due::operations(&payment, now);
        if open.is_empty() && !expired {
            self.ask_again(&call, payment).await?;
            return Ok(());
        }
        self.drive_all(&call, tenant, id, open).await
    }

    /// Has the processor asked at once about everything of a payment that is open.
    pub(crate) async fn drive_now(self: &Arc<Self>, call: Call, payment: Payment) -> Result<Payment, Fault> {
        let driver = Arc::clone(self);
        let work = async move {
            let (tenant, id) = (payment.tenant.clone(), payment.id);
            let open = payment.open_operations().map(|open| open.number).collect();
            driver.drive_all(&call, &tenant, id, open).await?;
            driver.read(&tenant, id).await
        };
        self.detached(work).await
    }

    async fn drive_all(
        self: &Arc<Self>,
        call: &Call,
        tenant: &TenantId,
        id: PaymentId,
        numbers: Vec<u32>,
    ) -> Result<(), Fault> {
        for number in numbers {
            let Some(held) = self.hold((id, number)) else { continue };
            // Read only now that nobody else drives it: what was read before may be settled by now.
            let settled = match self.read(tenant, id).await {
                Ok(payment) => self.settle(call, payment, number, Attempt::Again).await,
                Err(fault) => Err(fault),
            };
            held.finish().await;
            settled?;
        }
        Ok(())
    }

    pub(super) async fn read(&self, tenant: &TenantId, id: PaymentId) -> Result<Payment, Fault> {
        self.store.payment(tenant.clone(), id).await?.ok_or_else(payment_not_found)
    }
}
