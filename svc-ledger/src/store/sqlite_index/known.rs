//! Which ids are taken. Asked by the executor for every call, and nearly always answered with "none".

use std::sync::{Arc, PoisonError};

use mesh::store::StoreError;
use rusqlite::{Connection, OptionalExtension};

use super::{
    Shared, body, corrupt, lock, reading::Reading, search::Speller, view::View, words::Words, write,
};
use crate::domain::{Kind, Known, ReservationState, TransferId};

/// Those of the ids that are taken, for the executor. A look finds the first id that is held at or after the one
/// asked for; all that are asked for in between are not held. New ids that begin with the time lie behind all
/// others: one look answers for the whole call.
pub(super) fn of_group(
    shared: &Shared,
    mut ids: Vec<TransferId>,
) -> Result<Vec<(TransferId, Known)>, StoreError> {
    let connection = lock(&shared.knower);
    sort(&mut ids);
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(Vec::new()) };
    if look(&connection, *first)?.is_none_or(|(next, _)| last.bits() < next) {
        return Ok(Vec::new());
    }
    // One for all the looks that follow, each of which would begin its own.
    let snapshot = Reading::begin(&connection)?;
    let words = || Arc::clone(&shared.words.read().unwrap_or_else(PoisonError::into_inner));
    taken(&snapshot, words, &ids)
}

/// The same for a question.
pub(super) fn known(
    connection: &Connection,
    view: &View,
    mut ids: Vec<TransferId>,
) -> Result<Vec<(TransferId, Known)>, StoreError> {
    sort(&mut ids);
    taken(connection, || Arc::clone(&view.words), &ids)
}

fn sort(ids: &mut Vec<TransferId>) {
    if !ids.is_sorted() {
        ids.sort_unstable();
    }
    ids.dedup();
}

/// `words` are asked for after the first look, and hold all that was committed by then.
fn taken(
    snapshot: &Connection,
    words: impl FnOnce() -> Arc<Words>,
    ids: &[TransferId],
) -> Result<Vec<(TransferId, Known)>, StoreError> {
    let held = held(snapshot, ids)?;
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let words = words();
    let mut speller = Speller::new(snapshot, &words)?;
    let mut find = snapshot.prepare_cached("SELECT body FROM movements WHERE timestamp = ?1")?;
    let mut resolution = snapshot.prepare_cached("SELECT state FROM resolutions WHERE reservation = ?1")?;
    let mut found = Vec::with_capacity(held.len());
    for (id, timestamp) in held {
        if let Some(owner) = write::owner_of_burned(timestamp) {
            found.push((id, Known::Failed(words.tenant(owner)?)));
            continue;
        }
        let mut rows = find.query([timestamp])?;
        let row = rows.next()?.ok_or_else(|| corrupt("id without its transfer"))?;
        let bytes = row.get_ref(0)?.as_blob().map_err(|_| corrupt("movement"))?;
        let transfer = speller.transfer(timestamp, &body::movement(bytes)?)?;
        let transfer = transfer.filter(|transfer| transfer.id == id);
        let transfer = Arc::new(transfer.ok_or_else(|| corrupt("id that leads to another movement"))?);
        let known = if matches!(transfer.kind, Kind::Pending { .. }) {
            let state = resolution.query_row([id.bits().to_be_bytes()], |row| row.get(0)).optional()?;
            Known::Reserved(transfer, state.map_or(Ok(ReservationState::Open), write::state)?)
        } else {
            Known::Made(transfer)
        };
        found.push((id, known));
    }
    Ok(found)
}

/// The first id that is held at or after this one, with the time of its transfer, or what stands there for a burned
/// one.
fn look(connection: &Connection, id: TransferId) -> Result<Option<(u128, i64)>, StoreError> {
    let mut look =
        connection.prepare_cached("SELECT id, timestamp FROM ids WHERE id >= ?1 ORDER BY id LIMIT 1")?;
    let found =
        look.query_row([id.bits().to_be_bytes()], |row| Ok((u128::from_be_bytes(row.get(0)?), row.get(1)?)));
    Ok(found.optional()?)
}

/// Those of the ids, which are sorted, that are held, with the times of their transfers, in the order of the
/// times: their rows lie side by side.
fn held(connection: &Connection, ids: &[TransferId]) -> Result<Vec<(TransferId, i64)>, StoreError> {
    let mut held = Vec::new();
    let mut next: Option<(u128, i64)> = None;
    for id in ids {
        if next.is_none_or(|(next, _)| next < id.bits()) {
            next = look(connection, *id)?;
        }
        match next {
            None => break,
            Some((next, timestamp)) if next == id.bits() => held.push((*id, timestamp)),
            Some(_) => {}
        }
    }
    held.sort_unstable_by_key(|(_, timestamp)| *timestamp);
    Ok(held)
}
