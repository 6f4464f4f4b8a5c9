//! Who leads: what a replica does when it looks at the one row that says so. Pure; `leadership` asks the
//! server and does what is decided here.
//!
//! A leader is known by its *epoch*, which grows by one with each takeover. Its lease runs on the server's
//! clock, and on its own one from before it was asked for, so that it ends here first. The lease only says
//! when to take over; what makes it safe is that each write checks the epoch in its own transaction.

use std::time::Duration;

/// The number of a leadership: greater than that of each one before. 0 is that of nobody.
pub type Epoch = u64;

/// What this replica is to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It writes. Its memory is the ledger's state once it has read what is stored *after* it was told this.
    Leading {
        /// Its epoch.
        epoch: Epoch,
    },
    /// Another one writes, or nobody does at the moment.
    Following {
        /// Its name; empty when it is not known.
        leader: String,
        /// Where callers reach it; empty when it is not known.
        address: String,
    },
}

impl Role {
    /// Following nobody that is known.
    pub(super) const fn unknown() -> Self {
        Self::Following { leader: String::new(), address: String::new() }
    }
}

/// The row, as the server told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) epoch: Epoch,
    pub(super) leader: String,
    pub(super) address: String,
    /// What was left of the lease, by the server's clock.
    pub(super) left: Duration,
    /// Whether the leader has given its place up.
    pub(super) released: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Say that we are still there.
    Renew(Epoch),
    /// Give our place up.
    Release(Epoch),
    /// Take the place of that epoch's leader.
    Take(Epoch),
    /// Look again after so long.
    Follow(Duration),
}

/// What this replica wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    /// To lead whenever it can.
    Lead,
    /// To lead in an epoch later than the one that it holds: what it wrote last in that one is not known.
    LeadAnew,
    /// To go on for as long as it holds its place, and to take none.
    Finish,
    /// Not to lead any more.
    Leave,
}

/// How often a lease is renewed, and looked at by those who wait for its end.
pub(super) fn interval(lease: Duration) -> Duration {
    lease / 5
}

/// What to do about the row. `held` is the epoch in which we lead, if we do.
pub(super) fn decide(seen: &Seen, held: Option<Epoch>, intent: Intent, lease: Duration) -> Step {
    // A restart does not hold what the process before it held: only who took an epoch knows what it wrote.
    let holds = held == Some(seen.epoch) && !seen.released;
    match (holds, intent) {
        (true, Intent::Lead | Intent::Finish) => Step::Renew(seen.epoch),
        (true, Intent::LeadAnew | Intent::Leave) => Step::Release(seen.epoch),
        (false, Intent::Finish | Intent::Leave) => Step::Follow(interval(lease)),
        (false, _) if seen.released || seen.left.is_zero() => Step::Take(seen.epoch),
        (false, _) => Step::Follow(seen.left.min(interval(lease))),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Intent::{Finish, Lead, LeadAnew, Leave},
        *,
    };

    const LEASE: Duration = Duration::from_secs(5);

    fn seen(epoch: Epoch, left_ms: u64, released: bool) -> Seen {
        let left = Duration::from_millis(left_ms);
        Seen { epoch, leader: "one".to_owned(), address: String::new(), left, released }
    }

    #[test]
    fn every_row_has_its_step() {
        let wait = |ms| Step::Follow(Duration::from_millis(ms));
        // The epoch, what is left, whether released; held, intent; the step.
        let cases = [
            // A new ledger, or one whose leader went in peace.
            (seen(0, 0, true), None, Lead, Step::Take(0)),
            (seen(7, 4_000, true), None, Lead, Step::Take(7)),
            // The leader is there: look again, at the latest when its lease ends.
            (seen(7, 4_000, false), None, Lead, wait(1_000)),
            (seen(7, 300, false), None, Lead, wait(300)),
            // It is not.
            (seen(7, 0, false), None, Lead, Step::Take(7)),
            // We are the leader.
            (seen(7, 4_000, false), Some(7), Lead, Step::Renew(7)),
            (seen(7, 0, false), Some(7), Lead, Step::Renew(7)),
            (seen(7, 4_000, false), Some(7), Leave, Step::Release(7)),
            // We are, and do not know what we wrote: the place is free for a moment, for whoever comes first.
            (seen(7, 4_000, false), Some(7), LeadAnew, Step::Release(7)),
            (seen(7, 4_000, true), None, LeadAnew, Step::Take(7)),
            (seen(8, 4_000, false), None, LeadAnew, wait(1_000)),
            // We were.
            (seen(8, 4_000, false), Some(7), Lead, wait(1_000)),
            (seen(8, 0, false), Some(7), Lead, Step::Take(8)),
            (seen(8, 4_000, false), Some(7), Leave, wait(1_000)),
            (seen(7, 4_000, true), Some(7), Lead, Step::Take(7)),
            // Who finishes keeps what it has, and takes nothing.
            (seen(7, 4_000, false), Some(7), Finish, Step::Renew(7)),
            (seen(7, 0, false), Some(7), Finish, Step::Renew(7)),
            (seen(7, 4_000, true), Some(7), Finish, wait(1_000)),
            (seen(8, 0, false), Some(7), Finish, wait(1_000)),
            (seen(7, 0, true), None, Finish, wait(1_000)),
            // Who is leaving takes nothing.
            (seen(7, 0, false), None, Leave, wait(1_000)),
            (seen(7, 0, true), Some(7), Leave, wait(1_000)),
        ];
        for (index, (row, held, intent, step)) in cases.into_iter().enumerate() {
            assert_eq!(decide(&row, held, intent, LEASE), step, "case {index}");
        }
    }
}
