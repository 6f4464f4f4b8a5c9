//! A ledger small enough to be seen through: two-phase, every id once, everything of one payment in order.

use std::collections::HashMap;

use svc_payments::domain::posting::{AccountCode, Posting, TransferKind};
use uuid::Uuid;

/// Debits and credits of one payment.
#[derive(Default)]
pub(crate) struct Ledger {
    made: HashMap<Uuid, String>,
    /// The amount, while it is reserved.
    reservations: HashMap<Uuid, Option<i64>>,
    /// Debits less credits.
    posted: HashMap<AccountCode, i64>,
    last: u32,
}

impl Ledger {
    /// Makes a posting's transfers. A posting that comes again must be the same, and is made once.
    pub(crate) fn post(&mut self, posting: &Posting) {
        if posting.ordinal > 0 {
            assert!(posting.ordinal <= self.last + 1, "a posting was left out before {}", posting.ordinal);
            self.last = self.last.max(posting.ordinal);
        }
        assert!(!posting.transfers.is_empty());
        for transfer in &posting.transfers {
            let said = format!("{transfer:?}");
            if let Some(before) = self.made.insert(transfer.id, said.clone()) {
                assert_eq!(before, said, "one id stands for two transfers");
                continue;
            }
            let moved = match transfer.kind {
                TransferKind::Plain => {
                    assert!(transfer.amount > 0, "a transfer moves nothing");
                    transfer.amount
                }
                TransferKind::Pending => {
                    assert!(transfer.amount > 0, "nothing is reserved");
                    self.reservations.insert(transfer.id, Some(transfer.amount));
                    0
                }
                TransferKind::Post { pending_id } => {
                    let reserved = self.resolve(pending_id);
                    assert!((1..=reserved).contains(&transfer.amount), "more is taken than was reserved");
                    transfer.amount
                }
                TransferKind::Void { pending_id } => {
                    self.resolve(pending_id);
                    0
                }
            };
            *self.posted.entry(transfer.debit).or_default() += moved;
            *self.posted.entry(transfer.credit).or_default() -= moved;
        }
        let open = self.reservations.values().filter(|reserved| reserved.is_some()).count();
        assert!(open <= 1, "a payment has one reservation at a time");
    }

    fn resolve(&mut self, id: Uuid) -> i64 {
        let reserved = self.reservations.get_mut(&id).expect("what is resolved was reserved");
        reserved.take().expect("a reservation is resolved once")
    }

    /// What is still reserved.
    pub(crate) fn pending(&self) -> i64 {
        self.reservations.values().flatten().sum()
    }

    /// Debits less credits of an account.
    pub(crate) fn balance(&self, account: AccountCode) -> i64 {
        self.posted.get(&account).copied().unwrap_or_default()
    }
}
