//! The service's own configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What svc-payments alone has.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a processor call may take before its outcome counts as unknown, in milliseconds.
    #[schemars(range(min = 1))]
    pub processor_timeout_ms: u64,
    /// Up to this amount (minor units) a payment goes on when the fraud service cannot be reached; above
    /// it the payment waits until the service is back. 0: every payment waits.
    #[schemars(range(min = 0))]
    pub fraud_unavailable_allow_up_to: i64,
    /// How often work that is due is looked for, in milliseconds.
    #[schemars(range(min = 1))]
    pub work_interval_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { processor_timeout_ms: 2_000, fraud_unavailable_allow_up_to: 0, work_interval_ms: 500 }
    }
}
