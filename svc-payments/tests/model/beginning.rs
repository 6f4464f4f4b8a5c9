//! A payment to begin with.

use std::collections::BTreeMap;

use money::{PaymentId, Timestamp, TokenId};
use svc_payments::domain::{
    create::{self, Found, NewPayment},
    due::Terms,
    method::{CardSummary, Method},
    payment::{CaptureMethod, Change, Initiator, Tax},
};
use uuid::Uuid;

/// How long a payment may wait in these tests.
pub(crate) const TERMS: Terms =
    Terms { unconfirmed_s: 3_600, action_s: 900, review_s: 86_400, authorized_s: 604_800 };

/// A point in time.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + second)
}

/// What a payment begins with.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    pub(crate) amount: i64,
    pub(crate) confirm: bool,
    pub(crate) automatic: bool,
    pub(crate) tax: Option<i64>,
    pub(crate) fee: i64,
    /// How many processors may be asked.
    pub(crate) processors: usize,
}

impl Beginning {
    /// A payment to be captured later, with neither tax nor fee.
    pub(crate) fn plain(amount: i64) -> Self {
        Self { amount, confirm: true, automatic: false, tax: None, fee: 0, processors: 1 }
    }

    /// The name of a processor.
    pub(crate) fn processor(number: usize) -> String {
        format!("p{number}")
    }

    /// The payment as it is first written down, for the caller with the key `k0`.
    pub(crate) fn created(&self) -> Change {
        let text = |text: &str| text.to_owned();
        let new = NewPayment {
            amount: self.amount,
            convenience_fee: self.fee,
            currency: "EUR".parse().unwrap(),
            capture_method: if self.automatic { CaptureMethod::Automatic } else { CaptureMethod::Manual },
            confirm: self.confirm,
            initiator: Initiator::Customer,
            mandate: None,
            reference: text("INV-1"),
            description: String::new(),
            metadata: BTreeMap::from([(text("order"), text("7"))]),
        };
        let card = CardSummary {
            brand: text("VISA"),
            bin: text("424242"),
            last4: text("4242"),
            fingerprint: text("f"),
        };
        let token = TokenId::new(Uuid::from_u128(2));
        let found = Found {
            method: Method::Card { token, card, saved: None },
            tax: self.tax.map(|amount_tax| Tax { calculation: vec![0, 255], amount_tax }),
            processors: (0..self.processors).map(Self::processor).collect(),
        };
        let id = PaymentId::new(Uuid::from_u128(0x0193_3c5e_8f7a_7c3e_9d5b_2a4f_6e8c_0d1b));
        create::create(new, found, id, "acme".parse().unwrap(), "k0", &TERMS, at(0)).unwrap()
    }
}
