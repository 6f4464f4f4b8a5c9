//! The service's own configuration.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::due::Terms;

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
    /// How long a payment that was created without being confirmed waits for that before it expires, in seconds.
    #[schemars(range(min = 1))]
    pub unconfirmed_valid_s: u32,
    /// How long a payment waits for its payer to act (3-D Secure) before it expires, in seconds.
    #[schemars(range(min = 1))]
    pub action_valid_s: u32,
    /// How long a payment waits for its review before it expires, in seconds.
    #[schemars(range(min = 1))]
    pub review_valid_s: u32,
    /// How long an authorized payment waits for its capture before it expires, in seconds, where its processor does not
    /// say how long that is.
    #[schemars(range(min = 1))]
    pub authorization_valid_s: u32,
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
            unconfirmed_valid_s: 24 * 3_600,
            action_valid_s: 3_600,
            review_valid_s: 7 * 24 * 3_600,
            authorization_valid_s: 7 * 24 * 3_600,
            work_interval_ms: 500,
            watchers_max: 4_096,
            watchers_per_tenant_max: 512,
            watch_duration_max_ms: 3_600_000,
            simulator_webhook_secret_file: None,
        }
    }
}

impl Config {
    /// How long payments wait.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            unconfirmed_s: self.unconfirmed_valid_s.into(),
            action_s: self.action_valid_s.into(),
            review_s: self.review_valid_s.into(),
            authorized_s: self.authorization_valid_s.into(),
        }
    }
}
