//! What a payment may know of a card: never the number.

use serde::{Deserialize, Serialize};

/// The part of a card that may be shown, and its keyed fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardSummary {
    /// The scheme, as the vault names it.
    pub brand: String,
    /// The first six digits.
    pub bin: String,
    /// The last four digits.
    pub last4: String,
    /// The vault's keyed fingerprint.
    pub fingerprint: String,
}
