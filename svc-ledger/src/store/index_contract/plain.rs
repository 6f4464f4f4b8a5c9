//! The plainest index: everything in lists, each question answered by looking at all of it. What every
//! other index is compared with.

use std::collections::HashMap;

use money::TenantId;

use crate::{
    domain::{Account, AccountFlags, AccountId, Event, Kind, Known, ReservationState, Transfer, TransferId},
    store::ports::{
        AccountFilter, BalanceAt, BalanceFilter, Happened, Period, TransferFilter, Watermark, Window,
    },
};

#[derive(Default)]
pub(crate) struct Plain {
    pub(crate) watermark: Watermark,
    pub(crate) accounts: Vec<Account>,
    pub(crate) transfers: Vec<Transfer>,
    states: HashMap<TransferId, ReservationState>,
    burned: HashMap<TransferId, TenantId>,
    movements: Vec<(AccountId, BalanceAt)>,
}

impl Plain {
    pub(crate) fn apply(&mut self, record: &Happened) {
        self.watermark = Watermark { sequence: record.sequence, hash: record.hash };
        for event in record.events.iter() {
            match event {
                Event::Opened(account) => self.accounts.push(Account::clone(account)),
                Event::Made { transfer, debit, credit } => {
                    let state = match transfer.kind {
                        Kind::Single => None,
                        Kind::Pending { .. } => Some((transfer.id, ReservationState::Open)),
                        Kind::Post { pending } => Some((pending, ReservationState::Posted)),
                        Kind::Void { pending } => Some((pending, ReservationState::Voided)),
                    };
                    self.states.extend(state);
                    self.moved(transfer.debit, transfer.timestamp, debit.after);
                    self.moved(transfer.credit, transfer.timestamp, credit.after);
                    self.transfers.push(Transfer::clone(transfer));
                }
                Event::Expired { timestamp, pending, debit, credit } => {
                    self.states.insert(pending.id, ReservationState::Expired);
                    self.moved(pending.debit, *timestamp, debit.after);
                    self.moved(pending.credit, *timestamp, credit.after);
                }
                Event::Burned { tenant, id } => {
                    self.burned.insert(*id, tenant.clone());
                }
                Event::Limited { .. } | Event::TimesClosed { .. } => {}
            }
        }
    }

    fn moved(&mut self, id: AccountId, timestamp: money::Timestamp, balances: crate::domain::Balances) {
        self.movements.push((id, BalanceAt { timestamp, balances }));
    }

    pub(crate) fn known(&self, id: TransferId) -> Option<Known> {
        if let Some(owner) = self.burned.get(&id) {
            return Some(Known::Failed(owner.clone()));
        }
        let made = self.transfers.iter().find(|transfer| transfer.id == id)?;
        let made_again = std::sync::Arc::new(made.clone());
        Some(match self.states.get(&id) {
            Some(state) => Known::Reserved(made_again, *state),
            None => Known::Made(made_again),
        })
    }

    /// All that pass, whatever the limit.
    pub(crate) fn transfers(&self, filter: &TransferFilter) -> Vec<Transfer> {
        let is =
            |condition: Option<AccountId>, ids: &[AccountId]| condition.is_none_or(|id| ids.contains(&id));
        let mut found: Vec<Transfer> = Vec::new();
        for t in &self.transfers {
            let passes = [
                filter.tenant.as_ref().is_none_or(|tenant| *tenant == t.tenant),
                within(filter.period, t.timestamp),
                is(filter.account, &[t.debit, t.credit]),
                is(filter.debit, &[t.debit]),
                is(filter.credit, &[t.credit]),
                filter.ledger.is_none_or(|ledger| ledger == t.ledger),
                filter.code.as_ref().is_none_or(|code| *code == t.code),
                t.flags().bits() & filter.flags.bits() == filter.flags.bits(),
                filter.reference.as_ref().is_none_or(|reference| *reference == t.reference),
                filter.user_data.is_none_or(|data| data == t.user_data),
                filter.amount_min.is_none_or(|least| t.amount >= least),
                filter.amount_max.is_none_or(|most| t.amount <= most),
                filter.pending.is_none_or(|pending| t.pending_id() == Some(pending)),
            ];
            if passes.iter().all(|passes| *passes) {
                found.push(t.clone());
            }
        }
        ordered(found, filter.window)
    }

    /// All that pass, whatever the limit.
    pub(crate) fn accounts(&self, filter: &AccountFilter) -> Vec<AccountId> {
        let passes = |a: &&Account| {
            a.tenant == filter.tenant
                && within(filter.period, a.created_at)
                && filter.ledger.is_none_or(|ledger| ledger == a.ledger)
                && filter.code.as_ref().is_none_or(|code| *code == a.code)
                && filter.reference.as_ref().is_none_or(|reference| *reference == a.reference)
                && filter.user_data.is_none_or(|data| data == a.user_data)
        };
        ordered(self.accounts.iter().filter(passes).map(|a| a.id).collect(), filter.window)
    }

    /// All that pass, whatever the limit.
    pub(crate) fn balances(&self, filter: &BalanceFilter) -> Vec<BalanceAt> {
        let account = self.accounts.iter().find(|account| account.id == filter.account);
        let is_kept = account.is_some_and(|account| {
            account.tenant == filter.tenant && account.flags.contains(AccountFlags::HISTORY)
        });
        let passes = |(id, at): &&(AccountId, BalanceAt)| {
            is_kept && *id == filter.account && within(filter.period, at.timestamp)
        };
        ordered(self.movements.iter().filter(passes).map(|(_, at)| *at).collect(), filter.window)
    }
}

fn within(period: Period, time: money::Timestamp) -> bool {
    period.from <= time && time <= period.to
}

fn ordered<T>(mut found: Vec<T>, window: Window) -> Vec<T> {
    if window.newest_first {
        found.reverse();
    }
    found
}
