//! The service's own configuration.

use std::path::PathBuf;

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
    /// The most callers that watch payments' events at once; more are refused.
    #[schemars(range(min = 1))]
    pub watchers_max: usize,
    /// The most callers of one tenant that watch payments' events at once.
    #[schemars(range(min = 1))]
    pub watchers_per_tenant_max: usize,
    /// How long one caller may watch before its stream ends and it has to ask again, in milliseconds.
    #[schemars(range(min = 1))]
    pub watch_duration_max_ms: u64,
    /// A file with the secret that the simulator signs its webhooks with: `whsec_` and 24 to 64 bytes in
    /// base64. Absent: `simulator-webhook-secret` in the data directory, made at the first start.
    #[schemars(example = "secrets/simulator-webhook")]
    pub simulator_webhook_secret_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            processor_timeout_ms: 2_000,
            fraud_unavailable_allow_up_to: 0,
            work_interval_ms: 500,
            watchers_max: 4_096,
            watchers_per_tenant_max: 512,
            watch_duration_max_ms: 3_600_000,
            simulator_webhook_secret_file: None,
        }
    }
}
