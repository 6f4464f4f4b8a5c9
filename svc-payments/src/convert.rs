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
    method::Method,
    operation::{Failure, NextAction, Operation, OperationKind},
    payment::{CaptureMethod, Fraud, FraudOutcome, Payment, Recorded},
    transition::{OperationStatus, Status},
};

/// The state, in the contract's words.
pub fn status(status: Status) -> proto::payment::Status {
    use proto::payment::Status as P;
    match status {
        Status::RequiresConfirmation => P::RequiresConfirmation,
        Status::Processing => P::Processing,
        Status::RequiresAction => P::RequiresAction,
        Status::Expired => P::Expired,
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
    let token = match &p.method {
        Method::Card { token, .. } => token.to_string(),
        Method::BankAccount { .. } | Method::Wallet { .. } => String::new(),
    };
    proto::Payment {
        id: p.id.to_string(),
        status: status(p.status).into(),
        amount: p.amount,
        amount_authorized: p.amount_authorized,
        amount_captured: p.amount_captured,
        amount_refunded: p.amount_refunded,
        amount_capturable: p.capturable(),
        amount_disputed: p.amount_disputed,
        convenience_fee: p.convenience_fee,
        currency: p.currency.code().to_owned(),
        payment_method: Some(proto::PaymentMethod { token }),
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
        failure: p.failure.as_ref().map(failure),
        processor: Some(processor(&p.processor, &p.processor_reference)),
        next_action: p
            .next_action
            .as_ref()
            .map(|NextAction::Redirect { url }| proto::payment::NextAction { redirect_url: url.clone() }),
        operations: p.operations.iter().map(operation).collect(),
        created_at: Some(to_proto(p.created_at)),
        updated_at: Some(to_proto(p.updated_at)),
        expires_at: p.expires_at.map(to_proto),
        sequence: p.sequence,
    }
}

fn failure(failure: &Failure) -> proto::payment::Failure {
    proto::payment::Failure {
        code: failure.code.clone(),
        decline_code: failure.decline_code.clone(),
        message: failure.message.clone(),
    }
}

fn processor(name: &str, reference: &str) -> proto::payment::Processor {
    proto::payment::Processor { name: name.to_owned(), reference: reference.to_owned() }
}

fn operation(o: &Operation) -> proto::payment::Operation {
    use proto::payment::operation::{Kind, Status as P};
    let kind = match o.kind {
        OperationKind::Authorize { .. } => Kind::Authorize,
        OperationKind::Increment { .. } => Kind::Increment,
        OperationKind::Extend => Kind::Extend,
        OperationKind::Capture { .. } => Kind::Capture,
        OperationKind::Void { .. } => Kind::Void,
        OperationKind::Refund { .. } => Kind::Refund,
        OperationKind::Reverse { .. } => Kind::Reverse,
    };
    let status = match o.status {
        OperationStatus::Pending => P::Pending,
        OperationStatus::RequiresAction => P::RequiresAction,
        OperationStatus::Submitted => P::Submitted,
        OperationStatus::Unknown => P::Unknown,
        OperationStatus::Succeeded => P::Succeeded,
        OperationStatus::Failed => P::Failed,
        OperationStatus::Returned => P::Returned,
    };
    proto::payment::Operation {
        number: i32::try_from(o.number).unwrap_or(i32::MAX),
        kind: kind.into(),
        status: status.into(),
        amount: o.amount(),
        processor: Some(processor(&o.processor, &o.processor_reference)),
        failure: o.failure.as_ref().map(failure),
        created_at: Some(to_proto(o.created_at)),
        updated_at: Some(to_proto(o.updated_at)),
    }
}

/// The payment as it goes over the wire, and into an idempotency record.
pub fn encode_payment(p: &Payment) -> Vec<u8> {
    payment(p).encode_to_vec()
}

/// The refund, in the contract's words.
pub fn refund(of: &Payment, o: &Operation) -> proto::Refund {
    let status = match o.status {
        OperationStatus::Pending | OperationStatus::RequiresAction | OperationStatus::Submitted => {
            proto::refund::Status::Pending
        }
        OperationStatus::Succeeded => proto::refund::Status::Succeeded,
        OperationStatus::Failed | OperationStatus::Returned => proto::refund::Status::Failed,
        OperationStatus::Unknown => proto::refund::Status::Unknown,
    };
    let (id, reason) = match &o.kind {
        OperationKind::Refund { id, reason, .. } => (id.to_string(), reason.clone()),
        _ => Default::default(),
    };
    proto::Refund {
        id,
        payment_id: of.id.to_string(),
        status: status.into(),
        amount: o.amount(),
        currency: of.currency.code().to_owned(),
        reason,
        created_at: Some(to_proto(o.created_at)),
        updated_at: Some(to_proto(o.updated_at)),
        failure: o.failure.as_ref().map(failure),
    }
}

/// The refund as it goes over the wire, and into an idempotency record.
pub fn encode_refund(of: &Payment, o: &Operation) -> Vec<u8> {
    refund(of, o).encode_to_vec()
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
