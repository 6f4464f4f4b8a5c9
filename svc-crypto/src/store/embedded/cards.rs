//! Cards in SQLite.
//!
//! A card is one row under its id, sealed for that id. Its token of digits is a column beside it and not a row of
//! its own: whichever name is asked for, there is one card to find, to replace and to wipe. The tokens of cards that
//! are gone stay on record, and nothing else of them does, so that a token that somebody still has never comes to
//! stand for another payer's card.

use mesh::{StoreError, idempotency};
use money::{DigitToken, TenantId, Timestamp, TokenId, TokenRef};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use crate::{
    domain::{
        card::{Brand, Month},
        token::{Shown, Token},
    },
    store::{DRAWS_MAX, Deletion, Draw, Put, PutCard, PutError, StoredCard},
};

/// The table of cards and the one that finds them by their number are older.
pub(super) const SCHEMA: &str = "
    ALTER TABLE card ADD COLUMN digits TEXT;
    CREATE UNIQUE INDEX card_digits ON card (tenant, digits) WHERE digits IS NOT NULL;
    CREATE INDEX card_index_id ON card_index (tenant, id);
    CREATE TABLE deleted_token (
        tenant TEXT NOT NULL,
        token TEXT NOT NULL,
        deleted_at INTEGER NOT NULL,
        PRIMARY KEY (tenant, token)
    ) STRICT, WITHOUT ROWID";

pub(super) fn put(connection: &Connection, put: PutCard) -> Result<Put, PutError> {
    let known_id = select_indexed(connection, &put.tenant, &put.index_tag)?;
    let id = known_id.unwrap_or(put.new_id);
    if let Some(request) = &put.idempotency {
        let subject = id.to_string();
        match idempotency::begin(connection, &request.scope, &request.fingerprint, &subject, put.now)? {
            idempotency::Known::New => {}
            idempotency::Known::Answered(answer) => return Ok(Put::Replayed(answer)),
            idempotency::Known::Underway { .. } => return Err(PutError::Underway),
        }
    }
    // What is replaced is overwritten, and not only let go of.
    wipe_what_is_freed(connection)?;
    let sealed = (put.seal)(id)?;
    let (created_at, digits) = match known_id {
        Some(_) => update(connection, &put.tenant, id, &put.shown, &sealed, put.now)?,
        None => insert(connection, &put.tenant, id, &put.index_tag, &put.shown, &sealed, put.now)?,
    };
    let digits = match (digits, put.digits) {
        (None, Some(draw)) => Some(give_digits(connection, &put.tenant, id, draw)?),
        (digits, _) => digits,
    };
    let token = Token { id, digits, shown: put.shown, created_at };
    if let Some(request) = &put.idempotency {
        idempotency::finish(connection, &request.scope, &(request.answer)(&token), put.now)?;
    }
    Ok(Put::Stored(token))
}

fn wipe_what_is_freed(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.pragma_update(None, "secure_delete", true)?)
}

fn select_indexed(
    connection: &Connection,
    tenant: &TenantId,
    tag: &[u8],
) -> Result<Option<TokenId>, StoreError> {
    let mut select = connection.prepare_cached("SELECT id FROM card_index WHERE tenant = ?1 AND tag = ?2")?;
    let id: Option<[u8; 16]> =
        select.query_row(params![tenant.as_str(), tag], |row| row.get(0)).optional()?;
    Ok(id.map(|id| TokenId::new(Uuid::from_bytes(id))))
}

/// When a card was first kept, and its token of digits.
type Before = (Timestamp, Option<DigitToken>);

fn insert(
    connection: &Connection,
    tenant: &TenantId,
    id: TokenId,
    tag: &[u8],
    shown: &Shown,
    sealed: &[u8],
    now: Timestamp,
) -> Result<Before, StoreError> {
    let (tenant, uuid) = (tenant.as_str(), id.uuid());
    let mut insert = connection.prepare_cached(
        "INSERT INTO card (tenant, id, sealed, brand, bin, last4, exp_month, exp_year, fingerprint,
            created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)",
    )?;
    insert.execute(params![
        tenant,
        uuid.as_bytes(),
        sealed,
        shown.brand.code(),
        shown.bin,
        shown.last4,
        shown.expiry.month,
        shown.expiry.year,
        shown.fingerprint,
        now.as_nanos(),
    ])?;
    let mut index =
        connection.prepare_cached("INSERT INTO card_index (tenant, tag, id) VALUES (?1, ?2, ?3)")?;
    index.execute(params![tenant, tag, uuid.as_bytes()])?;
    Ok((now, None))
}

fn update(
    connection: &Connection,
    tenant: &TenantId,
    id: TokenId,
    shown: &Shown,
    sealed: &[u8],
    now: Timestamp,
) -> Result<Before, StoreError> {
    // The number is the same, and with it everything that is shown but the expiry; how many of its first digits are
    // shown may have been another number once.
    let mut update = connection.prepare_cached(
        "UPDATE card SET sealed = ?3, exp_month = ?4, exp_year = ?5, updated_at = ?6, bin = ?7
         WHERE tenant = ?1 AND id = ?2 RETURNING created_at, digits",
    )?;
    let (tenant, uuid) = (tenant.as_str(), id.uuid());
    let (month, year) = (shown.expiry.month, shown.expiry.year);
    let values = params![tenant, uuid.as_bytes(), sealed, month, year, now.as_nanos(), shown.bin];
    let before = update.query_row(values, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (created_at, digits) =
        before.ok_or_else(|| StoreError::Corrupt(format!("{id} is in the index and not in the vault")))?;
    Ok((Timestamp::from_nanos(created_at), read_digits(id, digits)?))
}

fn read_digits(id: TokenId, digits: Option<String>) -> Result<Option<DigitToken>, StoreError> {
    let read = |_| StoreError::Corrupt(format!("{id} has a token of digits that can be none"));
    digits.map(|digits| digits.parse().map_err(read)).transpose()
}

/// Draws until a token comes up that the tenant never had.
fn give_digits(
    connection: &Connection,
    tenant: &TenantId,
    id: TokenId,
    mut draw: Draw,
) -> Result<DigitToken, PutError> {
    for _ in 0..DRAWS_MAX {
        let Some(digits) = draw()? else { continue };
        if !is_taken(connection, tenant, digits)? {
            set_digits(connection, tenant, id, digits)?;
            return Ok(digits);
        }
    }
    Err(PutError::DigitsTaken)
}

fn set_digits(
    connection: &Connection,
    tenant: &TenantId,
    id: TokenId,
    digits: DigitToken,
) -> Result<(), StoreError> {
    let mut update =
        connection.prepare_cached("UPDATE card SET digits = ?3 WHERE tenant = ?1 AND id = ?2")?;
    update.execute(params![tenant.as_str(), id.uuid().as_bytes(), digits.as_str()])?;
    Ok(())
}

fn is_taken(connection: &Connection, tenant: &TenantId, digits: DigitToken) -> Result<bool, StoreError> {
    let mut select = connection.prepare_cached("SELECT 1 FROM card WHERE tenant = ?1 AND digits = ?2")?;
    Ok(select.exists(params![tenant.as_str(), digits.as_str()])?
        || is_deleted(connection, tenant, TokenRef::Digits(digits))?)
}

fn is_deleted(connection: &Connection, tenant: &TenantId, token: TokenRef) -> Result<bool, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT 1 FROM deleted_token WHERE tenant = ?1 AND token = ?2")?;
    Ok(select.exists(params![tenant.as_str(), token.to_string()])?)
}

pub(super) fn delete(
    connection: &Connection,
    tenant: &TenantId,
    token: TokenRef,
    now: Timestamp,
) -> Result<Deletion, StoreError> {
    wipe_what_is_freed(connection)?;
    let condition = match token {
        TokenRef::Opaque(_) => "id = ?2",
        TokenRef::Digits(_) => "digits = ?2",
    };
    let mut delete = connection.prepare_cached(&format!(
        "DELETE FROM card WHERE tenant = ?1 AND {condition} RETURNING id, digits"
    ))?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let gone: Option<([u8; 16], Option<String>)> = match token {
        TokenRef::Opaque(id) => delete.query_row(params![tenant.as_str(), id.uuid().as_bytes()], row),
        TokenRef::Digits(digits) => delete.query_row(params![tenant.as_str(), digits.as_str()], row),
    }
    .optional()?;
    let Some((uuid, digits)) = gone else {
        return Ok(if is_deleted(connection, tenant, token)? { Deletion::Before } else { Deletion::Unknown });
    };
    let mut index = connection.prepare_cached("DELETE FROM card_index WHERE tenant = ?1 AND id = ?2")?;
    index.execute(params![tenant.as_str(), uuid])?;
    let id = TokenId::new(Uuid::from_bytes(uuid));
    let mut remember = connection
        .prepare_cached("INSERT INTO deleted_token (tenant, token, deleted_at) VALUES (?1, ?2, ?3)")?;
    for token in digits.into_iter().chain([id.to_string()]) {
        remember.execute(params![tenant.as_str(), token, now.as_nanos()])?;
    }
    Ok(Deletion::Done(id))
}

const COLUMNS: &str = "sealed, brand, bin, last4, exp_month, exp_year, fingerprint, created_at, id, digits";

pub(super) fn select(
    connection: &Connection,
    tenant: &TenantId,
    token: TokenRef,
) -> Result<Option<StoredCard>, StoreError> {
    let condition = match token {
        TokenRef::Opaque(_) => "id = ?2",
        TokenRef::Digits(_) => "digits = ?2",
    };
    let mut select = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM card WHERE tenant = ?1 AND {condition}"))?;
    let found = match token {
        TokenRef::Opaque(id) => select.query_row(params![tenant.as_str(), id.uuid().as_bytes()], found),
        TokenRef::Digits(digits) => select.query_row(params![tenant.as_str(), digits.as_str()], found),
    };
    let Some((brand, digits, mut card)) = found.optional()? else { return Ok(None) };
    let id = card.token.id;
    card.token.digits = read_digits(id, digits)?;
    card.token.shown.brand = Brand::from_code(brand)
        .ok_or_else(|| StoreError::Corrupt(format!("{id} has a brand that this version does not know")))?;
    Ok(Some(card))
}

/// The brand's number, the token of digits, and everything else.
fn found(row: &Row<'_>) -> Result<(i64, Option<String>, StoredCard), rusqlite::Error> {
    let shown = Shown {
        brand: Brand::Other,
        bin: row.get(2)?,
        last4: row.get(3)?,
        expiry: Month { month: row.get(4)?, year: row.get(5)? },
        fingerprint: row.get(6)?,
    };
    let id = TokenId::new(Uuid::from_bytes(row.get(8)?));
    let token = Token { id, digits: None, shown, created_at: Timestamp::from_nanos(row.get(7)?) };
    Ok((row.get(1)?, row.get(9)?, StoredCard { token, sealed: row.get(0)? }))
}
