//! A movement as a row's body: everything but its time, packed, because a column costs more than a byte.

use mesh::store::StoreError;
use money::Timestamp;

use super::{
    bytes::{Reader, put_number},
    corrupt,
};
use crate::domain::{Balances, Kind, Side, Transfer, TransferFlags, TransferId};

const KIND: u8 = 0b111;
const SINGLE: u8 = 0;
const PENDING: u8 = 1;
const POST: u8 = 2;
const VOID: u8 = 3;
const EXPIRED: u8 = 4;
/// Whether an amount was requested.
const REQUESTED: u8 = 8;
/// Whether that was another one than was moved.
const OTHERWISE: u8 = 16;
const USER_DATA: u8 = 32;
const DEBIT_HISTORY: u8 = 64;
const CREDIT_HISTORY: u8 = 128;

/// The numbers of a transfer's texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spelling {
    pub(super) tenant: u32,
    pub(super) ledger: u32,
    pub(super) code: u32,
}

/// What a transfer's row says of it but for the accounts: those are for others to look up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made<'a> {
    pub(super) id: TransferId,
    pub(super) kind: Kind,
    pub(super) modifiers: TransferFlags,
    pub(super) words: Spelling,
    pub(super) amount: i64,
    pub(super) requested: Option<i64>,
    pub(super) user_data: i64,
    pub(super) reference: &'a str,
}

/// A row's body, read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Movement<'a> {
    /// The number of the account debited.
    pub(super) debit: Timestamp,
    /// The number of the account credited.
    pub(super) credit: Timestamp,
    /// Balances after it, of the accounts that keep them.
    pub(super) debit_after: Option<Balances>,
    pub(super) credit_after: Option<Balances>,
    /// `None` for a reservation's lapse.
    pub(super) made: Option<Made<'a>>,
}

impl<'a> Movement<'a> {
    /// What is kept of a transfer.
    pub(super) fn made(transfer: &'a Transfer, words: Spelling, debit: &Side, credit: &Side) -> Self {
        let made = Made {
            id: transfer.id,
            kind: transfer.kind,
            modifiers: transfer.modifiers,
            words,
            amount: transfer.amount,
            requested: transfer.requested,
            user_data: transfer.user_data,
            reference: transfer.reference.as_str(),
        };
        Self { made: Some(made), ..Self::expired(debit, credit) }
    }

    /// What is kept of a reservation's lapse.
    pub(super) fn expired(debit: &Side, credit: &Side) -> Self {
        let kept = |side: &Side| side.has_history.then_some(side.after);
        Self {
            debit: debit.number,
            credit: credit.number,
            debit_after: kept(debit),
            credit_after: kept(credit),
            made: None,
        }
    }
}

/// Packs a movement.
pub(super) fn put(to: &mut Vec<u8>, movement: &Movement<'_>) {
    let debit = if movement.debit_after.is_some() { DEBIT_HISTORY } else { 0 };
    let credit = if movement.credit_after.is_some() { CREDIT_HISTORY } else { 0 };
    to.push(debit | credit | movement.made.as_ref().map_or(EXPIRED, form));
    to.extend_from_slice(&movement.debit.as_nanos().to_le_bytes());
    to.extend_from_slice(&movement.credit.as_nanos().to_le_bytes());
    if let Some(made) = &movement.made {
        put_made(to, made);
    }
    for after in [movement.debit_after, movement.credit_after].into_iter().flatten() {
        let Balances { debits_pending, debits_posted, credits_pending, credits_posted } = after;
        for sum in [debits_pending, debits_posted, credits_pending, credits_posted] {
            put_number(to, sum.cast_unsigned());
        }
    }
    to.extend_from_slice(movement.made.map_or("", |made| made.reference).as_bytes());
}

fn form(made: &Made<'_>) -> u8 {
    let kind = match made.kind {
        Kind::Single => SINGLE,
        Kind::Pending { .. } => PENDING,
        Kind::Post { .. } => POST,
        Kind::Void { .. } => VOID,
    };
    let requested = match made.requested {
        None => 0,
        Some(requested) if requested == made.amount => REQUESTED,
        Some(_) => REQUESTED | OTHERWISE,
    };
    kind | requested | if made.user_data == 0 { 0 } else { USER_DATA }
}

fn put_made(to: &mut Vec<u8>, made: &Made<'_>) {
    to.push(made.modifiers.bits());
    to.extend_from_slice(&made.id.bits().to_be_bytes());
    for word in [made.words.tenant, made.words.ledger, made.words.code] {
        put_number(to, word.into());
    }
    put_number(to, made.amount.cast_unsigned());
    if let Some(requested) = made.requested.filter(|requested| *requested != made.amount) {
        put_number(to, requested.cast_unsigned());
    }
    if made.user_data != 0 {
        to.extend_from_slice(&made.user_data.to_le_bytes());
    }
    match made.kind {
        Kind::Single => {}
        Kind::Pending { timeout_s } => put_number(to, timeout_s.into()),
        Kind::Post { pending } | Kind::Void { pending } => {
            to.extend_from_slice(&pending.bits().to_be_bytes());
        }
    }
}

/// Reads a body.
pub(super) fn movement(body: &[u8]) -> Result<Movement<'_>, StoreError> {
    read(Reader(body)).ok_or_else(|| corrupt("movement"))
}

fn read(mut from: Reader<'_>) -> Option<Movement<'_>> {
    let form = from.byte()?;
    let number = |from: &mut Reader<'_>| Some(Timestamp::from_nanos(from.fixed()?.cast_signed()));
    let (debit, credit) = (number(&mut from)?, number(&mut from)?);
    let made = if form & KIND == EXPIRED { None } else { Some(read_made(&mut from, form)?) };
    let debit_after = if form & DEBIT_HISTORY == 0 { None } else { Some(read_balances(&mut from)?) };
    let credit_after = if form & CREDIT_HISTORY == 0 { None } else { Some(read_balances(&mut from)?) };
    let reference = std::str::from_utf8(from.0).ok()?;
    let made = made.map(|made| Made { reference, ..made });
    Some(Movement { debit, credit, debit_after, credit_after, made })
}

fn read_made<'a>(from: &mut Reader<'a>, form: u8) -> Option<Made<'a>> {
    let modifiers = TransferFlags::from_bits(from.byte()?);
    let id = transfer_id(from)?;
    let mut word = || u32::try_from(from.number()?).ok();
    let words = Spelling { tenant: word()?, ledger: word()?, code: word()? };
    let amount = from.number()?.cast_signed();
    let requested = match (form & REQUESTED, form & OTHERWISE) {
        (0, _) => None,
        (_, 0) => Some(amount),
        _ => Some(from.number()?.cast_signed()),
    };
    let user_data = if form & USER_DATA == 0 { 0 } else { from.fixed()?.cast_signed() };
    let kind = match form & KIND {
        SINGLE => Kind::Single,
        PENDING => Kind::Pending { timeout_s: u32::try_from(from.number()?).ok()? },
        POST => Kind::Post { pending: transfer_id(from)? },
        VOID => Kind::Void { pending: transfer_id(from)? },
        _ => return None,
    };
    Some(Made { id, kind, modifiers, words, amount, requested, user_data, reference: "" })
}

fn transfer_id(from: &mut Reader<'_>) -> Option<TransferId> {
    TransferId::new(u128::from_be_bytes(from.array()?)).ok()
}

fn read_balances(from: &mut Reader<'_>) -> Option<Balances> {
    let mut sum = || from.number().map(u64::cast_signed);
    Some(Balances {
        debits_pending: sum()?,
        debits_posted: sum()?,
        credits_pending: sum()?,
        credits_posted: sum()?,
    })
}
