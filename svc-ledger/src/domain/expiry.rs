//! Reservations that lapse by themselves.

use money::Timestamp;

use super::{
    types::{ReservationState, TransferFlags, TransferId},
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
    let (debit, credit) = (set.account(pending.debit)?, set.account(pending.credit)?);
    let debit_after = Standing {
        balances: debit.balances.debited(-pending.amount, 0)?,
        closed: debit.stays_closed(&pending, TransferFlags::CLOSING_DEBIT),
    };
    let credit_after = Standing {
        balances: credit.balances.credited(-pending.amount, 0)?,
        closed: credit.stays_closed(&pending, TransferFlags::CLOSING_CREDIT),
    };
    set.release(timestamp, pending, [debit_after, credit_after]);
    Some(())
}
