//! What must hold of a state whatever happened to it, so that one that was kept where anybody can change it is not
//! taken for the ledger's.

use std::collections::HashMap;

use super::{Book, types::AccountId};

impl Book {
    /// What cannot be: debits and credits that differ, or accounts with other reservations than those that are open.
    /// `None` where all of it fits together, which is no proof: that takes an audit.
    pub fn contradiction(&self) -> Option<String> {
        for (tenant, ledger, line) in self.trial_lines() {
            if line.difference() != 0 {
                let difference = line.difference();
                return Some(format!(
                    "the debits and credits of {tenant} in {ledger} differ by {difference}"
                ));
            }
        }
        // Of each account: debits and credits.
        let mut reserved: HashMap<AccountId, [i128; 2]> = HashMap::new();
        for reservation in self.open_reservations() {
            for (side, id) in [reservation.debit, reservation.credit].into_iter().enumerate() {
                reserved.entry(id).or_default()[side] += i128::from(reservation.amount);
            }
        }
        for account in self.all_accounts() {
            let held = [account.balances.debits_pending, account.balances.credits_pending].map(i128::from);
            let open = reserved.remove(&account.id).unwrap_or_default();
            if held != open {
                let id = account.id;
                return Some(format!(
                    "account {id} has {held:?} reserved, and its open reservations {open:?}"
                ));
            }
        }
        let stray = reserved.into_keys().next()?;
        Some(format!("a reservation is open on account {stray}, which is not there"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use money::Timestamp;

    use super::*;
    use crate::domain::{Account, AccountFlags, Balances, Kind, Transfer, TransferFlags, TransferId};

    fn account(bits: u128, balances: Balances) -> Account {
        Account {
            id: AccountId::new(bits).unwrap(),
            tenant: "acme".parse().unwrap(),
            ledger: "EUR".parse().unwrap(),
            code: "cash".parse().unwrap(),
            flags: AccountFlags::NONE,
            user_data: 0,
            reference: "".parse().unwrap(),
            limit: 0,
            closed: false,
            balances,
            created_at: Timestamp::from_nanos(1),
        }
    }

    fn reservation(bits: u128, credit: u128, amount: i64) -> Arc<Transfer> {
        Arc::new(Transfer {
            id: TransferId::new(bits).unwrap(),
            timestamp: Timestamp::from_nanos(2),
            tenant: "acme".parse().unwrap(),
            kind: Kind::Pending { timeout_s: 0 },
            modifiers: TransferFlags::default(),
            debit: AccountId::new(1).unwrap(),
            credit: AccountId::new(credit).unwrap(),
            amount,
            requested: Some(amount),
            ledger: "EUR".parse().unwrap(),
            code: "fee".parse().unwrap(),
            user_data: 0,
            reference: "".parse().unwrap(),
        })
    }

    fn said(accounts: [Balances; 2], reservations: Vec<Arc<Transfer>>) -> Option<String> {
        let accounts = accounts.into_iter().zip(1..).map(|(balances, bits)| account(bits, balances));
        Book::restore(1, Timestamp::from_nanos(2), accounts, reservations).contradiction()
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        let debits = Balances { debits_pending: 12, debits_posted: 5, ..Balances::default() };
        let credits = Balances { credits_pending: 12, credits_posted: 5, ..Balances::default() };
        let open = || vec![reservation(7, 2, 10), reservation(8, 2, 2)];
        assert_eq!(said([debits, credits], open()), None);
        assert_eq!(said([Balances::default(); 2], vec![]), None);
        let cases = [
            ([Balances { debits_posted: 4, ..debits }, credits], open(), "differ by -1"),
            // Also where the sums are still equal.
            (
                [Balances { debits_pending: 11, ..debits }, Balances { credits_pending: 11, ..credits }],
                open(),
                "reserved, and its open reservations",
            ),
            ([debits, credits], vec![reservation(7, 2, 10)], "reserved, and its open reservations"),
            (
                [Balances { debits_pending: 15, ..debits }, credits],
                [open(), vec![reservation(9, 3, 3)]].concat(),
                "which is not there",
            ),
        ];
        for (accounts, reservations, told) in cases {
            let said = said(accounts, reservations).expect(told);
            assert!(said.contains(told), "{said}");
        }
    }
}
