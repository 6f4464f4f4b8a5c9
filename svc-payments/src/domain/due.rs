//! When something that is under way is looked at again, if nobody has settled it by then, and how long a payment may
//! wait for somebody.

use money::Timestamp;

use super::{
    operation::{Operation, OperationKind},
    payment::Payment,
    transition::OperationStatus,
};

/// The caller's own request gets this long to finish before the background takes over, in seconds.
const PATIENCE_S: i64 = 15;
/// What could not be done when it was due is tried again after this long, in seconds.
const RETRY_PAUSE_S: i64 = 5;
/// The ledger gets this long to confirm a posting before it is told again, in seconds.
const POSTING_PATIENCE_S: i64 = 5;
/// The first and the longest pause before a processor is asked anew to undo what came too late, in seconds.
const REVERSE_PAUSE_S: (i64, i64) = (PATIENCE_S, 3_600);
/// Likewise to release what came to the end of its time.
const RELEASE_PAUSE_S: (i64, i64) = (60, 3_600);
/// The first and the longest pause between two inquiries about an unknown outcome, in seconds.
const UNKNOWN_PAUSE_S: (i64, i64) = (1, 60);
/// Likewise about what waits for the payer: a webhook mostly comes first.
const ACTION_PAUSE_S: (i64, i64) = (15, 300);
/// Likewise about a bank debit, which takes days.
const SUBMITTED_PAUSE_S: (i64, i64) = (60, 3_600);

/// How long a payment may wait for somebody, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// For the caller to confirm it.
    pub unconfirmed_s: i64,
    /// For the payer to do what the processor wants.
    pub action_s: i64,
    /// For a person to look at it.
    pub review_s: i64,
    /// For the caller to capture what is reserved, where the processor does not say how long that is so.
    pub authorized_s: i64,
}

impl Terms {
    /// Until when the caller may confirm what was created at `now`.
    pub fn unconfirmed(&self, now: Timestamp) -> Option<Timestamp> {
        now.checked_add_seconds(self.unconfirmed_s)
    }

    /// Until when the payer may act.
    pub fn action(&self, now: Timestamp) -> Option<Timestamp> {
        now.checked_add_seconds(self.action_s)
    }

    /// Until when a person may look at it.
    pub fn review(&self, now: Timestamp) -> Option<Timestamp> {
        now.checked_add_seconds(self.review_s)
    }

    /// When it is looked at again whether a payment has come to the end of its time, where something else was under
    /// way.
    pub fn busy(&self, now: Timestamp) -> Option<Timestamp> {
        now.checked_add_seconds(UNKNOWN_PAUSE_S.1.min(self.authorized_s))
    }

    /// Until when what is reserved may be captured.
    pub fn authorized(&self, now: Timestamp) -> Option<Timestamp> {
        now.checked_add_seconds(self.authorized_s)
    }
}

/// When the payment is due next, if ever.
pub fn payment(payment: &Payment) -> Option<Timestamp> {
    payment.open_operations().filter_map(|open| operation(payment, open)).chain(payment.expires_at).min()
}

/// The operations to drive when the payment is taken up at `now`: those that are due, or, if it was taken up before
/// its time because somebody has news of it, all that are open.
pub fn operations(payment: &Payment, now: Timestamp) -> Vec<u32> {
    let is_due = |open: &&Operation| operation(payment, open).is_some_and(|due| due <= now);
    let due: Vec<u32> = payment.open_operations().filter(is_due).map(|open| open.number).collect();
    if due.is_empty() { payment.open_operations().map(|open| open.number).collect() } else { due }
}

/// When the operation is due, if it is open.
fn operation(payment: &Payment, operation: &Operation) -> Option<Timestamp> {
    let inquiries = operation.inquiries;
    let pause_s = match operation.status {
        OperationStatus::Pending if matches!(operation.kind, OperationKind::Reverse { .. }) => {
            pause(REVERSE_PAUSE_S, before(payment.tries(&operation.kind)))
        }
        OperationStatus::Pending => PATIENCE_S,
        OperationStatus::Unknown => pause(UNKNOWN_PAUSE_S, inquiries),
        OperationStatus::RequiresAction => pause(ACTION_PAUSE_S, inquiries),
        OperationStatus::Submitted => pause(SUBMITTED_PAUSE_S, inquiries),
        OperationStatus::Succeeded | OperationStatus::Failed | OperationStatus::Returned => return None,
    };
    operation.asked_at.unwrap_or(operation.updated_at).checked_add_seconds(pause_s)
}

/// Twice as long each time.
fn pause((first, longest): (i64, i64), before: u32) -> i64 {
    first.checked_shl(before.min(30)).unwrap_or(longest).min(longest)
}

/// How many came before the latest of them.
fn before(tries: usize) -> u32 {
    u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX)
}

/// When a processor is asked anew to release what came to the end of its time, which it was asked so often.
pub fn release_again(tries: usize, now: Timestamp) -> Option<Timestamp> {
    now.checked_add_seconds(pause(RELEASE_PAUSE_S, before(tries)))
}

/// When a posting that was just written down is due, if the ledger has not confirmed it by then.
pub fn posting(now: Timestamp) -> Timestamp {
    now.checked_add_seconds(POSTING_PATIENCE_S).unwrap_or(now)
}

/// When something is due again that was due and could not be done: others get their turn meanwhile.
pub fn retry(now: Timestamp) -> Timestamp {
    now.checked_add_seconds(RETRY_PAUSE_S).unwrap_or(now)
}

/// Until when nobody else takes up what was taken up now.
pub fn lease(now: Timestamp) -> Timestamp {
    now.checked_add_seconds(PATIENCE_S).unwrap_or(now)
}
