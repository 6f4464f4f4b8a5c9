//! When something that is under way is looked at again, if nobody has settled it by then.

use money::Timestamp;

use super::{
    payment::Payment,
    refund::{Refund, RefundStatus},
    transition::Status,
};

/// The caller's own request gets this long to finish before the background takes over, in seconds.
const PATIENCE_S: i64 = 15;
/// What could not be done when it was due is tried again after this long, in seconds.
const RETRY_PAUSE_S: i64 = 5;
/// The ledger gets this long to confirm a posting before it is told again, in seconds.
const POSTING_PATIENCE_S: i64 = 5;
/// The longest pause between two inquiries about an unknown outcome, in seconds.
const INQUIRY_PAUSE_S_MAX: i64 = 60;

/// When the payment's operation is due, if it has one.
pub fn payment(payment: &Payment, now: Timestamp) -> Option<Timestamp> {
    payment.operation.as_ref()?;
    let unknown = payment.status == Status::Unknown;
    now.checked_add_seconds(if unknown { inquiry_pause_s(payment.inquiries) } else { PATIENCE_S })
}

/// When the refund is due, if it is open.
pub fn refund(refund: &Refund, now: Timestamp) -> Option<Timestamp> {
    match refund.status {
        RefundStatus::Pending => now.checked_add_seconds(PATIENCE_S),
        RefundStatus::Unknown => now.checked_add_seconds(inquiry_pause_s(refund.inquiries)),
        RefundStatus::Succeeded | RefundStatus::Failed => None,
    }
}

/// When a posting that was just written down is due, if the ledger has not confirmed it by then.
pub fn posting(now: Timestamp) -> Timestamp {
    now.checked_add_seconds(POSTING_PATIENCE_S).unwrap_or(now)
}

/// When something is due again that was due and could not be done: others get their turn meanwhile.
pub fn retry(now: Timestamp) -> Timestamp {
    now.checked_add_seconds(RETRY_PAUSE_S).unwrap_or(now)
}

/// 1, 2, 4, … seconds.
fn inquiry_pause_s(inquiries: u32) -> i64 {
    1_i64.checked_shl(inquiries.min(30)).unwrap_or(INQUIRY_PAUSE_S_MAX).min(INQUIRY_PAUSE_S_MAX)
}
