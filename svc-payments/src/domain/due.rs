//! When something that is under way is looked at again, if nobody has settled it by then.

use money::Timestamp;

use super::{
    payment::Payment,
    refund::{Refund, RefundStatus},
    transition::Status,
};

/// The caller's own request gets this long to finish before the background takes over, in seconds.
const PATIENCE_S: i64 = 15;
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

/// 1, 2, 4, … seconds.
fn inquiry_pause_s(inquiries: u32) -> i64 {
    1_i64.checked_shl(inquiries.min(30)).unwrap_or(INQUIRY_PAUSE_S_MAX).min(INQUIRY_PAUSE_S_MAX)
}
