//! A payer's bank takes money back and asks why it should not: what may become of that.

use money::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    payment::{Change, Payment, Rejection, event_type},
    posting, refund,
    transition::{self, DisputeEvent, DisputeStatus, Status},
};

/// A dispute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// Ours.
    pub id: Uuid,
    /// The processor's own id: what makes a second notice of it the same dispute.
    pub processor_reference: String,
    /// Where it stands.
    pub status: DisputeStatus,
    /// Minor units, at most what was captured.
    pub amount: i64,
    /// The network's reason code, as the processor gives it.
    pub reason: String,
    /// Until when evidence can be given, where there is such a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_due_at: Option<Timestamp>,
    /// What was given: a description and references to documents, in the caller's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What a processor tells of a dispute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The processor's own id.
    pub processor_reference: String,
    /// Where it stands, by the processor.
    pub status: DisputeStatus,
    /// Minor units.
    pub amount: i64,
    /// The network's reason code.
    pub reason: String,
    /// Until when evidence can be given.
    pub evidence_due_at: Option<Timestamp>,
}

/// A processor tells of a dispute: opens it, or moves it on. What is known already changes nothing. `id` is used where
/// it is new.
pub fn told(payment: Payment, notice: &Notice, id: Uuid, now: Timestamp) -> Result<Change, Rejection> {
    let mut change = Change::of(payment);
    let known = |dispute: &Dispute| dispute.processor_reference == notice.processor_reference;
    let place = match change.payment.disputes.iter().position(known) {
        Some(place) => place,
        None => open(&mut change, notice, id, now)?,
    };
    match notice.status {
        DisputeStatus::Won => decide(&mut change, place, DisputeEvent::Won, now)?,
        DisputeStatus::Lost => decide(&mut change, place, DisputeEvent::Lost, now)?,
        DisputeStatus::UnderReview => review(&mut change, place, now)?,
        DisputeStatus::Open => {}
    }
    Ok(change)
}

fn open(change: &mut Change, notice: &Notice, id: Uuid, now: Timestamp) -> Result<usize, Rejection> {
    let payment = &mut change.payment;
    if !matches!(payment.status, Status::Captured | Status::PartiallyCaptured | Status::Refunded) {
        return Err(Rejection::State {
            status: payment.status,
            needed: "only what was captured can be disputed",
        });
    }
    // Banks dispute what was refunded too: only what is still ours can be taken from us.
    let amount = notice.amount.clamp(0, payment.refundable());
    payment.amount_disputed += amount;
    payment.disputes.push(Dispute {
        id,
        processor_reference: notice.processor_reference.clone(),
        status: DisputeStatus::Open,
        amount,
        reason: notice.reason.clone(),
        evidence_due_at: notice.evidence_due_at,
        evidence: None,
        created_at: now,
        updated_at: now,
    });
    let place = payment.disputes.len() - 1;
    change.record(event_type::DISPUTE_OPENED, amount, now);
    if amount > 0 {
        let posting = posting::disputed(&change.payment, id, amount);
        change.post(posting);
    }
    Ok(place)
}

/// Evidence was given, at the processor's own pages perhaps.
fn review(change: &mut Change, place: usize, now: Timestamp) -> Result<(), Rejection> {
    let dispute = change.payment.disputes.get_mut(place).ok_or(Rejection::DisputeNotFound)?;
    let event = DisputeEvent::EvidenceSubmitted;
    if let Some(to) = transition::next(transition::DISPUTE, dispute.status, event) {
        dispute.status = to;
        dispute.updated_at = now;
        let amount = dispute.amount;
        change.record(event_type::DISPUTE_UNDER_REVIEW, amount, now);
    }
    Ok(())
}

fn decide(change: &mut Change, place: usize, event: DisputeEvent, now: Timestamp) -> Result<(), Rejection> {
    let Some(dispute) = change.payment.disputes.get_mut(place) else {
        return Err(Rejection::DisputeNotFound);
    };
    let Some(to) = transition::next(transition::DISPUTE, dispute.status, event) else { return Ok(()) };
    dispute.status = to;
    dispute.updated_at = now;
    let (id, amount, won) = (dispute.id, dispute.amount, to == DisputeStatus::Won);
    if won {
        change.payment.amount_disputed -= amount;
    }
    change.record(if won { event_type::DISPUTE_WON } else { event_type::DISPUTE_LOST }, amount, now);
    if amount > 0 {
        let posting = posting::decided(&change.payment, id, amount, won);
        change.post(posting);
    }
    if won {
        refund::freed(change, id, amount);
    }
    Ok(())
}

/// The caller gives evidence.
pub fn submit_evidence(
    payment: Payment,
    id: Uuid,
    evidence: String,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let mut change = Change::of(payment);
    let dispute = find(&mut change, id)?;
    let status = dispute.status;
    let to = transition::next(transition::DISPUTE, status, DisputeEvent::EvidenceSubmitted);
    dispute.status = to.ok_or(Rejection::DisputeDecided { status })?;
    dispute.evidence = Some(evidence);
    dispute.updated_at = now;
    let amount = dispute.amount;
    change.record(event_type::DISPUTE_UNDER_REVIEW, amount, now);
    Ok(change)
}

/// The caller gives in.
pub fn accept(payment: Payment, id: Uuid, now: Timestamp) -> Result<Change, Rejection> {
    let mut change = Change::of(payment);
    let status = find(&mut change, id)?.status;
    if !status.is_open() {
        return Err(Rejection::DisputeDecided { status });
    }
    let place = change.payment.disputes.iter().position(|dispute| dispute.id == id);
    decide(&mut change, place.ok_or(Rejection::DisputeNotFound)?, DisputeEvent::Lost, now)?;
    Ok(change)
}

fn find(change: &mut Change, id: Uuid) -> Result<&mut Dispute, Rejection> {
    change.payment.disputes.iter_mut().find(|dispute| dispute.id == id).ok_or(Rejection::DisputeNotFound)
}
