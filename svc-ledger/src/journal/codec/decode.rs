//! Reading. Every byte is checked: what is read was written by the encoder, or is refused with its place.

use std::sync::Arc;

use money::{TenantId, Timestamp};

use super::{DecodeError, ITEM_BYTES_MIN, intern::Interner, shape, side, tag};
use crate::domain::{
    Account, AccountFlags, AccountId, Balances, Code, Event, Kind, LedgerCode, Reference, Side, Transfer,
    TransferFlags, TransferId,
};

/// Reads sequences of items. Keep it from one sequence to the next: it remembers texts.
#[derive(Debug)]
pub struct Decoder {
    tenants: Interner<TenantId>,
    codes: Interner<Code>,
    no_reference: Reference,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            tenants: Interner::new(TenantId::as_str),
            codes: Interner::new(Code::as_str),
            no_reference: Reference::default(),
        }
    }
}

impl Decoder {
    /// Reads so many events, which must be all that the bytes hold.
    pub fn events(&mut self, bytes: &[u8], count: usize) -> Result<Vec<Event>, DecodeError> {
        self.sequence(bytes, count, Reader::event)
    }

    /// Reads so many accounts, which must be all that the bytes hold.
    pub fn accounts(&mut self, bytes: &[u8], count: usize) -> Result<Vec<Account>, DecodeError> {
        self.sequence(bytes, count, Reader::account)
    }

    /// Reads so many transfers, which must be all that the bytes hold.
    pub fn transfers(&mut self, bytes: &[u8], count: usize) -> Result<Vec<Arc<Transfer>>, DecodeError> {
        self.sequence(bytes, count, |reader| {
            let timestamp = reader.time()?;
            reader.transfer(timestamp).map(Arc::new)
        })
    }

    fn sequence<'a, T>(
        &'a mut self,
        bytes: &'a [u8],
        count: usize,
        mut item: impl FnMut(&mut Reader<'a>) -> Result<T, What>,
    ) -> Result<Vec<T>, DecodeError> {
        let length = bytes.len();
        let mut reader = Reader { rest: bytes, time: 0, tenant: None, code: None, known: self };
        let mut items = Vec::with_capacity(count.min(length / ITEM_BYTES_MIN + 1));
        for index in 0..count {
            let read = item(&mut reader);
            items.push(read.map_err(|what| DecodeError {
                item: index,
                at: length - reader.rest.len(),
                what,
            })?);
        }
        if reader.rest.is_empty() {
            Ok(items)
        } else {
            let at = length - reader.rest.len();
            Err(DecodeError { item: count, at, what: "there is more than the count says" })
        }
    }
}

/// What is wrong with the bytes.
type What = &'static str;

const ENDS: What = "it ends too early";
/// Each value has one spelling: what is usual, or as before, is said by a bit alone.
const LEFT_OUT: What = "something is there that would be left out";

fn not_zero(value: i64) -> Result<i64, What> {
    if value == 0 { Err(LEFT_OUT) } else { Ok(value) }
}

struct Reader<'a> {
    rest: &'a [u8],
    time: i64,
    tenant: Option<TenantId>,
    code: Option<(LedgerCode, Code)>,
    known: &'a mut Decoder,
}

impl Reader<'_> {
    fn event(&mut self) -> Result<Event, What> {
        match self.byte()? {
            tag::OPENED => Ok(Event::Opened(Arc::new(self.account()?))),
            tag::MADE => {
                let timestamp = self.time()?;
                let transfer = Arc::new(self.transfer(timestamp)?);
                let (debit, credit) = self.sides()?;
                Ok(Event::Made { transfer, debit, credit })
            }
            tag::EXPIRED => {
                let timestamp = self.time()?;
                let made = Timestamp::from_nanos(self.time.wrapping_add(self.signed()?));
                let pending = Arc::new(self.transfer(made)?);
                let (debit, credit) = self.sides()?;
                Ok(Event::Expired { timestamp, pending, debit, credit })
            }
            tag::BURNED => {
                let bits = self.byte()?;
                if bits & !shape::SAME_TENANT != 0 {
                    return Err("the bits of a burned id are unknown");
                }
                let tenant = self.tenant(bits)?;
                Ok(Event::Burned { tenant, id: self.transfer_id()? })
            }
            tag::LIMITED => Ok(Event::Limited {
                timestamp: self.time()?,
                account: self.account_id()?,
                number: self.number()?,
                limit: self.amount()?,
            }),
            tag::TIMES_CLOSED => Ok(Event::TimesClosed {
                until: Timestamp::from_nanos(self.time.wrapping_add(self.signed()?)),
            }),
            _ => Err("the event's tag is unknown"),
        }
    }

    fn account(&mut self) -> Result<Account, What> {
        let bits = self.byte()?;
        if bits & shape::ACCOUNT_UNUSED != 0 {
            return Err("the bits of an account are unknown");
        }
        let flags = AccountFlags::from_bits(self.byte()?).ok_or("the account's flags are unknown")?;
        let created_at = self.time()?;
        let id = self.account_id()?;
        let tenant = self.tenant(bits)?;
        let (ledger, code) = self.code(bits)?;
        let (reference, user_data) = self.extras(bits)?;
        let balances = match bits & shape::BALANCES {
            0 => Balances::default(),
            _ => Some(self.balances()?).filter(|all| *all != Balances::default()).ok_or(LEFT_OUT)?,
        };
        let limit = if bits & shape::LIMIT == 0 { 0 } else { not_zero(self.amount()?)? };
        let closed = bits & shape::CLOSED != 0;
        Ok(Account {
            id,
            tenant,
            ledger,
            code,
            flags,
            user_data,
            reference,
            limit,
            closed,
            balances,
            created_at,
        })
    }

    fn transfer(&mut self, timestamp: Timestamp) -> Result<Transfer, What> {
        let bits = self.byte()?;
        let modifiers = TransferFlags::from_bits(self.byte()?);
        let id = self.transfer_id()?;
        let tenant = self.tenant(bits)?;
        let (ledger, code) = self.code(bits)?;
        let kind = match bits & shape::KIND {
            shape::SINGLE => Kind::Single,
            shape::PENDING => {
                let timeout_s = u32::try_from(self.unsigned()?).map_err(|_| "the timeout is too long")?;
                Kind::Pending { timeout_s }
            }
            shape::POST => Kind::Post { pending: self.transfer_id()? },
            _ => Kind::Void { pending: self.transfer_id()? },
        };
        let debit = self.account_id()?;
        let credit = self.account_id()?;
        let amount = self.amount()?;
        let requested = match bits & (shape::NOT_REQUESTED | shape::REQUESTED_OTHER) {
            0 => Some(amount),
            shape::NOT_REQUESTED => None,
            shape::REQUESTED_OTHER => {
                Some(Some(self.amount()?).filter(|other| *other != amount).ok_or(LEFT_OUT)?)
            }
            _ => return Err("an amount cannot be both requested and not"),
        };
        let (reference, user_data) = self.extras(bits)?;
        Ok(Transfer {
            id,
            timestamp,
            tenant,
            kind,
            modifiers,
            debit,
            credit,
            amount,
            requested,
            ledger,
            code,
            user_data,
            reference,
        })
    }

    fn sides(&mut self) -> Result<(Side, Side), What> {
        let bits = self.byte()?;
        if bits & side::UNUSED != 0 {
            return Err("the bits of the two sides are unknown");
        }
        let debit = self.side(bits & side::DEBIT_CLOSED != 0, bits & side::DEBIT_HISTORY != 0)?;
        let credit = self.side(bits & side::CREDIT_CLOSED != 0, bits & side::CREDIT_HISTORY != 0)?;
        Ok((debit, credit))
    }

    fn side(&mut self, closed: bool, has_history: bool) -> Result<Side, What> {
        Ok(Side { number: self.number()?, after: self.balances()?, closed, has_history })
    }

    fn balances(&mut self) -> Result<Balances, What> {
        Ok(Balances {
            debits_pending: self.amount()?,
            debits_posted: self.amount()?,
            credits_pending: self.amount()?,
            credits_posted: self.amount()?,
        })
    }

    fn tenant(&mut self, bits: u8) -> Result<TenantId, What> {
        if bits & shape::SAME_TENANT == 0 {
            let bytes = self.text()?;
            let tenant = self.known.tenants.get(bytes).ok_or("the tenant is not a legal one")?;
            if self.tenant.replace(tenant) == self.tenant {
                return Err(LEFT_OUT);
            }
        }
        self.tenant.clone().ok_or("the first tenant cannot be the same as before")
    }

    fn code(&mut self, bits: u8) -> Result<(LedgerCode, Code), What> {
        if bits & shape::SAME_CODE == 0 {
            let ledger = std::str::from_utf8(self.text()?).ok().and_then(|text| text.parse().ok());
            let ledger: LedgerCode = ledger.ok_or("the ledger's code is not a legal one")?;
            let bytes = self.text()?;
            let code = (ledger, self.known.codes.get(bytes).ok_or("the code is not a legal one")?);
            if self.code.replace(code) == self.code {
                return Err(LEFT_OUT);
            }
        }
        self.code.clone().ok_or("the first code cannot be the same as before")
    }

    fn extras(&mut self, bits: u8) -> Result<(Reference, i64), What> {
        let reference = if bits & shape::REFERENCE == 0 {
            self.known.no_reference.clone()
        } else {
            match std::str::from_utf8(self.text()?) {
                Ok("") => return Err("an empty reference is left out"),
                Ok(text) => text.parse().map_err(|_| "the reference is too long")?,
                Err(_) => return Err("the reference is not UTF-8"),
            }
        };
        let user_data = if bits & shape::USER_DATA == 0 { 0 } else { not_zero(self.signed()?)? };
        Ok((reference, user_data))
    }

    fn time(&mut self) -> Result<Timestamp, What> {
        self.time = self.time.wrapping_add(self.signed()?);
        Ok(Timestamp::from_nanos(self.time))
    }

    fn number(&mut self) -> Result<Timestamp, What> {
        Ok(Timestamp::from_nanos(i64::from_le_bytes(*self.array()?)))
    }

    fn account_id(&mut self) -> Result<AccountId, What> {
        AccountId::new(u128::from_be_bytes(*self.array()?)).map_err(|_| "an account's id is nil or max")
    }

    fn transfer_id(&mut self) -> Result<TransferId, What> {
        TransferId::new(u128::from_be_bytes(*self.array()?)).map_err(|_| "a transfer's id is nil or max")
    }

    fn amount(&mut self) -> Result<i64, What> {
        self.unsigned().map(u64::cast_signed)
    }

    fn signed(&mut self) -> Result<i64, What> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn unsigned(&mut self) -> Result<u64, What> {
        let mut value = 0;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                // The tenth byte has room for one bit; and a zero at the end would be a second spelling.
                if (index == 9 && *byte > 1) || (index > 0 && *byte == 0) {
                    return Err("a number is not in its shortest form");
                }
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        if self.rest.len() < 10 { Err(ENDS) } else { Err("a number is too long") }
    }

    fn byte(&mut self) -> Result<u8, What> {
        let (first, rest) = self.rest.split_first().ok_or(ENDS)?;
        self.rest = rest;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<&[u8; N], What> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(ENDS)?;
        self.rest = rest;
        Ok(head)
    }
}

impl<'a> Reader<'a> {
    fn text(&mut self) -> Result<&'a [u8], What> {
        let length = usize::try_from(self.unsigned()?).map_err(|_| ENDS)?;
        let (head, rest) = self.rest.split_at_checked(length).ok_or(ENDS)?;
        self.rest = rest;
        Ok(head)
    }
}
