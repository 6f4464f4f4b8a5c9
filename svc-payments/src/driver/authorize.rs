//! An attempt to authorize: fraud, ledger, vault, processor.

use std::sync::Arc;

use mesh::{Call, Fault, Reason};
use paymesh_proto::fraud::v1 as proto;

use super::{Attempt, Driver, later};
use crate::{
    clients::Posted,
    convert,
    domain::{
        answer, authorization,
        method::Method,
        operation::{Failure, Operation, OperationKind, ProcessorOutcome, reference},
        payment::{Fraud, FraudOutcome, Payment},
        posting,
    },
    processor::{self, Authorization, Instrument, Performed, ProcessorRequest},
    store::Store,
};

impl<S: Store> Driver<S> {
    /// What an earlier attempt did at the processor stands, whatever the others would say today: before anything is
    /// refused [`Attempt::Again`], the processor is asked.
    pub(super) async fn authorize(
        self: &Arc<Self>,
        call: &Call,
        mut payment: Payment,
        operation: &Operation,
        attempt: Attempt,
    ) -> Result<Payment, Fault> {
        let number = operation.number;
        let fraud = match payment.fraud.clone() {
            Some(fraud) => fraud,
            None => self.assess(call, &payment).await?,
        };
        let allowed = fraud.outcome == FraudOutcome::Allow;
        if !allowed && attempt == Attempt::First {
            return self.stop(call, payment, number, fraud, false).await;
        }
        // After an earlier attempt this also makes sure that there is a reservation that can be released.
        let posted = self.clients.post(call, &posting::reserve(&payment)).await;
        if let Posted::Refused(code) = posted.map_err(|fault| later("ledger", &fault))? {
            tracing::warn!(payment = %payment.id, code, "the ledger refused a reservation");
            let decide = |payment, now| authorization::refused_by_ledger(payment, number, fraud.clone(), now);
            return Ok(self.commit(call, payment, decide).await?);
        }
        authorization::assessed(&mut payment, Some(fraud.clone()));
        let outcome = if allowed {
            self.request(call, &payment, operation, attempt).await?
        } else {
            match self.inquire(&payment, operation).await {
                ProcessorOutcome::NeverHeardOf => return self.stop(call, payment, number, fraud, true).await,
                outcome => outcome,
            }
        };
        let (terms, read) = (self.terms, fraud);
        let decide = move |mut payment: Payment, now| {
            authorization::assessed(&mut payment, Some(read.clone()));
            answer::answered(payment, number, outcome.clone(), &terms, now)
        };
        self.write_answer(call, payment, number, decide).await
    }

    async fn stop(
        self: &Arc<Self>,
        call: &Call,
        payment: Payment,
        number: u32,
        fraud: Fraud,
        reserved: bool,
    ) -> Result<Payment, Fault> {
        let terms = self.terms;
        let decide = |payment, now| {
            authorization::stopped_by_fraud(payment, number, fraud.clone(), reserved, &terms, now)
        };
        Ok(self.commit(call, payment, decide).await?)
    }

    /// The processor call itself. Cards and accounts are there for as long as it takes.
    async fn request(
        &self,
        call: &Call,
        payment: &Payment,
        operation: &Operation,
        attempt: Attempt,
    ) -> Result<ProcessorOutcome, Fault> {
        let OperationKind::Authorize { amount, capture } = operation.kind else {
            return Ok(ProcessorOutcome::Unanswered);
        };
        let instrument = match self.instrument(call, payment).await {
            Ok(instrument) => instrument,
            Err(fault) if fault.reason() == Reason::TokenNotFound => {
                let earlier = match attempt {
                    Attempt::First => ProcessorOutcome::NeverHeardOf,
                    Attempt::Again => self.inquire(payment, operation).await,
                };
                return Ok(match earlier {
                    ProcessorOutcome::NeverHeardOf => ProcessorOutcome::Declined(Failure::token_not_found()),
                    outcome => outcome,
                });
            }
            Err(fault) => return Err(later("vault", &fault)),
        };
        let authorization = Authorization {
            instrument,
            amount,
            currency: payment.currency,
            capture,
            initiator: payment.initiator,
            network_transaction_id: String::new(),
            statement_reference: payment.reference.clone(),
        };
        let reference = reference(payment.id, operation.number);
        let request = ProcessorRequest::Authorize(Box::new(authorization));
        match self.processors.perform(&operation.processor, &reference, request).await {
            Performed::Asked(outcome) => Ok(outcome),
            Performed::NotAsked if attempt == Attempt::First => {
                Ok(ProcessorOutcome::NotTaken(processor::unavailable()))
            }
            // An earlier attempt may have arrived.
            Performed::NotAsked => Ok(match self.inquire(payment, operation).await {
                ProcessorOutcome::NeverHeardOf => ProcessorOutcome::NotTaken(processor::unavailable()),
                outcome => outcome,
            }),
        }
    }

    async fn instrument(&self, call: &Call, payment: &Payment) -> Result<Instrument, Fault> {
        match &payment.method {
            Method::Card { token, .. } => {
                Ok(Instrument::Card(self.clients.card(call, &payment.tenant, *token).await?))
            }
            Method::BankAccount { .. } | Method::Wallet { .. } => {
                Err(Fault::new(Reason::TokenNotFound, "There is no such payment method."))
            }
        }
    }

    async fn assess(&self, call: &Call, payment: &Payment) -> Result<Fraud, Fault> {
        let Method::Card { card, .. } = &payment.method else {
            return Ok(Fraud { outcome: FraudOutcome::Allow, score: 0, reasons: Vec::new() });
        };
        let question = proto::AssessRequest {
            payment_id: payment.id.to_string(),
            amount: payment.amount,
            currency: payment.currency.code().to_owned(),
            card_fingerprint: card.fingerprint.clone(),
            card_bin: card.bin.clone(),
            card_last4: card.last4.clone(),
            card_brand: card.brand.clone(),
            tenant: payment.tenant.to_string(),
        };
        match self.clients.assess(call, question).await {
            Ok(assessment) => convert::fraud(&assessment),
            Err(fault) if payment.amount <= self.config.fraud_unavailable_allow_up_to => {
                tracing::warn!(%fault, payment = %payment.id, "fraud is unavailable: allowed by amount");
                let reasons = vec!["fraud_unavailable".to_owned()];
                Ok(Fraud { outcome: FraudOutcome::Allow, score: 0, reasons })
            }
            Err(fault) => Err(later("fraud", &fault)),
        }
    }
}
