//! What movements do to balances, and the limits that they are held to.

use super::types::{Account, AccountFlags, Balances};

/// The reserved and the made sum of one side of an account, which fit together into an `i64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) pending: i64,
    pub(super) posted: i64,
}

/// Which of the sums would leave the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflows {
    /// What is reserved.
    pub(super) pending: bool,
    /// What is made.
    pub(super) posted: bool,
    /// Both together.
    pub(super) total: bool,
}

impl Sums {
    /// Both together.
    pub(super) fn total(self) -> i128 {
        i128::from(self.pending) + i128::from(self.posted)
    }

    /// What would leave the range if this much were added. Reserving only what could also be made keeps a
    /// later post from overflowing.
    pub(super) fn overflows(self, amount: i64, reserves: bool) -> Overflows {
        Overflows {
            pending: reserves && self.pending.checked_add(amount).is_none(),
            posted: self.posted.checked_add(amount).is_none(),
            total: self.total() + i128::from(amount) > i128::from(i64::MAX),
        }
    }

    /// After a change of both; `None` where that leaves what sums can be.
    fn moved(self, pending: i64, posted: i64) -> Option<Self> {
        let pending = self.pending.checked_add(pending).filter(|sum| *sum >= 0)?;
        let posted = self.posted.checked_add(posted).filter(|sum| *sum >= 0)?;
        pending.checked_add(posted)?;
        Some(Self { pending, posted })
    }
}

impl Balances {
    /// The debit side.
    pub(super) fn debits(&self) -> Sums {
        Sums { pending: self.debits_pending, posted: self.debits_posted }
    }

    /// The credit side.
    pub(super) fn credits(&self) -> Sums {
        Sums { pending: self.credits_pending, posted: self.credits_posted }
    }

    /// After a change of the reserved and the made debits.
    pub(super) fn debited(&self, pending: i64, posted: i64) -> Option<Self> {
        let Sums { pending, posted } = self.debits().moved(pending, posted)?;
        Some(Self { debits_pending: pending, debits_posted: posted, ..*self })
    }

    /// After a change of the reserved and the made credits.
    pub(super) fn credited(&self, pending: i64, posted: i64) -> Option<Self> {
        let Sums { pending, posted } = self.credits().moved(pending, posted)?;
        Some(Self { credits_pending: pending, credits_posted: posted, ..*self })
    }
}

impl Account {
    /// What a balancing debit finds to move: perhaps nothing, never less.
    pub(super) fn debits_left(&self) -> i64 {
        let limit = self.limit_of(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS).unwrap_or(0);
        left(self.balances.debits(), self.balances.credits_posted, limit)
    }

    /// What a balancing credit finds to move.
    pub(super) fn credits_left(&self) -> i64 {
        let limit = self.limit_of(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS).unwrap_or(0);
        left(self.balances.credits(), self.balances.debits_posted, limit)
    }

    /// Whether so much more on the debit side is more than is allowed. What is beyond the limit already (it
    /// may have been lowered) is no reason to refuse what adds nothing.
    pub(super) fn refuses_debit(&self, amount: i64) -> bool {
        self.limit_of(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS)
            .is_some_and(|limit| amount > left(self.balances.debits(), self.balances.credits_posted, limit))
    }

    /// As [`Self::refuses_debit`], on the credit side.
    pub(super) fn refuses_credit(&self, amount: i64) -> bool {
        self.limit_of(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS)
            .is_some_and(|limit| amount > left(self.balances.credits(), self.balances.debits_posted, limit))
    }

    fn limit_of(&self, flag: AccountFlags) -> Option<i64> {
        self.flags.contains(flag).then_some(self.limit)
    }
}

fn left(used: Sums, against: i64, limit: i64) -> i64 {
    let left = i128::from(against) + i128::from(limit) - used.total();
    i64::try_from(left.max(0)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_never_negative_and_never_wraps() {
        let sums = |pending, posted| Sums { pending, posted };
        assert_eq!(left(sums(2, 3), 7, 4), 6);
        assert_eq!(left(sums(2, 3), 4, 0), 0);
        assert_eq!(left(sums(0, 0), i64::MAX, i64::MAX), i64::MAX);
        assert_eq!(left(sums(0, i64::MAX), i64::MAX, i64::MAX), i64::MAX);
    }

    #[test]
    fn each_sum_overflows_by_itself() {
        let max = i64::MAX;
        let of = |pending, posted, amount, reserves| {
            let Overflows { pending, posted, total } = Sums { pending, posted }.overflows(amount, reserves);
            (pending, posted, total)
        };
        assert_eq!(of(max - 1, 0, 2, true), (true, false, true));
        assert_eq!(of(max - 1, 0, 2, false), (false, false, true));
        assert_eq!(of(0, max - 1, 2, true), (false, true, true));
        assert_eq!(of(5, max - 5, 0, true), (false, false, false));
        assert_eq!(Sums { pending: 3, posted: 0 }.moved(-4, 4), None, "more than is reserved");
        assert_eq!(Sums { pending: 3, posted: max - 3 }.moved(0, 1), None);
    }
}
