//! One operation: its processor is asked to do it, or what became of it, and the answer is written down.

use std::sync::Arc;

use mesh::{Call, Fault, Reason};
use money::Timestamp;

use super::{Attempt, Driver, later};
use crate::{
    domain::{
        answer, late,
        operation::{Operation, OperationKind, ProcessorOutcome, reference},
        payment::{Change, Payment, Rejection},
        refund,
        transition::OperationStatus,
    },
    processor::{Asked, Inquiry, Performed, ProcessorRequest},
    store::{CommitError, Store},
};

impl<S: Store> Driver<S> {
    /// Drives an operation to its end, or to the point where it has to wait. Where its processor cannot take it on and
    /// another one may be asked, that one's attempt is driven likewise.
    pub(super) async fn settle(
        self: &Arc<Self>,
        call: &Call,
        mut payment: Payment,
        mut number: u32,
        mut attempt: Attempt,
    ) -> Result<Payment, Fault> {
        loop {
            let Some(operation) = payment.operation(number).filter(|found| found.status.is_open()).cloned()
            else {
                return Ok(payment);
            };
            payment = match (&operation.kind, operation.status) {
                (OperationKind::Authorize { .. }, OperationStatus::Pending) => {
                    self.authorize(call, payment, &operation, attempt).await?
                }
                (_, OperationStatus::Pending) => {
                    let outcome = self.perform(&payment, &operation).await?;
                    self.answered(call, payment, number, outcome).await?
                }
                _ => {
                    let outcome = self.inquire(&payment, &operation).await;
                    self.answered(call, payment, number, outcome).await?
                }
            };
            // What the answer demands is done at once: an attempt elsewhere, or undoing what came too late.
            let authorized = matches!(operation.kind, OperationKind::Authorize { .. });
            let next = payment
                .operations
                .iter()
                .find(|next| authorized && next.number > number && next.status == OperationStatus::Pending);
            match next.map(|next| next.number) {
                Some(next) => (number, attempt) = (next, Attempt::First),
                None => return Ok(payment),
            }
        }
    }

    /// Asks the processor for what has no card in it.
    async fn perform(&self, payment: &Payment, operation: &Operation) -> Result<ProcessorOutcome, Fault> {
        let of = payment.processor_reference.clone();
        let request = match &operation.kind {
            // Not asked for here: it needs what the payment is paid with.
            OperationKind::Authorize { .. } => return Ok(ProcessorOutcome::Unanswered),
            OperationKind::Increment { amount } => {
                ProcessorRequest::Increment { of, by: *amount, total: payment.amount + amount }
            }
            OperationKind::Extend => ProcessorRequest::Extend { of },
            OperationKind::Capture { amount, last } => {
                ProcessorRequest::Capture { of, amount: *amount, last: *last }
            }
            OperationKind::Void { .. } => {
                // Of an attempt that is not through, the payment has no reference yet.
                let attempt = payment.attempt().map(|attempt| attempt.processor_reference.clone());
                ProcessorRequest::Void { of: attempt.unwrap_or(of) }
            }
            OperationKind::Refund { amount, .. } => ProcessorRequest::Refund { of, amount: *amount },
            OperationKind::Reverse { of, captured } => {
                let of = payment.operation(*of).map(|of| of.processor_reference.clone()).unwrap_or_default();
                if *captured > 0 {
                    ProcessorRequest::Refund { of, amount: *captured }
                } else {
                    ProcessorRequest::Void { of }
                }
            }
        };
        let reference = reference(payment.id, operation.number);
        match self.processors.perform(&operation.processor, &reference, request).await {
            Performed::Asked(outcome) => Ok(outcome),
            Performed::NotAsked => {
                let name = &operation.processor;
                Err(later("processor", &Fault::new(Reason::Unavailable, format!("{name} is left alone."))))
            }
        }
    }

    /// Asks what became of it.
    pub(super) async fn inquire(&self, payment: &Payment, operation: &Operation) -> ProcessorOutcome {
        let reference = reference(payment.id, operation.number);
        let known = Some(operation.processor_reference.as_str()).filter(|known| !known.is_empty());
        let asked = Asked { reference: &reference, processor_reference: known, kind: &operation.kind };
        match self.processors.inquire(&operation.processor, asked).await {
            Inquiry::Settled(outcome) => outcome,
            Inquiry::NeverHeardOf => ProcessorOutcome::NeverHeardOf,
            Inquiry::Pending | Inquiry::Unanswered => ProcessorOutcome::Unanswered,
        }
    }

    /// Writes an answer down.
    async fn answered(
        self: &Arc<Self>,
        call: &Call,
        payment: Payment,
        number: u32,
        outcome: ProcessorOutcome,
    ) -> Result<Payment, Fault> {
        let terms = self.terms;
        let decide = |payment, now| answer::answered(payment, number, outcome.clone(), &terms, now);
        self.write_answer(call, payment, number, decide).await
    }

    /// Writes down what an answer means. Where somebody else has settled the operation before, what they wrote stays.
    pub(super) async fn write_answer(
        self: &Arc<Self>,
        call: &Call,
        payment: Payment,
        number: u32,
        decide: impl Fn(Payment, Timestamp) -> Result<Change, Rejection>,
    ) -> Result<Payment, Fault> {
        let (tenant, id, terms) = (payment.tenant.clone(), payment.id, self.terms);
        match self.commit(call, payment, decide).await {
            Ok(payment) => return Ok(payment),
            Err(CommitError::Rejected(Rejection::OperationSettled { .. })) => {}
            Err(CommitError::DuplicateReference) => {
                tracing::error!(payment = %id, "a processor gave the id of another payment; it is kept for inspection");
                let payment = self.read(&tenant, id).await?;
                let decide = |payment, now| late::duplicate_reference(payment, number, &terms, now);
                return Ok(self.commit(call, payment, decide).await?);
            }
            Err(error) => return Err(error.into()),
        }
        self.read(&tenant, id).await
    }

    /// Somebody has news of a payment that has nothing under way: whether its authorization, which counts as failed,
    /// did succeed, or its bank took the money back.
    pub(super) async fn ask_again(self: &Arc<Self>, call: &Call, payment: Payment) -> Result<Payment, Fault> {
        let Some(attempt) = payment.attempt().cloned() else { return self.touch(call, payment).await };
        let number = attempt.number;
        let outcome = match attempt.status {
            OperationStatus::Failed | OperationStatus::Succeeded => self.inquire(&payment, &attempt).await,
            _ => ProcessorOutcome::Unanswered,
        };
        let decide = |payment: Payment, now| match (&outcome, attempt.status) {
            (ProcessorOutcome::Returned(failure), OperationStatus::Succeeded) => {
                refund::returned(payment, failure.clone(), now)
            }
            (_, OperationStatus::Failed) => {
                let unchanged = Change::of(payment.clone());
                Ok(late::asked_again(payment, number, &outcome, now)?.unwrap_or(unchanged))
            }
            _ => Ok(Change::of(payment)),
        };
        let payment =
            self.commit(call, payment, decide).await.map_err(|error| later("store", &error.into()))?;
        let undoing = payment.open_operations().last().map(|open| open.number);
        match undoing {
            Some(number) => self.settle(call, payment, number, Attempt::First).await,
            None => Ok(payment),
        }
    }

    /// Nothing has changed; when it is due next is worked out anew.
    async fn touch(self: &Arc<Self>, call: &Call, payment: Payment) -> Result<Payment, Fault> {
        Ok(self.commit(call, payment, |payment, _| Ok(Change::of(payment))).await?)
    }
}
