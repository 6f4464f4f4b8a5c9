//! Which accounts there are, and which transfers are made between them.

use std::sync::Arc;

use mesh::{Clock as _, SystemClock};
use paymesh_proto::ledger::v1::{Account, Transfer};
use uuid::Uuid;

/// The ledger that all accounts are of.
const LEDGER: &str = "EUR";
// These are in the default chart.
const ACCOUNT_CODE: &str = "customer_deposits";
const TRANSFER_CODE: &str = "transfer";

/// A UUIDv7 of 2024 with nothing in the bits that are free.
const FIRST_ACCOUNT: u128 = 0x018f_0000_0000_7000_8000_0000_0000_0000;
/// Free bits at the end of a UUIDv7.
const COUNTER_BITS: u32 = 62;

/// Ids of accounts, as text.
#[derive(Debug, Clone)]
pub(super) struct Accounts(Arc<[String]>);

impl Accounts {
    pub(super) fn new(count: u32) -> Self {
        Self((1..=count).map(|number| text(FIRST_ACCOUNT | u128::from(number))).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first of them.
    pub(super) fn first(&self) -> Vec<String> {
        self.0.first().cloned().into_iter().collect()
    }

    /// Requests that open them, at most `per_call` in each.
    pub(super) fn to_open(&self, per_call: usize) -> impl Iterator<Item = Vec<Account>> {
        self.0.chunks(per_call).map(|ids| {
            let account = |id: &String| Account {
                id: id.clone(),
                ledger: LEDGER.to_owned(),
                code: ACCOUNT_CODE.to_owned(),
                ..Account::default()
            };
            ids.iter().map(account).collect()
        })
    }
}

/// Makes transfers of 1 to 1,000 minor units between two accounts drawn anew for each.
#[derive(Debug)]
pub(super) struct Workload {
    accounts: Accounts,
    random: fastrand::Rng,
    ids: Ids,
}

impl Workload {
    /// `seed` is another one for each of those that run at once, whose ids must differ.
    pub(super) fn new(accounts: Accounts, seed: u64) -> Self {
        Self { accounts, random: fastrand::Rng::with_seed(seed), ids: Ids::default() }
    }

    pub(super) fn transfer(&mut self) -> Transfer {
        let ids = &self.accounts.0;
        let debit = self.random.usize(..ids.len());
        // Any but that one.
        let credit = (debit + self.random.usize(1..ids.len())) % ids.len();
        let account = |at: usize| ids.get(at).cloned().unwrap_or_default();
        Transfer {
            id: text(self.ids.next(now_ms(), &mut self.random)),
            debit_account_id: account(debit),
            credit_account_id: account(credit),
            amount: self.random.i64(1..=1_000),
            ledger: LEDGER.to_owned(),
            code: TRANSFER_CODE.to_owned(),
            ..Transfer::default()
        }
    }

    pub(super) fn batch(&mut self, count: u32) -> Vec<Transfer> {
        (0..count).map(|_| self.transfer()).collect()
    }
}

/// Milliseconds since the epoch.
fn now_ms() -> u64 {
    u64::try_from(SystemClock.now().as_nanos() / 1_000_000).unwrap_or_default()
}

/// Ids as a careful client makes them: UUIDv7, rising also within a millisecond.
#[derive(Debug, Default)]
struct Ids {
    millis: u64,
    counter: u64,
}

impl Ids {
    fn next(&mut self, millis: u64, random: &mut fastrand::Rng) -> u128 {
        if millis > self.millis {
            // Half of the counter is left to count on.
            *self = Self { millis, counter: random.u64(..1 << (COUNTER_BITS - 1)) };
        } else {
            self.counter += random.u64(1..=1_000);
        }
        (u128::from(self.millis) << 80) | (0x7 << 76) | (0b10 << COUNTER_BITS) | u128::from(self.counter)
    }
}

fn text(id: u128) -> String {
    Uuid::from_u128(id).hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_of_version_7_and_rise() {
        let (mut ids, mut random) = (Ids::default(), fastrand::Rng::with_seed(1));
        let made = [5, 5, 5, 6, 4, 9].map(|now| ids.next(now, &mut random));
        assert!(made.is_sorted_by(|one, next| one < next), "{made:x?}");
        let versions = made.map(|id| Uuid::from_u128(id).get_version_num());
        assert_eq!(versions, [7; 6]);
        assert_eq!(Uuid::from_u128(made[5]).get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn two_accounts_are_debited_and_credited_in_turn_but_never_one_alone() {
        let mut workload = Workload::new(Accounts::new(2), 3);
        let batch = workload.batch(100);
        assert!(batch.iter().all(|transfer| transfer.debit_account_id != transfer.credit_account_id));
        let debited = |id: &str| batch.iter().filter(|transfer| transfer.debit_account_id == id).count();
        let first = &batch[0].debit_account_id;
        assert!((1..100).contains(&debited(first)));
        let opened: Vec<_> = workload.accounts.to_open(1).flatten().map(|account| account.id).collect();
        assert!(opened.len() == 2 && opened.contains(first));
    }
}
