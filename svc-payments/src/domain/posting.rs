//! What the ledger is told of a payment. Transfer ids are derived, so that posting twice is posting once.

use money::{Currency, PaymentId, RefundId, TenantId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::payment::Payment;

/// The accounts that payments move money between; one of each per tenant and currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountCode {
    /// What the processor owes us.
    ProcessorClearing,
    /// What we owe the biller.
    BillerPayable,
    /// What is owed to tax authorities.
    TaxPayable,
}

impl AccountCode {
    /// Every account.
    pub const ALL: [Self; 3] = [Self::ProcessorClearing, Self::BillerPayable, Self::TaxPayable];

    /// The name in the chart of accounts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProcessorClearing => "processor_clearing",
            Self::BillerPayable => "biller_payable",
            Self::TaxPayable => "tax_payable",
        }
    }

    /// The account's id: the same wherever and whenever it is computed (UUIDv5, RFC 9562).
    pub fn account_id(self, tenant: &TenantId, currency: Currency) -> Uuid {
        const NAMESPACE: Uuid = Uuid::from_u128(0x7061_796d_6573_6800_8000_6c65_6467_6572);
        Uuid::new_v5(&NAMESPACE, format!("{tenant}/{}/{currency}", self.name()).as_bytes())
    }
}

/// One transfer between two accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostingTransfer {
    /// The transfer's id.
    pub id: Uuid,
    /// What kind it is.
    pub kind: TransferKind,
    /// The debited account.
    pub debit: AccountCode,
    /// The credited account.
    pub credit: AccountCode,
    /// Minor units.
    pub amount: i64,
    /// What it is for.
    pub code: String,
}

/// The kinds of transfers that payments make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferKind {
    /// Moves at once.
    Plain,
    /// Reserves.
    Pending,
    /// Takes from a reservation, releases the rest.
    Post {
        /// The reservation.
        pending_id: Uuid,
    },
    /// Releases a reservation.
    Void {
        /// The reservation.
        pending_id: Uuid,
    },
}

/// Transfers that succeed or fail together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// The owner of the accounts.
    pub tenant: TenantId,
    /// The currency.
    pub currency: Currency,
    /// What it is about.
    pub payment: PaymentId,
    /// At least one.
    pub transfers: Vec<PostingTransfer>,
}

/// Which transfer of a payment; makes its id.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Slot {
    Reserve = 1,
    Resolve = 2,
    Tax = 3,
}

/// Keeps the time prefix of the UUIDv7, so that ids stay in the order of time, and marks the tail.
fn derive(id: Uuid, slot: Slot) -> Uuid {
    Uuid::from_u128(id.as_u128() ^ (0x5a_u128 << 48) ^ (slot as u128))
}

/// The reservation's id.
pub fn reservation_id(payment: PaymentId) -> Uuid {
    derive(payment.uuid(), Slot::Reserve)
}

fn posting(payment: &Payment, transfers: Vec<PostingTransfer>) -> Posting {
    Posting { tenant: payment.tenant.clone(), currency: payment.currency, payment: payment.id, transfers }
}

/// Before the processor is asked: reserve on our books.
pub fn reserve(payment: &Payment) -> Posting {
    let transfer = PostingTransfer {
        id: reservation_id(payment.id),
        kind: TransferKind::Pending,
        debit: AccountCode::ProcessorClearing,
        credit: AccountCode::BillerPayable,
        amount: payment.amount,
        code: "payment_authorization".into(),
    };
    posting(payment, vec![transfer])
}

/// The money was not taken: release.
pub fn release(payment: &Payment) -> Posting {
    let transfer = PostingTransfer {
        id: derive(payment.id.uuid(), Slot::Resolve),
        kind: TransferKind::Void { pending_id: reservation_id(payment.id) },
        debit: AccountCode::ProcessorClearing,
        credit: AccountCode::BillerPayable,
        amount: 0,
        code: "payment_authorization".into(),
    };
    posting(payment, vec![transfer])
}

/// `amount` was taken: post it, release the rest, and set the tax in it aside.
pub fn capture(payment: &Payment, amount: i64) -> Posting {
    let mut transfers = vec![PostingTransfer {
        id: derive(payment.id.uuid(), Slot::Resolve),
        kind: TransferKind::Post { pending_id: reservation_id(payment.id) },
        debit: AccountCode::ProcessorClearing,
        credit: AccountCode::BillerPayable,
        amount,
        code: "payment_authorization".into(),
    }];
    let tax = tax_share(payment, amount);
    if tax > 0 {
        transfers.push(PostingTransfer {
            id: derive(payment.id.uuid(), Slot::Tax),
            kind: TransferKind::Plain,
            debit: AccountCode::BillerPayable,
            credit: AccountCode::TaxPayable,
            amount: tax,
            code: "payment_tax".into(),
        });
    }
    posting(payment, transfers)
}

/// `amount` was given back, when `refunded_before` had been: the reverse, with the tax's share.
pub fn refund(payment: &Payment, refund: RefundId, amount: i64, refunded_before: i64) -> Posting {
    let mut transfers = vec![PostingTransfer {
        id: derive(refund.uuid(), Slot::Resolve),
        kind: TransferKind::Plain,
        debit: AccountCode::BillerPayable,
        credit: AccountCode::ProcessorClearing,
        amount,
        code: "payment_refund".into(),
    }];
    // Cumulative shares: whatever the parts were, all of the tax is back when all of the money is.
    let tax = tax_share(payment, refunded_before + amount) - tax_share(payment, refunded_before);
    if tax > 0 {
        transfers.push(PostingTransfer {
            id: derive(refund.uuid(), Slot::Tax),
            kind: TransferKind::Plain,
            debit: AccountCode::TaxPayable,
            credit: AccountCode::BillerPayable,
            amount: tax,
            code: "payment_tax".into(),
        });
    }
    posting(payment, transfers)
}

/// The tax in `part` of the payment, half up. `part ≤ amount` and `tax ≤ amount`, so the result is at
/// most `part`, and it grows with `part`.
fn tax_share(payment: &Payment, part: i64) -> i64 {
    let Some(tax) = &payment.tax else { return 0 };
    if payment.amount <= 0 {
        return 0;
    }
    let (tax, part, whole) = (i128::from(tax.amount_tax), i128::from(part), i128::from(payment.amount));
    i64::try_from((tax * part * 2 + whole) / (whole * 2)).unwrap_or(i64::MAX)
}
