//! For tests: what is logged on this thread, to be read.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter, layer::SubscriberExt as _};

/// Bytes of a log. Clones write to the same.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Takes what is logged on this thread, warnings and worse, until the guard is dropped. A test whose
    /// runtime has this thread alone sees all that its services log.
    pub fn of_this_thread() -> (Self, DefaultGuard) {
        Self::down_to(LevelFilter::WARN)
    }

    /// As [`Lines::of_this_thread`], down to traces: for what must not be logged at any level.
    pub fn all_of_this_thread() -> (Self, DefaultGuard) {
        Self::down_to(LevelFilter::TRACE)
    }

    fn down_to(level: LevelFilter) -> (Self, DefaultGuard) {
        let lines = Self::default();
        let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone()).with_ansi(false).compact();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(level).with(layer));
        (lines, guard)
    }

    /// What was logged until now, one string a line.
    pub fn read(&self) -> Vec<String> {
        let bytes = self.0.lock().map(|bytes| bytes.clone()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().map_err(|_| io::Error::other("a writer panicked"))?;
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
