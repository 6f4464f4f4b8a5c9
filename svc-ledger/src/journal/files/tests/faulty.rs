//! A disk that keeps apart what was written and what is durable, and can stop at any step. It is fast, too, as
//! it waits for no real one.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, IoSlice, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use fastrand::Rng;

use super::super::disk::Disk;

/// What a disk writes whole, in bytes.
const SECTOR: usize = 512;

/// What happens to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not done.
    Before,
    /// It is done, but nobody learns of it.
    After,
    /// Of a write a part is done; another step is not done.
    Within,
}

/// What of the bytes that were never synced is there after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// All: the process died, the machine did not.
    Nothing,
    /// None.
    All,
    /// All sectors from some one on.
    End,
    /// Any sectors: they read as they were before, or as zeros.
    Sectors,
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Per file what is durable, and what was written.
    files: BTreeMap<PathBuf, (Vec<u8>, Vec<u8>)>,
    /// The files whose names are durable.
    named: Vec<PathBuf>,
    /// How many steps there were.
    steps: usize,
    fault: Option<(usize, Fault)>,
    has_stopped: bool,
    has_given_up: bool,
    /// A planted bug: a sync says that it is done, and is not.
    lies: bool,
}

impl FaultyDisk {
    /// One that stops at a step.
    pub(super) fn stopping_at(step: usize, fault: Fault) -> Self {
        let state = State { fault: Some((step, fault)), ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The same, but its syncs do nothing.
    pub(super) fn lying(self) -> Self {
        self.state().lies = true;
        self
    }

    /// It works again.
    pub(super) fn heal(&self) {
        let mut state = self.state();
        (state.has_stopped, state.fault) = (false, None);
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.state().has_stopped
    }

    pub(super) fn has_given_up(&self) -> bool {
        self.state().has_given_up
    }

    /// Leaves the files as a power cut would.
    pub(super) fn cut_power(&self, loss: Loss, rng: &mut Rng) {
        let state = self.state();
        for (path, (durable, written)) in &state.files {
            if !state.named.contains(path) && loss != Loss::Nothing {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
                    _ => continue,
                }
            }
            let left = match loss {
                Loss::Nothing => written.clone(),
                Loss::All => durable.clone(),
                Loss::End => mixed(durable, written, &mut first_sectors(written.len(), rng)),
                Loss::Sectors => mixed(durable, written, &mut |_| rng.bool()),
            };
            super::put(path, &left);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Does a step, or not, as it was planned.
    fn step<T>(&self, done: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        let step = state.steps;
        state.steps += 1;
        let error = || io::Error::other("no space left on device");
        match state.fault {
            _ if state.has_stopped => Err(error()),
            Some((at, fault)) if at == step => {
                state.has_stopped = true;
                if fault == Fault::After {
                    done(&mut state)?;
                }
                Err(error())
            }
            _ => done(&mut state),
        }
    }

    fn put(state: &mut State, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (_, written) = state.files.entry(path.to_owned()).or_default();
        let from = usize::try_from(at).unwrap();
        let end = from + bytes.len();
        written.resize(written.len().max(end), 0);
        written[from..end].copy_from_slice(bytes);
        let mut file = fs::File::options().write(true).create(true).truncate(false).open(path)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }
}

/// Those up to some sector.
fn first_sectors(bytes: usize, rng: &mut Rng) -> impl FnMut(usize) -> bool + use<> {
    let first = rng.usize(0..=bytes.div_ceil(SECTOR));
    move |sector| sector < first
}

/// The sectors that are chosen as they were written, the others as they were durable, or zeros.
fn mixed(durable: &[u8], written: &[u8], is_written: &mut dyn FnMut(usize) -> bool) -> Vec<u8> {
    let mut left = durable.to_vec();
    left.resize(written.len().max(durable.len()), 0);
    for (sector, content) in written.chunks(SECTOR).enumerate() {
        if is_written(sector) {
            left[sector * SECTOR..][..content.len()].copy_from_slice(content);
        }
    }
    left
}

impl Disk for FaultyDisk {
    type File = PathBuf;

    fn create(&self, path: &Path) -> io::Result<PathBuf> {
        self.step(|state| Self::put(state, path, 0, &[]))?;
        Ok(path.to_owned())
    }

    fn open(&self, path: &Path) -> io::Result<PathBuf> {
        // As it was written by someone else, nothing says that it is durable.
        let bytes = fs::read(path)?;
        let mut state = self.state();
        state.named.push(path.to_owned());
        state.files.entry(path.to_owned()).or_insert((Vec::new(), bytes));
        Ok(path.to_owned())
    }

    fn write(&self, path: &mut PathBuf, at: u64, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        let is_within = {
            let state = self.state();
            !state.has_stopped && state.fault == Some((state.steps, Fault::Within))
        };
        if is_within {
            let part = bytes.len() * 2 / 3;
            Self::put(&mut self.state(), path, at, &bytes[..part])?;
            // The rest is asked for in another step, which fails.
            let mut state = self.state();
            let step = state.steps + 1;
            (state.steps, state.fault) = (step, Some((step, Fault::Before)));
            return Ok(part);
        }
        self.step(|state| Self::put(state, path, at, &bytes))?;
        Ok(bytes.len())
    }

    fn sync(&self, path: &PathBuf) -> io::Result<()> {
        self.step(|state| {
            if let (false, Some((durable, written))) = (state.lies, state.files.get_mut(path)) {
                durable.clone_from(written);
            }
            Ok(())
        })
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.step(|state| {
            state.named = state.files.keys().cloned().collect();
            Ok(())
        })
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.step(|state| {
            if let Some((durable, written)) = state.files.get_mut(path) {
                written.truncate(usize::try_from(bytes).unwrap());
                durable.clone_from(written);
            }
            fs::File::options().write(true).open(path)?.set_len(bytes)
        })
    }

    fn give_up(&self, _: &Path, _: &io::Error) {
        self.state().has_given_up = true;
    }
}
