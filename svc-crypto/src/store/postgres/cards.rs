//! Cards in PostgreSQL.
//!
//! What is unique is unique by a table's key, and is written with ON CONFLICT DO NOTHING: whoever comes second waits
//! for the first one's commit, writes nothing, and reads what is there.

use std::collections::HashSet;

use deadpool_postgres::{GenericClient, Object};
use mesh::{StoreError, postgres::failed};
use money::{DigitToken, TenantId, Timestamp, TokenId, TokenRef};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{execute, idempotency, row, rows};
use crate::{
    domain::{
        card::{Brand, Month},
        token::{Shown, Token},
    },
    store::{DRAWS_MAX, Deletion, Draw, Put, PutCard, PutError, StoredCard},
};

/// How often a card's place is looked for that others take and give up each time.
const PLACES_MAX: usize = 16;

pub(super) async fn put(client: &mut Object, put: PutCard) -> Result<Put, PutError> {
    let PutCard { tenant, index_tag, new_id, shown, seal, digits: draw, now, idempotency: request } = put;
    let transaction = client.transaction().await.map_err(failed)?;
    if let Some(request) = &request
        && let Some(answer) = idempotency::find(&transaction, &request.scope, &request.fingerprint).await?
    {
        return Ok(Put::Replayed(answer));
    }
    let (id, is_new) = place(&transaction, &tenant, &index_tag, new_id).await?;
    let sealed = seal(id)?;
    let (created_at, digits) = if is_new {
        insert(&transaction, &tenant, id, &shown, &sealed, now).await?;
        (now, None)
    } else {
        update(&transaction, &tenant, id, &shown, &sealed, now).await?
    };
    let digits = match (digits, draw) {
        (None, Some(draw)) => Some(give_digits(&transaction, &tenant, id, draw).await?),
        (digits, _) => digits,
    };
    let token = Token { id, digits, shown, created_at };
    if let Some(request) = &request {
        let answer = (request.answer)(&token);
        let kept =
            idempotency::keep(&transaction, &request.scope, &request.fingerprint, &answer, now).await?;
        if !kept {
            // The same request, or another one under its key, was quicker; what is here is undone.
            transaction.rollback().await.map_err(failed)?;
            let earlier = idempotency::find(client, &request.scope, &request.fingerprint).await?;
            return earlier.map(Put::Replayed).ok_or(PutError::Underway);
        }
    }
    transaction.commit().await.map_err(failed)?;
    Ok(Put::Stored(token))
}

/// The card's row in the index, which is ours until the commit: the id that it is kept under, and whether it is new.
async fn place(
    client: &impl GenericClient,
    tenant: &TenantId,
    tag: &[u8],
    new_id: TokenId,
) -> Result<(TokenId, bool), StoreError> {
    let take =
        "INSERT INTO card_index (tenant, tag, id) VALUES ($1, $2, $3) ON CONFLICT (tenant, tag) DO NOTHING";
    let find = "SELECT id FROM card_index WHERE tenant = $1 AND tag = $2 FOR UPDATE";
    let (tenant, new) = (tenant.as_str(), new_id.uuid());
    for _ in 0..PLACES_MAX {
        if execute(client, take, &[&tenant, &tag, &new]).await? == 1 {
            return Ok((new_id, true));
        }
        if let Some(found) = row(client, find, &[&tenant, &tag]).await? {
            return Ok((TokenId::new(found.get(0)), false));
        }
        // It was deleted in between.
    }
    Err(StoreError::Server("others put and delete the same card all the time".to_owned()))
}

async fn insert(
    client: &impl GenericClient,
    tenant: &TenantId,
    id: TokenId,
    shown: &Shown,
    sealed: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    let statement =
        "INSERT INTO card (tenant, id, sealed, brand, bin, last4, exp_month, exp_year, fingerprint,
            created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)";
    let (tenant, uuid, at) = (tenant.as_str(), id.uuid(), now.as_nanos());
    let (month, year) = (i16::from(shown.expiry.month), shown.expiry.year);
    let brand = i16::try_from(shown.brand.code())
        .map_err(|_| StoreError::Corrupt("a brand's number is beyond a smallint".to_owned()))?;
    let values: [&(dyn ToSql + Sync); 10] =
        [&tenant, &uuid, &sealed, &brand, &shown.bin, &shown.last4, &month, &year, &shown.fingerprint, &at];
    execute(client, statement, &values).await.map(drop)
}

/// Replaces what is kept of a card. Gives when it was first kept, and its token of digits.
async fn update(
    client: &impl GenericClient,
    tenant: &TenantId,
    id: TokenId,
    shown: &Shown,
    sealed: &[u8],
    now: Timestamp,
) -> Result<(Timestamp, Option<DigitToken>), StoreError> {
    // The number is the same, and with it everything that is shown but the expiry; how many of its first digits are
    // shown may have been another number once.
    let statement = "UPDATE card SET sealed = $3, exp_month = $4, exp_year = $5, updated_at = $6, bin = $7
        WHERE tenant = $1 AND id = $2 RETURNING created_at, digits";
    let (tenant, uuid, at) = (tenant.as_str(), id.uuid(), now.as_nanos());
    let (month, year) = (i16::from(shown.expiry.month), shown.expiry.year);
    let values: [&(dyn ToSql + Sync); 7] = [&tenant, &uuid, &sealed, &month, &year, &at, &shown.bin];
    let before = row(client, statement, &values).await?;
    let before =
        before.ok_or_else(|| StoreError::Corrupt(format!("{id} is in the index and not in the vault")))?;
    Ok((Timestamp::from_nanos(before.get(0)), read_digits(id, before.get(1))?))
}

fn read_digits(id: TokenId, digits: Option<&str>) -> Result<Option<DigitToken>, StoreError> {
    let read = |_| StoreError::Corrupt(format!("{id} has a token of digits that can be none"));
    digits.map(|digits| digits.parse().map_err(read)).transpose()
}

/// Draws until a token comes up that the tenant never had.
async fn give_digits(
    client: &impl GenericClient,
    tenant: &TenantId,
    id: TokenId,
    mut draw: Draw,
) -> Result<DigitToken, PutError> {
    let take = "INSERT INTO digit_token (tenant, digits, id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let give = "UPDATE card SET digits = $2 WHERE tenant = $1 AND id = $3";
    let (tenant, uuid) = (tenant.as_str(), id.uuid());
    for _ in 0..DRAWS_MAX {
        let Some(digits) = draw()? else { continue };
        if execute(client, take, &[&tenant, &digits.as_str(), &uuid]).await? == 1 {
            execute(client, give, &[&tenant, &digits.as_str(), &uuid]).await?;
            return Ok(digits);
        }
    }
    Err(PutError::DigitsTaken)
}

/// Names as arrays: tenants, ids, and tokens of digits where there is no id.
fn columns(names: &[(TenantId, TokenRef)]) -> (Vec<&str>, Vec<Option<Uuid>>, Vec<Option<String>>) {
    let tenants = names.iter().map(|(tenant, _)| tenant.as_str()).collect();
    let id = |token: &TokenRef| match token {
        TokenRef::Opaque(id) => Some(id.uuid()),
        TokenRef::Digits(_) => None,
    };
    let digits = |token: &TokenRef| match token {
        TokenRef::Opaque(_) => None,
        TokenRef::Digits(digits) => Some(digits.as_str().to_owned()),
    };
    let ids = names.iter().map(|(_, token)| id(token)).collect();
    (tenants, ids, names.iter().map(|(_, token)| digits(token)).collect())
}

/// What is asked for, by its place, with the id that a token of digits stands or stood for.
const ASKED: &str = "SELECT asked.tenant, coalesce(asked.id, digit_token.id) AS id, asked.place
    FROM unnest($1::text[], $2::uuid[], $3::text[]) WITH ORDINALITY AS asked (tenant, id, digits, place)
    LEFT JOIN digit_token ON digit_token.tenant = asked.tenant AND digit_token.digits = asked.digits";

pub(super) async fn select(
    client: &impl GenericClient,
    names: &[(TenantId, TokenRef)],
) -> Result<Vec<Option<StoredCard>>, StoreError> {
    let statement = format!(
        "SELECT asked.place, card.sealed, card.brand, card.bin, card.last4, card.exp_month, card.exp_year,
             card.fingerprint, card.created_at, card.id, card.digits
         FROM ({ASKED}) AS asked JOIN card ON card.tenant = asked.tenant AND card.id = asked.id"
    );
    let (tenants, ids, digits) = columns(names);
    let mut found: Vec<Option<StoredCard>> = vec![None; names.len()];
    for row in rows(client, &statement, &[&tenants, &ids, &digits]).await? {
        let place = usize::try_from(row.get::<_, i64>(0)).ok().and_then(|place| place.checked_sub(1));
        if let Some(found) = place.and_then(|place| found.get_mut(place)) {
            *found = Some(card(&row)?);
        }
    }
    Ok(found)
}

fn card(row: &Row) -> Result<StoredCard, StoreError> {
    let id = TokenId::new(row.get(9));
    let brand = Brand::from_code(row.get::<_, i16>(2).into());
    let month = u8::try_from(row.get::<_, i16>(5));
    let (Some(brand), Ok(month)) = (brand, month) else {
        return Err(StoreError::Corrupt(format!(
            "{id} has a brand or month that this version does not know"
        )));
    };
    let shown = Shown {
        brand,
        bin: row.get(3),
        last4: row.get(4),
        expiry: Month { month, year: row.get(6) },
        fingerprint: row.get(7),
    };
    let created_at = Timestamp::from_nanos(row.get(8));
    let token = Token { id, digits: read_digits(id, row.get(10))?, shown, created_at };
    Ok(StoredCard { token, sealed: row.get(1) })
}

/// Cards by tenant and id.
const THESE: &str = "(tenant, id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))";

pub(super) async fn delete(
    client: &mut Object,
    names: &[(TenantId, TokenRef)],
    now: Timestamp,
) -> Result<Vec<Deletion>, StoreError> {
    let transaction = client.transaction().await.map_err(failed)?;
    let (tenants, ids, digits) = columns(names);
    let asked = rows(&transaction, &format!("{ASKED} ORDER BY place"), &[&tenants, &ids, &digits]).await?;
    let ids: Vec<Option<Uuid>> = asked.iter().map(|row| row.get(1)).collect();
    // In one order, so that of those who delete the same cards none waits for another in turn.
    let lock = format!("SELECT FROM card_index WHERE {THESE} ORDER BY tenant, id FOR UPDATE");
    rows(&transaction, &lock, &[&tenants, &ids]).await?;
    let delete = format!(
        "WITH gone AS (DELETE FROM card WHERE {THESE} RETURNING tenant, id),
              unindexed AS (DELETE FROM card_index USING gone
                  WHERE card_index.tenant = gone.tenant AND card_index.id = gone.id),
              remembered AS (INSERT INTO deleted_card (tenant, id, deleted_at) SELECT tenant, id, $3 FROM gone)
         SELECT tenant, id FROM gone"
    );
    let place = |row: &Row| (row.get::<_, String>(0), row.get::<_, Uuid>(1));
    let gone = rows(&transaction, &delete, &[&tenants, &ids, &now.as_nanos()]).await?;
    let mut gone: HashSet<(String, Uuid)> = gone.iter().map(place).collect();
    let before = format!("SELECT tenant, id FROM deleted_card WHERE {THESE}");
    let before = rows(&transaction, &before, &[&tenants, &ids]).await?;
    let before: HashSet<(String, Uuid)> = before.iter().map(place).collect();
    transaction.commit().await.map_err(failed)?;
    let deletions = names.iter().zip(ids).map(|((tenant, _), id)| {
        let Some(id) = id else { return Deletion::Unknown };
        let place = (tenant.as_str().to_owned(), id);
        if gone.remove(&place) {
            Deletion::Done(TokenId::new(id))
        } else if before.contains(&place) {
            Deletion::Before
        } else {
            Deletion::Unknown
        }
    });
    Ok(deletions.collect())
}
