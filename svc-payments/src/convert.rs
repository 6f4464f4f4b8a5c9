//! Between the contract's messages and the domain's types.

use mesh::{Fault, Reason, clock::to_proto};
use money::EventId;
use paymesh_proto::{
    fraud::v1::{Assessment, assessment},
    payments::v1 as proto,
    tax::v1::Calculation,
};
use prost::Message as _;

use crate::domain::{
    payment::{CaptureMethod, Fraud, FraudOutcome, Payment, Recorded},
    refund::{Refund, RefundStatus},
    transition::Status,
};

/// The state, in the contract's words.
pub fn status(status: Status) -> proto::payment::Status {
    use proto::payment::Status as P;
    match status {
        Status::Processing => P::Processing,
        Status::InReview => P::InReview,
        Status::Unknown => P::Unknown,
        Status::Authorized => P::Authorized,
        Status::PartiallyCaptured => P::PartiallyCaptured,
        Status::Captured => P::Captured,
        Status::Canceled => P::Canceled,
        Status::Failed => P::Failed,
        Status::Refunded => P::Refunded,
    }
}

/// The state that the contract's word means; `None` for UNSPECIFIED.
pub fn status_from_proto(wanted: proto::payment::Status) -> Option<Status> {
    Status::ALL.into_iter().find(|known| status(*known) == wanted)
}

/// What the fraud service said, in the domain's words.
pub fn fraud(assessment: &Assessment) -> Result<Fraud, Fault> {
    let outcome = match assessment.outcome() {
        assessment::Outcome::Allow => FraudOutcome::Allow,
        assessment::Outcome::Review => FraudOutcome::Review,
        assessment::Outcome::Block => FraudOutcome::Block,
        assessment::Outcome::Unspecified => {
            return Err(Fault::new(Reason::Internal, "svc-fraud gave an answer that cannot be understood."));
        }
    };
    Ok(Fraud { outcome, score: assessment.score, reasons: assessment.reasons.clone() })
}

/// The payment, in the contract's words.
pub fn payment(p: &Payment) -> proto::Payment {
    let fraud_outcome = |outcome| match outcome {
        FraudOutcome::Allow => proto::payment::fraud::Outcome::Allow,
        FraudOutcome::Review => proto::payment::fraud::Outcome::Review,
        FraudOutcome::Block => proto::payment::fraud::Outcome::Block,
    };
    let method = match p.capture_method {
        CaptureMethod::Automatic => proto::payment::CaptureMethod::Automatic,
        CaptureMethod::Manual => proto::payment::CaptureMethod::Manual,
    };
    proto::Payment {
        id: p.id.to_string(),
        status: status(p.status).into(),
        amount: p.amount,
        amount_authorized: p.amount_authorized,
        amount_captured: p.amount_captured,
        amount_refunded: p.amount_refunded,
        currency: p.currency.code().to_owned(),
        payment_method: Some(proto::PaymentMethod { token: p.token.to_string() }),
        capture_method: method.into(),
        reference: p.reference.clone(),
        description: p.description.clone(),
        metadata: p.metadata.clone(),
        fraud: p.fraud.as_ref().map(|fraud| proto::payment::Fraud {
            outcome: fraud_outcome(fraud.outcome).into(),
            score: fraud.score,
            reasons: fraud.reasons.clone(),
        }),
        tax: p.tax.as_ref().and_then(|tax| Calculation::decode(tax.calculation.as_slice()).ok()),
        failure: p.failure.as_ref().map(|failure| proto::payment::Failure {
            code: failure.code.clone(),
            decline_code: failure.decline_code.clone(),
            message: failure.message.clone(),
        }),
        processor: Some(proto::payment::Processor {
            name: p.processor.clone(),
            reference: p.processor_reference.clone(),
        }),
        created_at: Some(to_proto(p.created_at)),
        updated_at: Some(to_proto(p.updated_at)),
        sequence: p.sequence,
    }
}

/// The payment as it goes over the wire, and into an idempotency record.
pub fn encode_payment(p: &Payment) -> Vec<u8> {
    payment(p).encode_to_vec()
}

/// The refund, in the contract's words.
pub fn refund(r: &Refund, of: &Payment) -> proto::Refund {
    let status = match r.status {
        RefundStatus::Pending => proto::refund::Status::Pending,
        RefundStatus::Succeeded => proto::refund::Status::Succeeded,
        RefundStatus::Failed => proto::refund::Status::Failed,
        RefundStatus::Unknown => proto::refund::Status::Unknown,
    };
    proto::Refund {
        id: r.id.to_string(),
        payment_id: r.payment.to_string(),
        status: status.into(),
        amount: r.amount,
        currency: of.currency.code().to_owned(),
        reason: r.reason.clone(),
        created_at: Some(to_proto(r.created_at)),
        updated_at: Some(to_proto(r.updated_at)),
    }
}

/// The refund as it goes over the wire, and into an idempotency record.
pub fn encode_refund(r: &Refund, of: &Payment) -> Vec<u8> {
    refund(r, of).encode_to_vec()
}

/// An event, in the contract's words.
pub fn event(of: &Payment, recorded: &Recorded) -> proto::PaymentEvent {
    let id: EventId = of.event_id(recorded.sequence);
    proto::PaymentEvent {
        id: id.to_string(),
        payment_id: of.id.to_string(),
        sequence: recorded.sequence,
        r#type: recorded.event_type.to_owned(),
        status: status(recorded.status).into(),
        amount: recorded.amount,
        created_at: Some(to_proto(recorded.at)),
    }
}
