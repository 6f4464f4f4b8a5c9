//! Crashes before, after and within each step that the writer takes, with every kind of loss: what was
//! acknowledged is there afterwards, and nothing that was never sealed. Bugs are planted to see that they
//! would be found.

use super::{
    faulty::{Fault, Loss},
    *,
};

const LOSSES: [Loss; 4] = [Loss::Nothing, Loss::All, Loss::End, Loss::Sectors];

/// Writes a history on a disk until it stops. Returns the last record that was acknowledged.
fn write_until_it_stops(disk: &FaultyDisk, dir: &Path, history: &History, rng: &mut Rng) -> Sequence {
    let Ok((mut journal, _)) = open_on(disk.clone(), dir, 1_200) else { return 0 };
    let mut rest = history.frames.as_slice();
    let mut acknowledged = 0;
    while !rest.is_empty() {
        let (group, behind) = rest.split_at(rng.usize(1..=4).min(rest.len()));
        match append(&mut journal, group) {
            Ok(()) => acknowledged = journal.link().sequence,
            Err(error) => {
                assert!(matches!(error, JournalError::Unknown(_)), "{error}");
                let again = append(&mut journal, group).unwrap_err();
                assert!(matches!(again, JournalError::Unknown(_)), "nothing more after an error: {again}");
                break;
            }
        }
        rest = behind;
    }
    acknowledged
}

/// What recovery must give after a crash; an error says what it did not.
fn check(dir: &Path, history: &History, acknowledged: Sequence) -> Result<Sequence, String> {
    let (mut journal, recovered) = open(dir, 1_200).map_err(|error| format!("refused: {error}"))?;
    let sequence = recovered.link.sequence;
    if sequence < acknowledged {
        return Err(format!("record {acknowledged} was acknowledged, the journal ends with {sequence}"));
    }
    let place = usize::try_from(sequence).unwrap();
    // It goes on as if nothing had been.
    append(&mut journal, &history.frames[place..]).map_err(|error| error.to_string())?;
    drop(journal);
    open(dir, 1_200).map_err(|error| format!("refused the second time: {error}"))?;
    let all = replayed(dir, 1, history.frames.len() as u64).map_err(|error| error.to_string())?;
    let is_sealed = all.iter().zip(&history.frames).all(|(happened, frame)| happened.hash == frame.hash);
    if is_sealed { Ok(sequence) } else { Err("the records are not those that were sealed".to_owned()) }
}

/// Every step of writing a history, stopped in every way. Returns how many crashes there were, and the first
/// failed check.
fn crashes(lies: bool) -> (usize, Option<String>) {
    let history = History::new(24);
    let mut rng = Rng::with_seed(12);
    let (mut count, mut cuts, mut given_up) = (0, 0, 0);
    for fault in [Fault::Before, Fault::Within, Fault::After] {
        for loss in LOSSES {
            for step in 0.. {
                // The same groups each time, so that each step is met.
                let mut groups = Rng::with_seed(13);
                let dir = tempfile::tempdir().unwrap();
                let disk = FaultyDisk::stopping_at(step, fault);
                let disk = if lies { disk.lying() } else { disk };
                let acknowledged = write_until_it_stops(&disk, dir.path(), &history, &mut groups);
                if !disk.has_stopped() {
                    assert_eq!(acknowledged, 24);
                    break;
                }
                for _ in 0..4 {
                    disk.cut_power(loss, &mut rng);
                    // Recovery itself may be stopped, too.
                    let (step, fault) =
                        (rng.usize(0..4), if rng.bool() { Fault::Before } else { Fault::After });
                    open_on(FaultyDisk::stopping_at(step, fault), dir.path(), 1_200).ok();
                    match check(dir.path(), &history, acknowledged) {
                        Ok(sequence) => cuts += usize::from(sequence == acknowledged),
                        Err(what) => {
                            return (count, Some(format!("{fault:?} step {step}, {loss:?}: {what}")));
                        }
                    }
                    count += 1;
                    for path in segments(dir.path()) {
                        fs::remove_file(path).unwrap();
                    }
                }
                given_up += usize::from(disk.has_given_up());
            }
        }
    }
    assert!(cuts > count / 4 && given_up > 20, "{cuts} of {count}, {given_up}");
    (count, None)
}

#[test]
fn what_was_acknowledged_outlives_a_crash_at_any_step() {
    let (count, failed) = crashes(false);
    assert_eq!(failed, None);
    assert!(count > 500, "{count}");
}

/// A planted bug: answers are given before the sync.
#[test]
fn an_acknowledgement_that_comes_too_early_is_found() {
    let (_, failed) = crashes(true);
    let failed = failed.expect("nothing was noticed");
    assert!(failed.contains("was acknowledged, the journal ends with"), "{failed}");
}

/// A disk that was full and is no longer: the end of the file may be torn, so that nothing goes behind it.
#[test]
fn after_an_error_nothing_is_appended_until_it_is_opened_anew() {
    let history = History::new(4);
    for fault in [Fault::Before, Fault::Within] {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::stopping_at(4, fault);
        let (mut journal, _) = open_on(disk.clone(), dir.path(), ONE_SEGMENT).unwrap();
        append(&mut journal, &history.frames[..2]).unwrap();
        assert!(matches!(append(&mut journal, &history.frames[2..]), Err(JournalError::Unknown(_))));
        disk.heal();
        let bytes = journal.reader().bytes().unwrap();
        assert!(matches!(append(&mut journal, &history.frames[2..]), Err(JournalError::Unknown(_))));
        assert_eq!((journal.reader().bytes().unwrap(), journal.link().sequence), (bytes, 2));
        drop(journal);
        // Of two records two thirds were written: one of them may be whole, and stay.
        let sequence = check(dir.path(), &history, 2).unwrap();
        assert!((2..4).contains(&sequence), "{fault:?}");
    }
}

/// A sync that fails is never asked again.
#[test]
fn a_sync_that_fails_is_the_end() {
    let history = History::new(3);
    let dir = tempfile::tempdir().unwrap();
    // The journal's directory is there; a segment is made, its name synced, written, synced.
    let disk = FaultyDisk::stopping_at(3, Fault::Before);
    let (mut journal, _) = open_on(disk.clone(), dir.path(), ONE_SEGMENT).unwrap();
    let error = append(&mut journal, &history.frames).unwrap_err().to_string();
    assert!(error.contains("a sync"), "{error}");
    assert!(disk.has_given_up());
}

/// The process died before its sync, another read what it had written, and then the power went.
#[test]
fn what_was_recovered_is_durable() {
    let history = History::new(3);
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::stopping_at(3, Fault::Before);
    assert_eq!(write_until_it_stops(&disk, dir.path(), &history, &mut Rng::with_seed(13)), 0);
    let disk = FaultyDisk::default();
    let (journal, recovered) = open_on(disk.clone(), dir.path(), ONE_SEGMENT).unwrap();
    assert!(recovered.link.sequence > 0);
    drop(journal);
    disk.cut_power(Loss::All, &mut Rng::with_seed(0));
    let (_, again) = open(dir.path(), ONE_SEGMENT).unwrap();
    assert_eq!(again.link, recovered.link);
}
