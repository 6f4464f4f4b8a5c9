//! A writer in a process of its own, which is killed or kills itself.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
};

use super::*;

/// Says to this test binary that it is the child, and where the journal is.
const DIR: &str = "LEDGER_JOURNAL_CHILD_DIR";
/// Which of the two it is.
const SYNC_FAILS: &str = "LEDGER_JOURNAL_CHILD_SYNC_FAILS";

/// The system's disk, but that a sync of data fails.
#[derive(Debug)]
struct FailingSync;

impl Disk for FailingSync {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        SystemDisk.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        SystemDisk.open(path)
    }

    fn write(&self, file: &mut File, at: u64, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        SystemDisk.write(file, at, pieces)
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        Err(io::Error::other("input/output error"))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.sync_dir(dir)
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        SystemDisk.truncate(path, bytes)
    }

    fn give_up(&self, path: &Path, error: &io::Error) {
        SystemDisk.give_up(path, error);
    }
}

fn child(dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = concat!(module_path!(), "::the_child").split_once("::").unwrap().1;
    command.args(["--exact", name, "--nocapture"]).env(DIR, dir).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Not a test by itself: what the others run in a process of its own.
#[test]
fn the_child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let history = History::new(5_000);
    if std::env::var_os(SYNC_FAILS).is_some() {
        let (mut journal, _) = open_on(FailingSync, Path::new(&dir), 100_000).unwrap();
        append(&mut journal, &history.frames[..1]).ok();
        println!("acknowledged 1");
        return;
    }
    let (mut journal, _) = open_on(SystemDisk, Path::new(&dir), 100_000).unwrap();
    for group in history.frames.chunks(3) {
        append(&mut journal, group).unwrap();
        println!("acknowledged {}", journal.link().sequence);
    }
}

#[test]
fn a_sync_that_fails_ends_the_process_before_anything_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let output = child(dir.path()).env(SYNC_FAILS, "1").output().unwrap();
    assert_eq!(output.status.signal(), Some(6), "SIGABRT; {:?}", output.status);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("acknowledged"));
}

#[test]
fn what_was_acknowledged_outlives_a_killed_writer() {
    for lines in [1, 7, 60] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = child(dir.path()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = |line: io::Result<String>| -> Option<u64> {
            line.unwrap().rsplit_once("acknowledged ")?.1.parse().ok()
        };
        let mut last = output.by_ref().filter_map(acknowledged).nth(lines).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had still said before it died.
        last = output.filter_map(acknowledged).last().unwrap_or(last);
        let (_, recovered) = open(dir.path(), 100_000).unwrap();
        let sequence = recovered.link.sequence;
        assert!(sequence >= last, "record {last} was acknowledged, the journal ends with {sequence}");
        assert_eq!(replayed(dir.path(), 1, sequence).unwrap().len() as u64, sequence);
    }
}
