//! Where the client's chance comes from: balancing, jitter. Never anything that must be secret.

use std::time::Duration;

/// Draws numbers.
pub trait Dice: Send + Sync + 'static {
    /// A number from 0 to `below` - 1; 0 when `below` is 0.
    fn draw(&self, below: u64) -> u64;
}

/// A fast generator per thread, seeded by the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadDice;

impl Dice for ThreadDice {
    fn draw(&self, below: u64) -> u64 {
        if below == 0 { 0 } else { fastrand::u64(..below) }
    }
}

/// A time from 0 to `most`, each as likely: what is called full jitter.
pub(super) fn up_to(dice: &dyn Dice, most: Duration) -> Duration {
    let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(dice.draw(nanos.saturating_add(1)))
}
