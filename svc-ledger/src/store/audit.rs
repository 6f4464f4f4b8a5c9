//! The audit of a live ledger: every record's hash and place, every event replayed, and at the end every
//! account and open reservation as the engine has them.

use crate::{
    domain::{AuditReport, Auditor, ReservationState},
    engine::EngineError,
    journal::{Chain, Link},
    store::{
        Frames, Led,
        ports::{Archive as _, FrameReader, JournalError, Sequence},
    },
};

/// How far an audit has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What was found so far.
    pub found: AuditReport,
    /// Records that were replayed.
    pub records: Sequence,
    /// Records that are to be replayed, as far as is known: more become durable meanwhile.
    pub records_total: Sequence,
}

/// How far behind the journal's end the replay may be when the engine is asked for its state.
const NEAR: Sequence = 64;

/// Replays the journal and compares the outcome with the state of the engine, which goes on meanwhile. It
/// pauses for as long as it takes to copy its accounts, once. `report` is told of each record that was replayed,
/// and may end the audit by returning `false`.
pub async fn audit<L: Led>(
    store: &L,
    mut report: impl FnMut(Progress) -> bool + Send,
) -> Result<Progress, EngineError> {
    let engine = store.engine()?;
    let archive = store.archive();
    let chain = Chain::new(archive.key().clone(), Link::EMPTY);
    let mut replay = Replay { frames: Frames::from(&archive, 1), chain, auditor: Auditor::new() };
    loop {
        let durable = *engine.durable().borrow();
        let behind = durable - replay.at();
        if !replay.go_on(durable, &mut report).await? {
            return Ok(replay.progress(durable));
        }
        if behind <= NEAR {
            break;
        }
    }
    let state = engine
        .read(Vec::new(), |book| {
            let accounts: Vec<_> = book.all_accounts().cloned().collect();
            let open: Vec<_> = book.open_reservations().map(|reservation| reservation.id).collect();
            let lines: Vec<_> =
                book.trial_lines().map(|(tenant, ledger, line)| (tenant.clone(), ledger, line)).collect();
            (book.sequence(), accounts, lines, open)
        })
        .await?;
    let (sequence, accounts, lines, open) = state;
    if !replay.go_on(sequence, &mut report).await? {
        return Ok(replay.progress(sequence));
    }
    for account in &accounts {
        replay.auditor.account(account);
    }
    replay.auditor.trial_balance(lines.iter().map(|(tenant, ledger, line)| (tenant, *ledger, *line)));
    for id in open {
        replay.auditor.reservation(id, ReservationState::Open);
    }
    let records = replay.at();
    Ok(Progress { found: replay.auditor.finish(), records, records_total: records })
}

struct Replay<R> {
    frames: Frames<R>,
    chain: Chain,
    auditor: Auditor,
}

impl<R: FrameReader> Replay<R> {
    /// The last record that was replayed.
    fn at(&self) -> Sequence {
        self.chain.link().sequence
    }

    fn progress(&self, records_total: Sequence) -> Progress {
        Progress { found: self.auditor.report().clone(), records: self.at(), records_total }
    }

    /// Replays up to a record that is durable; whether to go on. A record that does not fit is an offence,
    /// after which nothing more can be told.
    async fn go_on(
        &mut self,
        to: Sequence,
        report: &mut (impl FnMut(Progress) -> bool + Send),
    ) -> Result<bool, EngineError> {
        while let Some(next) = self.frames.next(to).await.transpose() {
            let happened = match next.and_then(|frame| self.chain.open(&frame.bytes)) {
                Ok(happened) => happened,
                Err(error @ (JournalError::Damaged { .. } | JournalError::Foreign(_))) => {
                    self.auditor.offence(|| error.to_string());
                    return Ok(false);
                }
                Err(error) => return Err(EngineError::reading(error)),
            };
            for event in happened.events.iter() {
                self.auditor.event(event);
            }
            if !report(self.progress(to)) {
                return Ok(false);
            }
            // One record may take milliseconds.
            tokio::task::yield_now().await;
        }
        if self.at() < to {
            let at = self.at();
            self.auditor.offence(|| format!("the journal ends with record {at}, and {to} was durable"));
            return Ok(false);
        }
        Ok(true)
    }
}
