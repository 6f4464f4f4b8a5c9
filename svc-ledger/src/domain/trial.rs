//! The trial balance: sums over accounts, per ledger. They are kept up with each movement, so that asking for them
//! costs nothing that grows with the accounts.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use money::TenantId;

use super::{ledger::LedgerCode, types::Balances};

/// Sums over all accounts of one ledger, in minor units. Wide, because the sum of many legal
/// balances need not be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrialLine {
    /// Reserved debits.
    pub debits_pending: i128,
    /// Made debits.
    pub debits_posted: i128,
    /// Reserved credits.
    pub credits_pending: i128,
    /// Made credits.
    pub credits_posted: i128,
    /// How many accounts.
    pub accounts: i64,
}

impl TrialLine {
    /// Made debits minus made credits: zero, or the ledger is broken.
    pub fn difference(&self) -> i128 {
        self.debits_posted - self.credits_posted
    }
}

impl TrialLine {
    /// An account has other sums now. Most movements change one of them.
    fn changed(&mut self, before: &Balances, after: &Balances) {
        let change = |sum: &mut i128, before: i64, after: i64| {
            if before != after {
                *sum += i128::from(after) - i128::from(before);
            }
        };
        change(&mut self.debits_pending, before.debits_pending, after.debits_pending);
        change(&mut self.debits_posted, before.debits_posted, after.debits_posted);
        change(&mut self.credits_pending, before.credits_pending, after.credits_pending);
        change(&mut self.credits_posted, before.credits_posted, after.credits_posted);
    }

    /// One more account, or one less.
    fn count(&mut self, accounts: i64, before: &Balances, after: &Balances) {
        self.accounts += accounts;
        self.changed(before, after);
    }
}

/// A line per ledger, in the order of their codes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrialBalance {
    /// The lines.
    pub lines: BTreeMap<LedgerCode, TrialLine>,
}

/// The line of one tenant's accounts of one ledger.
#[derive(Debug, Clone)]
struct Kept {
    tenant: TenantId,
    ledger: LedgerCode,
    line: TrialLine,
}

/// The trial balances of all tenants, kept up. As many lines as there are tenants and ledgers with accounts.
#[derive(Debug, Clone, Default)]
pub(super) struct Trials {
    lines: Vec<Kept>,
    /// Where a tenant's lines are.
    places: HashMap<TenantId, Vec<usize>, RandomState>,
    /// The line of the latest movement, which is mostly that of the next, too.
    latest: usize,
}

impl Trials {
    /// An account that counts from now on.
    pub(super) fn opened(&mut self, tenant: &TenantId, ledger: LedgerCode, balances: &Balances) {
        if let Some(line) = self.line(tenant, ledger) {
            return line.count(1, &Balances::default(), balances);
        }
        let mut line = TrialLine::default();
        line.count(1, &Balances::default(), balances);
        self.places.entry(tenant.clone()).or_default().push(self.lines.len());
        self.lines.push(Kept { tenant: tenant.clone(), ledger, line });
    }

    /// An account that counts no longer.
    pub(super) fn removed(&mut self, tenant: &TenantId, ledger: LedgerCode, balances: &Balances) {
        if let Some(line) = self.line(tenant, ledger) {
            line.count(-1, balances, &Balances::default());
        }
    }

    /// What a movement made of two accounts of the same tenant and ledger: of each before and after.
    pub(super) fn moved(&mut self, tenant: &TenantId, ledger: LedgerCode, sides: [[&Balances; 2]; 2]) {
        if let Some(line) = self.line(tenant, ledger) {
            for [before, after] in sides {
                line.changed(before, after);
            }
        }
    }

    fn line(&mut self, tenant: &TenantId, ledger: LedgerCode) -> Option<&mut TrialLine> {
        let is_it = |kept: &Kept| kept.ledger == ledger && kept.tenant == *tenant;
        if !self.lines.get(self.latest).is_some_and(is_it) {
            let places = self.places.get(tenant)?;
            self.latest = *places.iter().find(|place| self.lines[**place].ledger == ledger)?;
        }
        self.lines.get_mut(self.latest).map(|kept| &mut kept.line)
    }

    /// A tenant's.
    pub(super) fn of(&self, tenant: &TenantId) -> TrialBalance {
        let places = self.places.get(tenant).map(Vec::as_slice).unwrap_or_default();
        let kept = places.iter().map(|place| &self.lines[*place]);
        TrialBalance { lines: kept.map(|kept| (kept.ledger, kept.line)).collect() }
    }

    /// All lines, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&TenantId, LedgerCode, TrialLine)> {
        self.lines.iter().map(|kept| (&kept.tenant, kept.ledger, kept.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balances(debits_posted: i64, credits_pending: i64) -> Balances {
        Balances { debits_posted, credits_pending, ..Balances::default() }
    }

    #[test]
    fn sums_may_leave_the_range_of_one_balance() {
        let (eur, usd) = ("EUR".parse().unwrap(), "USD".parse().unwrap());
        let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let mut trials = Trials::default();
        trials.opened(&acme, eur, &balances(i64::MAX, 0));
        trials.opened(&acme, eur, &balances(i64::MAX, 0));
        trials.opened(&other, eur, &balances(0, 0));
        trials.opened(&acme, usd, &Balances { credits_posted: 3, credits_pending: 1, ..Balances::default() });
        let trial = trials.of(&acme);
        assert_eq!(trial.lines[&eur].difference(), 2 * i128::from(i64::MAX));
        assert_eq!(trial.lines[&eur].accounts, 2);
        assert_eq!((trial.lines[&usd].difference(), trial.lines[&usd].credits_pending), (-3, 1));
        assert_eq!(trials.of(&other).lines[&eur], TrialLine { accounts: 1, ..TrialLine::default() });
        assert_eq!(trials.of(&"nobody".parse().unwrap()), TrialBalance::default());
    }

    #[test]
    fn a_movement_counts_in_its_own_line_whichever_was_last() {
        let (eur, usd) = ("EUR".parse().unwrap(), "USD".parse().unwrap());
        let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let mut trials = Trials::default();
        for (tenant, ledger) in [(&acme, eur), (&other, eur), (&acme, usd)] {
            trials.opened(tenant, ledger, &Balances::default());
            trials.opened(tenant, ledger, &Balances::default());
        }
        for (tenant, ledger, amount) in [(&other, eur, 5), (&acme, eur, 7), (&acme, usd, 9), (&acme, eur, 1)]
        {
            let none = Balances::default();
            trials.moved(tenant, ledger, [[&none, &balances(amount, 0)], [&none, &balances(0, amount)]]);
        }
        let told = |tenant, ledger| {
            let line = trials.of(tenant).lines[&ledger];
            (line.debits_posted, line.credits_pending, line.accounts)
        };
        assert_eq!(
            (told(&acme, eur), told(&acme, usd), told(&other, eur)),
            ((8, 8, 2), (9, 9, 2), (5, 5, 2))
        );
        trials.moved(&acme, usd, [[&balances(9, 9), &balances(4, 0)], [&balances(0, 0), &balances(0, 0)]]);
        assert_eq!(
            (trials.of(&acme).lines[&usd].debits_posted, trials.of(&acme).lines[&usd].credits_pending),
            (4, 0)
        );
        trials.removed(&acme, usd, &balances(4, 0));
        assert_eq!(trials.of(&acme).lines[&usd], TrialLine { accounts: 1, ..TrialLine::default() });
        assert_eq!(trials.all().count(), 3);
    }
}
