//! The ledger's own part of the configuration.

use std::time::Duration;

use mesh::StartError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What svc-ledger alone has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often lapsed reservations are looked for, in milliseconds. Each batch releases them too, so that
    /// this matters only to who reads balances of an idle ledger.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub expiry_interval_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { expiry_interval_ms: 1_000 }
    }
}

impl Config {
    pub(crate) fn expiry_interval(&self) -> Result<Duration, StartError> {
        match self.expiry_interval_ms {
            millis @ 1..=3_600_000 => Ok(Duration::from_millis(millis)),
            _ => Err(StartError::Config("expiry_interval_ms must be from 1 to 3600000".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_that_would_spin_or_never_come_is_refused() {
        assert!(Config::default().expiry_interval().is_ok());
        for expiry_interval_ms in [0, 3_600_001] {
            assert!(Config { expiry_interval_ms }.expiry_interval().is_err());
        }
    }
}
