//! The trial balance: sums over accounts, per ledger.

use std::collections::BTreeMap;

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

/// A line per ledger, in the order of their codes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrialBalance {
    /// The lines.
    pub lines: BTreeMap<LedgerCode, TrialLine>,
}

impl TrialBalance {
    /// Adds one account.
    pub fn add(&mut self, ledger: LedgerCode, balances: &Balances) {
        let line = self.lines.entry(ledger).or_default();
        line.debits_pending += i128::from(balances.debits_pending);
        line.debits_posted += i128::from(balances.debits_posted);
        line.credits_pending += i128::from(balances.credits_pending);
        line.credits_posted += i128::from(balances.credits_posted);
        line.accounts += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_may_leave_the_range_of_one_balance() {
        let mut trial = TrialBalance::default();
        let (eur, usd) = ("EUR".parse().unwrap(), "USD".parse().unwrap());
        let most = Balances { debits_posted: i64::MAX, ..Balances::default() };
        trial.add(eur, &most);
        trial.add(eur, &most);
        trial.add(usd, &Balances { credits_posted: 3, credits_pending: 1, ..Balances::default() });
        assert_eq!(trial.lines[&eur].difference(), 2 * i128::from(i64::MAX));
        assert_eq!(trial.lines[&eur].accounts, 2);
        assert_eq!((trial.lines[&usd].difference(), trial.lines[&usd].credits_pending), (-3, 1));
    }
}
