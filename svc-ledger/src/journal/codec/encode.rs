//! Writing. Appends to a buffer that is used again; allocates nothing else.

use money::{TenantId, Timestamp};

use super::{shape, side, tag};
use crate::domain::{Account, Balances, Code, Event, Kind, LedgerCode, Side, Transfer};

/// Writes a sequence of items, each relative to those before it. A new sequence takes a new encoder.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    time: i64,
    tenant: Option<&'a TenantId>,
    code: Option<(LedgerCode, &'a Code)>,
}

impl<'a> Encoder<'a> {
    /// One that appends to a buffer.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, time: 0, tenant: None, code: None }
    }

    /// Appends an event.
    pub fn event(&mut self, event: &'a Event) {
        match event {
            Event::Opened(account) => {
                self.out.push(tag::OPENED);
                self.account(account);
            }
            Event::Made { transfer, debit, credit } => {
                self.out.push(tag::MADE);
                self.time(transfer.timestamp);
                self.transfer_body(transfer);
                self.sides(debit, credit);
            }
            Event::Expired { timestamp, pending, debit, credit } => {
                self.out.push(tag::EXPIRED);
                self.time(*timestamp);
                // The reservation is older than its neighbours: its time is not one to count from.
                self.signed(difference(pending.timestamp, self.time));
                self.transfer_body(pending);
                self.sides(debit, credit);
            }
            Event::Burned { tenant, id } => {
                let same = self.is_same_tenant(tenant);
                self.out.extend_from_slice(&[tag::BURNED, same]);
                self.tenant_unless(same, tenant);
                self.id(id.bits());
            }
            Event::Limited { timestamp, account, number, limit } => {
                self.out.push(tag::LIMITED);
                self.time(*timestamp);
                self.id(account.bits());
                self.number(*number);
                self.amount(*limit);
            }
            Event::TimesClosed { until } => {
                self.out.push(tag::TIMES_CLOSED);
                // Nothing happened then: it is no time to count from.
                self.signed(difference(*until, self.time));
            }
        }
    }

    /// Appends an account.
    pub fn account(&mut self, account: &'a Account) {
        let same = self.is_same(&account.tenant, account.ledger, &account.code);
        let has_balances = account.balances != Balances::default();
        let bits = same
            | bit(!account.reference.as_str().is_empty(), shape::REFERENCE)
            | bit(account.user_data != 0, shape::USER_DATA)
            | bit(account.closed, shape::CLOSED)
            | bit(has_balances, shape::BALANCES)
            | bit(account.limit != 0, shape::LIMIT);
        self.out.extend_from_slice(&[bits, account.flags.bits()]);
        self.time(account.created_at);
        self.id(account.id.bits());
        self.owner(bits, &account.tenant, account.ledger, &account.code);
        self.extras(bits, account.reference.as_str(), account.user_data);
        if has_balances {
            self.balances(&account.balances);
        }
        if account.limit != 0 {
            self.amount(account.limit);
        }
    }

    /// Appends a transfer by itself, such as an open reservation.
    pub fn transfer(&mut self, transfer: &'a Transfer) {
        self.time(transfer.timestamp);
        self.transfer_body(transfer);
    }

    fn transfer_body(&mut self, transfer: &'a Transfer) {
        let kind = match transfer.kind {
            Kind::Single => shape::SINGLE,
            Kind::Pending { .. } => shape::PENDING,
            Kind::Post { .. } => shape::POST,
            Kind::Void { .. } => shape::VOID,
        };
        let requested = match transfer.requested {
            None => shape::NOT_REQUESTED,
            Some(amount) => bit(amount != transfer.amount, shape::REQUESTED_OTHER),
        };
        let bits = self.is_same(&transfer.tenant, transfer.ledger, &transfer.code)
            | bit(!transfer.reference.as_str().is_empty(), shape::REFERENCE)
            | bit(transfer.user_data != 0, shape::USER_DATA)
            | kind
            | requested;
        self.out.extend_from_slice(&[bits, transfer.modifiers.bits()]);
        self.id(transfer.id.bits());
        self.owner(bits, &transfer.tenant, transfer.ledger, &transfer.code);
        match transfer.kind {
            Kind::Single => {}
            Kind::Pending { timeout_s } => self.unsigned(u64::from(timeout_s)),
            Kind::Post { pending } | Kind::Void { pending } => self.id(pending.bits()),
        }
        self.id(transfer.debit.bits());
        self.id(transfer.credit.bits());
        self.amount(transfer.amount);
        if let (true, Some(amount)) = (requested == shape::REQUESTED_OTHER, transfer.requested) {
            self.amount(amount);
        }
        self.extras(bits, transfer.reference.as_str(), transfer.user_data);
    }

    fn sides(&mut self, debit: &Side, credit: &Side) {
        let bits = bit(debit.closed, side::DEBIT_CLOSED)
            | bit(debit.has_history, side::DEBIT_HISTORY)
            | bit(credit.closed, side::CREDIT_CLOSED)
            | bit(credit.has_history, side::CREDIT_HISTORY);
        self.out.push(bits);
        for one in [debit, credit] {
            self.number(one.number);
            self.balances(&one.after);
        }
    }

    fn balances(&mut self, balances: &Balances) {
        self.amount(balances.debits_pending);
        self.amount(balances.debits_posted);
        self.amount(balances.credits_pending);
        self.amount(balances.credits_posted);
    }

    fn is_same_tenant(&self, tenant: &TenantId) -> u8 {
        bit(self.tenant == Some(tenant), shape::SAME_TENANT)
    }

    fn is_same(&self, tenant: &TenantId, ledger: LedgerCode, code: &Code) -> u8 {
        self.is_same_tenant(tenant) | bit(self.code == Some((ledger, code)), shape::SAME_CODE)
    }

    fn owner(&mut self, bits: u8, tenant: &'a TenantId, ledger: LedgerCode, code: &'a Code) {
        self.tenant_unless(bits, tenant);
        if bits & shape::SAME_CODE == 0 {
            self.text(ledger.as_str());
            self.text(code.as_str());
            self.code = Some((ledger, code));
        }
    }

    fn tenant_unless(&mut self, bits: u8, tenant: &'a TenantId) {
        if bits & shape::SAME_TENANT == 0 {
            self.text(tenant.as_str());
            self.tenant = Some(tenant);
        }
    }

    fn extras(&mut self, bits: u8, reference: &str, user_data: i64) {
        if bits & shape::REFERENCE != 0 {
            self.text(reference);
        }
        if bits & shape::USER_DATA != 0 {
            self.signed(user_data);
        }
    }

    fn time(&mut self, at: Timestamp) {
        self.signed(difference(at, self.time));
        self.time = at.as_nanos();
    }

    /// An account's number: any time, so that a varint would be longer.
    fn number(&mut self, number: Timestamp) {
        self.out.extend_from_slice(&number.as_nanos().to_le_bytes());
    }

    fn id(&mut self, bits: u128) {
        self.out.extend_from_slice(&bits.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.unsigned(text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Never negative, where the ledger is right; ten bytes long where it is not, and read back as it is.
    fn amount(&mut self, amount: i64) {
        self.unsigned(amount.cast_unsigned());
    }

    fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn unsigned(&mut self, mut value: u64) {
        // Seven bits are one byte.
        #[allow(clippy::cast_possible_truncation)]
        let low = |value: u64| value as u8 & 0x7f;
        if value < 0x80 {
            self.out.push(low(value));
            return;
        }
        let mut bytes = [0; 10];
        let mut length = 0;
        while value >= 0x80 {
            bytes[length] = low(value) | 0x80;
            length += 1;
            value >>= 7;
        }
        bytes[length] = low(value);
        self.out.extend_from_slice(&bytes[..=length]);
    }
}

fn difference(at: Timestamp, from: i64) -> i64 {
    at.as_nanos().wrapping_sub(from)
}

fn bit(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}
