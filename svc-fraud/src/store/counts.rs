//! The windows, and which of their counts still hang on a transaction.
//!
//! A payment is counted when it is decided on, because the next one of the same transaction must see
//! it. The transaction may yet fail, or the job be rolled back, and then nothing of it happened. So a
//! count is provisional until its call was answered, and whoever reads the windows next takes back
//! first what turned out not to be kept. That is the writer itself: no decision sees such a count,
//! whatever became of the caller that made it.

use std::collections::VecDeque;

use money::Timestamp;

use crate::domain::{Subject, Windows};

/// A place in the order in which payments were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(u64);

/// Windows of which the newest counts can be taken back.
pub(super) struct Counts {
    windows: Windows,
    turn: Turn,
    /// In the order of being counted.
    provisional: VecDeque<(Turn, Subject, Timestamp)>,
}

impl Counts {
    /// All that is in the windows is kept.
    pub(super) fn new(windows: Windows) -> Self {
        Self { windows, turn: Turn(0), provisional: VecDeque::new() }
    }

    /// What the next decision goes by. Call [`Counts::take_back`] first, once for each job.
    pub(super) fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Counts a payment, provisionally.
    pub(super) fn count(&mut self, subject: Subject, now: Timestamp) {
        for entity in subject.entities() {
            self.windows.record(&entity, subject.currency, subject.amount.unsigned_abs(), now);
        }
        self.turn.0 += 1;
        self.provisional.push_back((self.turn, subject, now));
    }

    /// Takes back what was counted and is not kept.
    ///
    /// Looks from the newest until one is kept. Those before it are kept too: each job looks before it
    /// counts, and within a job and a transaction either all are kept or none.
    pub(super) fn take_back<E>(
        &mut self,
        mut is_kept: impl FnMut(&Subject) -> Result<bool, E>,
    ) -> Result<(), E> {
        while let Some((_, subject, at)) = self.provisional.back() {
            if is_kept(subject)? {
                break;
            }
            for entity in subject.entities() {
                self.windows.forget(&entity, subject.currency, subject.amount.unsigned_abs(), *at);
            }
            self.provisional.pop_back();
        }
        Ok(())
    }

    /// The last count so far, for [`Counts::confirm`].
    pub(super) fn turn(&self) -> Turn {
        self.turn
    }

    /// A job that ended with this turn is on disk, and so is what was counted before it.
    pub(super) fn confirm(&mut self, turn: Turn) {
        while self.provisional.front().is_some_and(|(counted, _, _)| *counted <= turn) {
            self.provisional.pop_front();
        }
    }

    /// Counts that are not yet known to be kept.
    #[cfg(test)]
    pub(super) fn provisional(&self) -> usize {
        self.provisional.len()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::{
        domain::{Limits, Window},
        store::contract::{at, subject},
    };

    /// Six payments of one card, of which these are kept.
    fn counts_after(kept: &[u64]) -> Counts {
        let mut counts = Counts::new(Windows::new(Limits { entities_max: 10, cells_max: 100 }));
        for payment in 1..=6 {
            counts.count(subject("acme", payment, "card"), at(0));
        }
        let is_kept = |counted: &Subject| {
            Ok::<_, Infallible>(
                kept.iter().any(|payment| subject("acme", *payment, "card").payment_id == counted.payment_id),
            )
        };
        counts.take_back(is_kept).unwrap_or_default();
        counts
    }

    fn count(counts: &Counts) -> u64 {
        let subject = subject("acme", 0, "card");
        counts.windows().velocity(&subject.entities()[0], subject.currency, at(0)).of(Window::Hour).count
    }

    #[test]
    fn what_is_not_kept_is_taken_back_from_the_newest_on() {
        for (kept, left) in [(&[][..], 0), (&[1, 2, 3], 3), (&[1, 2, 3, 4, 5, 6], 6), (&[3], 3)] {
            assert_eq!(count(&counts_after(kept)), left, "{kept:?}");
        }
    }

    #[test]
    fn what_is_confirmed_is_not_asked_about_again() {
        let mut counts = counts_after(&[1, 2, 3, 4, 5, 6]);
        let turn = counts.turn();
        counts.count(subject("acme", 7, "card"), at(0));
        counts.confirm(turn);
        assert_eq!(counts.provisional(), 1);
        counts.take_back(|_| Ok::<_, Infallible>(false)).unwrap_or_default();
        assert_eq!((counts.provisional(), count(&counts)), (0, 6));
    }
}
