//! A batch of transfers: one after the other, chains of linked ones all or nothing.

use money::Timestamp;

use super::{
    TransferCode as C,
    transfer::{NewTransfer, decide},
    types::TransferFlags,
    working::WorkingSet,
};

/// What became of one [`NewTransfer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferResult {
    /// The result.
    pub code: C,
    /// When it was made: of `CREATED` now, of `EXISTS` then, otherwise none.
    pub timestamp: Option<Timestamp>,
}

impl From<C> for TransferResult {
    fn from(code: C) -> Self {
        Self { code, timestamp: None }
    }
}

/// Executes a batch in the order given. The set must hold all accounts, and of the transfers that
/// [`super::mentioned`] says all that exist; `now` is the time of the call. Returns a result per item.
pub fn execute(batch: &[NewTransfer], now: Timestamp, set: &mut WorkingSet) -> Vec<TransferResult> {
    let mut results = Vec::with_capacity(batch.len());
    let mut rest = batch;
    while !rest.is_empty() {
        let linked = rest.iter().take_while(|item| item.flags.contains(TransferFlags::LINKED)).count();
        if linked == rest.len() {
            // The last item of the batch is linked to nothing: none of its chain is even tried.
            results.extend((1..linked).map(|_| TransferResult::from(C::LinkedEventFailed)));
            results.push(C::LinkedEventChainOpen.into());
            break;
        }
        let (chain, tail) = rest.split_at(linked + 1);
        if let [single] = chain {
            let result = attempt(single, now, set);
            burn_if_transient(single, result, set);
            results.push(result);
        } else {
            execute_chain(chain, now, set, &mut results);
        }
        rest = tail;
    }
    results
}

fn attempt(item: &NewTransfer, now: Timestamp, set: &mut WorkingSet) -> TransferResult {
    match decide(item, set.next_timestamp(now), set) {
        Ok(decision) => TransferResult { code: C::Created, timestamp: Some(set.make(decision)) },
        Err(refused) => refused,
    }
}

/// All or nothing. The first item that fails says why, all others say that another failed.
fn execute_chain(
    chain: &[NewTransfer],
    now: Timestamp,
    set: &mut WorkingSet,
    results: &mut Vec<TransferResult>,
) {
    if let Some(replay) = replay(chain, now, set) {
        results.extend(replay);
        return;
    }
    let start = results.len();
    let mark = set.begin_chain();
    for item in chain {
        let result = attempt(item, now, set);
        results.push(result);
        if result.code != C::Created {
            set.roll_back(mark);
            let failed = results.len() - 1;
            results.resize(start + chain.len(), C::LinkedEventFailed.into());
            results[start..failed].fill(C::LinkedEventFailed.into());
            results[failed + 1..].fill(C::LinkedEventFailed.into());
            burn_if_transient(item, result, set);
            return;
        }
    }
    set.keep_chain();
}

/// A chain that was made as a whole and is sent again answers `EXISTS` for each item, so that its
/// sender reads the same success it would have read the first time. (TigerBeetle answers `EXISTS`
/// for the first and a linked failure for the others.)
fn replay(chain: &[NewTransfer], now: Timestamp, set: &WorkingSet) -> Option<Vec<TransferResult>> {
    let timestamp = set.next_timestamp(now);
    let mut results = Vec::with_capacity(chain.len());
    for item in chain {
        match decide(item, timestamp, set) {
            Err(result) if result.code == C::Exists => results.push(result),
            _ => return None,
        }
    }
    Some(results)
}

/// These causes may pass. The id is burned, so that a request still on its way cannot succeed
/// after the client was told of the failure and has moved on.
fn burn_if_transient(item: &NewTransfer, result: TransferResult, set: &mut WorkingSet) {
    let is_transient = matches!(
        result.code,
        C::DebitAccountNotFound
            | C::CreditAccountNotFound
            | C::PendingTransferNotFound
            | C::DebitAccountAlreadyClosed
            | C::CreditAccountAlreadyClosed
            | C::ExceedsCredits
            | C::ExceedsDebits
    );
    if let (true, Some(tenant), Some(id)) = (is_transient, item.tenant.value(), item.id.value()) {
        set.burn(tenant.clone(), *id);
    }
}
