//! What the model's test needs beside the model: a payment to begin with, and a ledger small enough to
//! be seen through.

use std::collections::{BTreeMap, HashMap};

use money::{PaymentId, Timestamp, TokenId};
use svc_payments::domain::{
    card::CardSummary,
    create::{self, Found, NewPayment},
    payment::{CaptureMethod, Change, Tax},
    posting::{AccountCode, Posting, TransferKind},
};
use uuid::Uuid;

/// A point in time.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + second)
}

/// A payment as it is first written down.
pub(crate) fn created(amount: i64, tax: Option<i64>, capture_method: CaptureMethod) -> Change {
    let token = TokenId::new(Uuid::from_u128(2));
    let new = NewPayment {
        amount,
        currency: "EUR".parse().unwrap(),
        token: token.into(),
        capture_method,
        reference: "INV-1".into(),
        description: String::new(),
        metadata: BTreeMap::from([("order".to_owned(), "7".to_owned())]),
    };
    let text = |text: &str| text.to_owned();
    let card =
        CardSummary { brand: text("VISA"), bin: text("424242"), last4: text("4242"), fingerprint: text("f") };
    let tax = tax.map(|amount_tax| Tax { calculation: vec![0, 255], amount_tax });
    let found = Found { token, card, tax, processor: text("simulator") };
    let id = PaymentId::new(Uuid::from_u128(0x0193_3c5e_8f7a_7c3e_9d5b_2a4f_6e8c_0d1b));
    create::create(new, found, id, "acme".parse().unwrap(), "key", at(0))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reservation {
    Open,
    Resolved,
}

/// Debits and credits of one payment, kept by the rules of a two-phase ledger.
#[derive(Default)]
pub(crate) struct Ledger {
    made: HashMap<Uuid, String>,
    reservations: HashMap<Uuid, (i64, Reservation)>,
    /// Debits less credits.
    posted: HashMap<AccountCode, i64>,
}

impl Ledger {
    /// Makes a posting's transfers. A posting that comes again must be the same, and is made once.
    pub(crate) fn post(&mut self, posting: &Posting) {
        for transfer in &posting.transfers {
            let said = format!("{transfer:?}");
            if let Some(before) = self.made.insert(transfer.id, said.clone()) {
                assert_eq!(before, said, "one id stands for two transfers");
                continue;
            }
            let moved = match transfer.kind {
                TransferKind::Plain => transfer.amount,
                TransferKind::Pending => {
                    self.reservations.insert(transfer.id, (transfer.amount, Reservation::Open));
                    0
                }
                TransferKind::Post { pending_id } => {
                    assert!(transfer.amount <= self.resolve(pending_id), "more is taken than was reserved");
                    transfer.amount
                }
                TransferKind::Void { pending_id } => {
                    self.resolve(pending_id);
                    0
                }
            };
            assert!(moved > 0 || !matches!(transfer.kind, TransferKind::Plain), "a transfer moves nothing");
            *self.posted.entry(transfer.debit).or_default() += moved;
            *self.posted.entry(transfer.credit).or_default() -= moved;
        }
    }

    fn resolve(&mut self, id: Uuid) -> i64 {
        let (amount, state) = self.reservations.get_mut(&id).expect("what is resolved was reserved");
        assert!(*state == Reservation::Open, "a reservation is resolved once");
        *state = Reservation::Resolved;
        *amount
    }

    /// What is still reserved.
    pub(crate) fn pending(&self) -> i64 {
        let open = |(amount, state): &(i64, Reservation)| (*state == Reservation::Open).then_some(*amount);
        self.reservations.values().filter_map(open).sum()
    }

    /// Debits less credits of an account.
    pub(crate) fn balance(&self, account: AccountCode) -> i64 {
        self.posted.get(&account).copied().unwrap_or_default()
    }
}
