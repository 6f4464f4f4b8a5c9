//! Reservations that lapse by themselves.

use money::Timestamp;

use super::{
    types::{Account, Balances, ReservationState, TransferFlags, TransferId},
    working::{Known, Standing, WorkingSet},
};

/// Releases those of `due` that are open and have lapsed by now, in the order given. The set must
/// hold them and their accounts. Returns how many were released.
pub fn expire(due: &[TransferId], now: Timestamp, set: &mut WorkingSet) -> usize {
    due.iter().filter(|id| release(**id, now, set).is_some()).count()
}

fn release(id: TransferId, now: Timestamp, set: &mut WorkingSet) -> Option<()> {
    let Some(Known::Reserved(pending, ReservationState::Open)) = set.known(id) else { return None };
    let pending = pending.clone();
    let timestamp = set.next_timestamp(now);
    pending.expires_at().filter(|at| *at <= timestamp)?;
    // Balances that do not hold the reservation are the audit's business: nothing is made up here.
    let released = |account: &Account, balances: Option<Balances>, closing: TransferFlags| {
        // Like a void, the lapse of what closed an account opens it again.
        let closed = account.closed && !pending.modifiers.contains(closing);
        balances.map(|balances| Standing { balances, closed })
    };
    let (debit, credit) = (set.account(pending.debit)?, set.account(pending.credit)?);
    let after = [
        released(debit, debit.balances.debited(-pending.amount, 0), TransferFlags::CLOSING_DEBIT)?,
        released(credit, credit.balances.credited(-pending.amount, 0), TransferFlags::CLOSING_CREDIT)?,
    ];
    set.release(timestamp, pending, after);
    Some(())
}
