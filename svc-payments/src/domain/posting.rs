//! What the ledger is told of a payment. Transfer ids are derived, so that posting twice is posting once; what is told of
//! one payment is told in order, as each reservation is resolved by what comes after it.

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
    /// What payers paid for paying: ours.
    Fees,
    /// What payers' banks took back and have not decided upon.
    Chargebacks,
}

impl AccountCode {
    /// Those that every payment has; the others are opened when something moves there.
    pub const OF_EVERY_PAYMENT: [Self; 3] = [Self::ProcessorClearing, Self::BillerPayable, Self::TaxPayable];

    /// The name in the chart of accounts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProcessorClearing => "processor_clearing",
            Self::BillerPayable => "biller_payable",
            Self::TaxPayable => "tax_payable",
            Self::Fees => "fees",
            Self::Chargebacks => "chargebacks",
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
    /// 1, 2, 3, … within the payment: the ledger is told of one when it has confirmed all before it. 0: of the
    /// reservation that comes before everything.
    #[serde(default)]
    pub ordinal: u32,
    /// At least one.
    pub transfers: Vec<PostingTransfer>,
}

/// Which transfer of a payment, a refund or a dispute; makes its id.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Slot {
    Reserve = 1,
    Resolve = 2,
    Tax = 3,
    ConvenienceFee = 4,
}

/// Keeps the time prefix of the UUIDv7, so that ids stay in the order of time, and marks the tail. `ordinal` is that of
/// the reservation; what has none takes 1.
fn derive(id: Uuid, ordinal: u32, slot: Slot) -> Uuid {
    let which = u128::from(ordinal.saturating_sub(1)) << 8 | slot as u128;
    Uuid::from_u128(id.as_u128() ^ (0x5a_u128 << 48) ^ which)
}

fn reservation_id(payment: PaymentId, reservation: u32) -> Uuid {
    derive(payment.uuid(), reservation, Slot::Reserve)
}

fn posting(payment: &Payment, transfers: Vec<PostingTransfer>) -> Posting {
    let (tenant, currency) = (payment.tenant.clone(), payment.currency);
    Posting { tenant, currency, payment: payment.id, ordinal: 0, transfers }
}

fn on_reservation(id: Uuid, kind: TransferKind, amount: i64) -> PostingTransfer {
    PostingTransfer {
        id,
        kind,
        debit: AccountCode::ProcessorClearing,
        credit: AccountCode::BillerPayable,
        amount,
        code: "payment_authorization".into(),
    }
}

fn plain(id: Uuid, debit: AccountCode, credit: AccountCode, amount: i64, code: &str) -> PostingTransfer {
    PostingTransfer { id, kind: TransferKind::Plain, debit, credit, amount, code: code.into() }
}

/// Before the processor is asked: reserve on our books, under the current reservation's id.
pub fn reserve(payment: &Payment) -> Posting {
    posting(payment, vec![reservation(payment, payment.reservation.max(1), payment.amount)])
}

fn reservation(payment: &Payment, number: u32, amount: i64) -> PostingTransfer {
    on_reservation(reservation_id(payment.id, number), TransferKind::Pending, amount)
}

fn resolved(payment: &Payment, kind: fn(Uuid) -> TransferKind, amount: i64) -> PostingTransfer {
    let number = payment.reservation.max(1);
    let pending_id = reservation_id(payment.id, number);
    on_reservation(derive(payment.id.uuid(), number, Slot::Resolve), kind(pending_id), amount)
}

fn void(pending_id: Uuid) -> TransferKind {
    TransferKind::Void { pending_id }
}

fn post(pending_id: Uuid) -> TransferKind {
    TransferKind::Post { pending_id }
}

/// What is reserved is released. Moves on to the next reservation: a payment that was held back may still be carried
/// out.
pub fn release(payment: &mut Payment) -> Posting {
    let released = resolved(payment, void, 0);
    payment.reservation = payment.reservation.max(1) + 1;
    posting(payment, vec![released])
}

/// Another amount is reserved instead of what was. Moves on to the next reservation.
pub fn reserve_anew(payment: &mut Payment, amount: i64) -> Posting {
    let mut posting = release(payment);
    posting.transfers.push(reservation(payment, payment.reservation, amount));
    posting
}

/// `amount` was taken, when `captured_before` had been: it is posted, the shares of tax and fee in it are set aside, and
/// `remaining` stays reserved, under the next reservation; 0: nothing does.
pub fn capture(payment: &mut Payment, captured_before: i64, amount: i64, remaining: i64) -> Posting {
    let id = payment.id.uuid();
    let number = payment.reservation.max(1);
    let mut transfers = vec![resolved(payment, post, amount)];
    let shares = Shares::between(payment, captured_before, captured_before + amount);
    for (slot, account, amount, code) in shares.parts() {
        let id = derive(id, number, slot);
        transfers.push(plain(id, AccountCode::BillerPayable, account, amount, code));
    }
    if remaining > 0 {
        payment.reservation = number + 1;
        transfers.push(reservation(payment, payment.reservation, remaining));
    }
    posting(payment, transfers)
}

/// `amount` was given back, when `before` had been: the reverse, with the shares of tax and fee.
pub fn refund(payment: &Payment, refund: RefundId, before: i64, amount: i64) -> Posting {
    back(payment, refund.uuid(), before, amount, "payment_refund")
}

/// The payer's bank took back what was captured and not refunded. `id`: of what it was promised to, or the payment's.
pub fn returned(payment: &Payment, id: Uuid, amount: i64) -> Posting {
    let id = derive(id, u32::from(u16::MAX), Slot::Reserve);
    back(payment, id, payment.given_back(), amount, "chargeback")
}

fn back(payment: &Payment, id: Uuid, before: i64, amount: i64, code: &str) -> Posting {
    let (payable, clearing) = (AccountCode::BillerPayable, AccountCode::ProcessorClearing);
    let mut transfers = vec![plain(derive(id, 1, Slot::Resolve), payable, clearing, amount, code)];
    let shares = Shares::between(payment, before, before + amount);
    for (slot, account, amount, code) in shares.parts() {
        transfers.push(plain(derive(id, 1, slot), account, payable, amount, code));
    }
    posting(payment, transfers)
}

/// The payer's bank took `amount` until it decides.
pub fn disputed(payment: &Payment, dispute: Uuid, amount: i64) -> Posting {
    let id = derive(dispute, 1, Slot::Reserve);
    let (debit, credit) = (AccountCode::Chargebacks, AccountCode::ProcessorClearing);
    posting(payment, vec![plain(id, debit, credit, amount, "chargeback")])
}

/// It decided: the money is back, or the biller bears it.
pub fn decided(payment: &Payment, dispute: Uuid, amount: i64, won: bool) -> Posting {
    let id = derive(dispute, 1, Slot::Resolve);
    let debit = if won { AccountCode::ProcessorClearing } else { AccountCode::BillerPayable };
    posting(payment, vec![plain(id, debit, AccountCode::Chargebacks, amount, "chargeback")])
}

/// What of some part of a payment is tax and what is fee.
struct Shares {
    tax: i64,
    fee: i64,
}

impl Shares {
    /// Of what came after the first `from` and up to `to` minor units. Cumulative: whatever the parts were, all of the
    /// whole is set aside when all of the money moved.
    fn between(payment: &Payment, from: i64, to: i64) -> Self {
        let (start, end) = (Self::up_to(payment, from), Self::up_to(payment, to));
        Self { tax: end.tax - start.tax, fee: end.fee - start.fee }
    }

    /// Of the first `part` minor units: tax half up, the fee down, so that both are never more than the part. Both grow
    /// with it. What was reserved in addition later has neither.
    fn up_to(payment: &Payment, part: i64) -> Self {
        let whole = i128::from(payment.amount_at_first.max(1));
        let part = i128::from(part).min(whole);
        let tax = i128::from(payment.tax.as_ref().map_or(0, |tax| tax.amount_tax));
        let fee = i128::from(payment.convenience_fee);
        let units = |share: i128| i64::try_from(share).unwrap_or(i64::MAX);
        Self { tax: units((tax * part * 2 + whole) / (whole * 2)), fee: units(fee * part / whole) }
    }

    fn parts(&self) -> impl Iterator<Item = (Slot, AccountCode, i64, &'static str)> {
        let parts = [
            (Slot::Tax, AccountCode::TaxPayable, self.tax, "payment_tax"),
            (Slot::ConvenienceFee, AccountCode::Fees, self.fee, "fee"),
        ];
        parts.into_iter().filter(|(_, _, amount, _)| *amount > 0)
    }
}
