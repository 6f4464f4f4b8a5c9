//! The verification codes that the running service holds, and the duty that wipes them when their time is over.
//! Decisions are in [`crate::domain::verification`].

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mesh::{Clock, Drain};

use crate::domain::verification::Codes;

/// How often it is looked for codes whose time is over. So much longer than its lifetime may a code be in memory;
/// given is it no longer at once.
const WIPE_EVERY: Duration = Duration::from_secs(1);

/// Codes that the handlers and the background share.
pub struct HeldCodes(Mutex<Codes>);

impl HeldCodes {
    /// Shares these.
    pub fn new(codes: Codes) -> Self {
        Self(Mutex::new(codes))
    }

    /// The codes, for as short a time as it takes.
    pub fn lock(&self) -> MutexGuard<'_, Codes> {
        // Whoever panicked meanwhile left at worst a code that is not found any more.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wipes what has expired. Ends with the drain.
pub async fn wiping(codes: Arc<HeldCodes>, clock: Arc<dyn Clock>, drain: Drain) {
    let mut ticks = tokio::time::interval(WIPE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while drain.unless_started(ticks.tick()).await.is_some() {
        codes.lock().expire(clock.now());
    }
}
