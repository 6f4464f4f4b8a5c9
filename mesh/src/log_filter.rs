//! Which events the log takes, changed while the process runs: for good, or for some seconds.
//!
//! The process has one log, hence one filter. Knows nothing of where the log goes.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tracing_subscriber::EnvFilter;

/// No sensible filter is longer, in bytes.
pub(crate) const FILTER_BYTES_MAX: usize = 1_024;
/// The longest that a filter may hold before the old one returns, in seconds.
pub(crate) const HOLD_S_MAX: u64 = 86_400;

/// Puts a filter in place.
pub(crate) type Apply = Box<dyn Fn(EnvFilter) -> Result<(), tracing_subscriber::reload::Error> + Send + Sync>;

/// Why a filter was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// It cannot be read.
    #[error("the filter is not one ({0}): give a level, or target=level pairs, such as info,mesh=debug")]
    Syntax(#[from] tracing_subscriber::filter::ParseError),
    /// It is empty or far too long.
    #[error("the filter must have 1 to {FILTER_BYTES_MAX} characters, such as info,mesh=debug")]
    Length,
    /// The log is no longer written.
    #[error("the log is no longer written")]
    Gone(#[from] tracing_subscriber::reload::Error),
}

static OF_THE_PROCESS: OnceLock<LogFilter> = OnceLock::new();

/// The filter of the log. Cheap to clone; all clones are the same filter.
#[derive(Clone)]
pub(crate) struct LogFilter(Arc<Shared>);

struct Shared {
    apply: Vec<Apply>,
    state: Mutex<State>,
}

struct State {
    now: String,
    /// What returns when a filter for some seconds has had its time.
    lasting: String,
    /// Counts the changes, so that only the last one's time counts.
    version: u64,
}

impl LogFilter {
    /// The filter as it is configured, and how others are put in its place.
    pub(crate) fn new(configured: &str, apply: Vec<Apply>) -> Self {
        let (now, lasting) = (configured.to_owned(), configured.to_owned());
        Self(Arc::new(Shared { apply, state: Mutex::new(State { now, lasting, version: 0 }) }))
    }

    /// Makes this the filter that [`LogFilter::of_the_process`] is. Only the first one is.
    pub(crate) fn install(self) {
        let _ = OF_THE_PROCESS.set(self);
    }

    /// The filter of this process's log, where it writes one.
    pub(crate) fn of_the_process() -> Option<Self> {
        OF_THE_PROCESS.get().cloned()
    }

    /// The filter as it is now, and the one that returns, where it is another.
    pub(crate) fn current(&self) -> (String, Option<String>) {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.now.clone(), (state.now != state.lasting).then(|| state.lasting.clone()))
    }

    /// Takes another filter; with a time, the last one without a time returns after it. Within a runtime.
    pub(crate) fn set(&self, text: &str, hold: Option<Duration>) -> Result<(), FilterError> {
        let text = text.trim();
        if text.is_empty() || text.len() > FILTER_BYTES_MAX {
            return Err(FilterError::Length);
        }
        let version = {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            self.put(text, &mut state)?;
            if hold.is_none() {
                text.clone_into(&mut state.lasting);
            }
            state.version
        };
        let seconds = hold.map(|hold| hold.as_secs());
        tracing::warn!(filter = text, for_s = seconds, "the log's filter was changed");
        if let Some(hold) = hold {
            let filter = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(hold).await;
                filter.give_back(version);
            });
        }
        Ok(())
    }

    /// The lasting filter again, unless there was another change since.
    fn give_back(&self, version: u64) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.version == version {
            let lasting = state.lasting.clone();
            // It was in place before, so it reads; without a log there is nothing to give back.
            let _ = self.put(&lasting, &mut state);
        }
    }

    fn put(&self, text: &str, state: &mut State) -> Result<(), FilterError> {
        // All are read before any is put in place.
        let filters = self.0.apply.iter().map(|_| EnvFilter::try_new(text)).collect::<Result<Vec<_>, _>>()?;
        for (apply, filter) in self.0.apply.iter().zip(filters) {
            apply(filter)?;
        }
        text.clone_into(&mut state.now);
        state.version += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, reload};

    use super::*;

    /// A filter over a subscriber that writes to nowhere, and whether an event of a level passes it.
    fn filter() -> (LogFilter, impl tracing::Subscriber + Send + Sync) {
        let (layer, handle) = reload::Layer::new(EnvFilter::new("info"));
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink).with_filter(layer);
        let subscriber = tracing_subscriber::registry().with(log);
        (LogFilter::new("info", vec![Box::new(move |filter| handle.reload(filter))]), subscriber)
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_holds_for_its_time_and_the_last_lasting_one_returns() {
        let (filter, subscriber) = filter();
        let _guard = tracing::subscriber::set_default(subscriber);
        let debugs = || tracing::enabled!(target: "mesh", tracing::Level::DEBUG);
        assert!(!debugs());
        filter.set("info,mesh=debug\n", Some(Duration::from_secs(10))).unwrap();
        assert!(debugs());
        assert_eq!(filter.current(), ("info,mesh=debug".into(), Some("info".into())));
        // A second one takes the place of the first; the first one's time no longer counts.
        tokio::time::sleep(Duration::from_secs(9)).await;
        filter.set("debug", Some(Duration::from_secs(10))).unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(debugs());
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(!debugs());
        assert_eq!(filter.current(), ("info".into(), None));
        filter.set("warn", None).unwrap();
        assert!(!tracing::enabled!(target: "mesh", tracing::Level::INFO));
        assert_eq!(filter.current(), ("warn".into(), None));
    }

    #[tokio::test]
    async fn what_is_no_filter_is_refused_and_the_old_one_stays() {
        let (filter, subscriber) = filter();
        let _guard = tracing::subscriber::set_default(subscriber);
        for wrong in ["", "  ", "mesh=loud", &"x".repeat(FILTER_BYTES_MAX + 1)] {
            assert!(filter.set(wrong, None).unwrap_err().to_string().contains("info,mesh=debug"), "{wrong}");
        }
        assert_eq!(filter.current(), ("info".into(), None));
    }
}
