//! How a client behaves towards one upstream. Numbers only: nothing here decides.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How calls to another service are made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamSettings {
    /// Connections to each address of the service. One connection is one lock and one core's worth of
    /// HTTP/2. Default 2.
    pub connections_per_endpoint: u32,
    /// Whether the service may be at several addresses at once, so that calls are balanced over them: only
    /// where all that answer there have the same state. The services of the mesh have a store each of their
    /// own: of two behind one name the second knows nothing of the first one's payments, keys and transfers,
    /// and a retry that reaches it is carried out again. Without this, a name that has more than one address
    /// of a kind (IPv4, IPv6) is not called at all. Default false.
    pub replicated: bool,
    /// The most addresses of one `replicated` service that are used at once; what DNS names beyond is left
    /// out. Default 64.
    pub endpoints_max: u32,
    /// The most calls to the service under way at once; more are refused here with RESOURCE_EXHAUSTED.
    /// Default 8192.
    pub in_flight_max: u32,
    /// How long a call with one message there and one back may take that came without a deadline, in
    /// milliseconds; the service is told. Streams have none unless they come with one. 0 for no deadline.
    /// Default 30000.
    pub default_timeout_ms: u32,
    /// How long a connection may take to be made, TLS included, in milliseconds. Default 3000.
    pub connect_timeout_ms: u32,
    /// Whether connections are made when the service starts and not with its first call. Default false.
    pub warm_up: bool,
    /// How often the service's name is resolved again, in milliseconds; a lost connection does it at once.
    /// An address given as a number is never resolved. Default 10000.
    pub resolve_interval_ms: u32,
    /// A connection older than this, in milliseconds and up to a fifth less by chance, is replaced: first
    /// the new one is made, then the old one finishes its calls. 0 for never. Default 1800000 (30 minutes).
    pub connection_age_max_ms: u32,
    /// How often a connection is asked whether it still lives (HTTP/2 PING), in milliseconds. 0 for never.
    /// Default 20000.
    pub keepalive_interval_ms: u32,
    /// How long the answer to that may take, in milliseconds. Default 10000.
    pub keepalive_timeout_ms: u32,
    /// A second attempt of a read begins when the first has not answered after this many milliseconds; the
    /// first answer counts. Paid for from the retry budget. 0 for never. Default 0.
    pub hedge_after_ms: u32,
    /// Trying again.
    pub retry: RetrySettings,
    /// Leaving out single addresses that fail.
    pub ejection: EjectionSettings,
    /// Leaving the whole service alone while it fails.
    pub breaker: BreakerSettings,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            connections_per_endpoint: 2,
            replicated: false,
            endpoints_max: 64,
            in_flight_max: 8_192,
            default_timeout_ms: 30_000,
            connect_timeout_ms: 3_000,
            warm_up: false,
            resolve_interval_ms: 10_000,
            connection_age_max_ms: 30 * 60 * 1_000,
            keepalive_interval_ms: 20_000,
            keepalive_timeout_ms: 10_000,
            hedge_after_ms: 0,
            retry: RetrySettings::default(),
            ejection: EjectionSettings::default(),
            breaker: BreakerSettings::default(),
        }
    }
}

/// When a call that failed is made again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySettings {
    /// The most retries of one call; 0 for none. Default 2.
    pub retries_max: u32,
    /// Retries and hedges as a share of all calls, in percent. Default 20.
    pub budget_percent: u32,
    /// Retries and hedges allowed beside that share, per second: what a service with few calls lives on.
    /// Default 5.
    pub budget_floor_per_s: u32,
    /// The wait before the first retry is random between 0 and this many milliseconds; it doubles with
    /// each. Default 25.
    pub backoff_base_ms: u32,
    /// The most that this wait grows to, in milliseconds. Default 500.
    pub backoff_max_ms: u32,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            retries_max: 2,
            budget_percent: 20,
            budget_floor_per_s: 5,
            backoff_base_ms: 25,
            backoff_max_ms: 500,
        }
    }
}

/// When an address is left out of the choice.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EjectionSettings {
    /// Failures in a row after which an address is left out; 0 for never. Failures are lost connections
    /// and the codes DATA_LOSS, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and UNKNOWN. Default 5.
    pub consecutive_failures: u32,
    /// For how long it is left out the first time, in milliseconds; doubles each time. Default 1000.
    pub base_ms: u32,
    /// The longest that an address is left out, in milliseconds. Default 60000.
    pub max_ms: u32,
    /// The largest share of the addresses that is left out at once, in percent; never all. Default 50.
    pub share_max_percent: u32,
}

impl Default for EjectionSettings {
    fn default() -> Self {
        Self { consecutive_failures: 5, base_ms: 1_000, max_ms: 60_000, share_max_percent: 50 }
    }
}

/// When no call is let through any more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// The share of failed calls at which the breaker opens, in percent; 0 for never. Default 60.
    pub failed_percent: u32,
    /// It does not open on fewer calls than this within the window. Default 20.
    pub calls_min: u32,
    /// Over which time calls are counted, in milliseconds. Default 5000.
    pub window_ms: u32,
    /// For how long it stays open, in milliseconds; doubles with each failed trial. Default 500.
    pub open_ms: u32,
    /// The longest that it stays open, in milliseconds. Default 10000.
    pub open_max_ms: u32,
    /// How many trial calls must succeed before it closes, and how many are under way at once. Default 3.
    pub trials: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failed_percent: 60,
            calls_min: 20,
            window_ms: 5_000,
            open_ms: 500,
            open_max_ms: 10_000,
            trials: 3,
        }
    }
}

/// A number of the settings as a time.
pub(super) fn ms(milliseconds: u32) -> Duration {
    Duration::from_millis(milliseconds.into())
}

/// `base` doubled `times` times, and never more than `max`.
pub(super) fn doubled(base: Duration, times: u32, max: Duration) -> Duration {
    base.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_stops_at_the_most() {
        assert_eq!(doubled(ms(10), 0, ms(1_000)), ms(10));
        assert_eq!(doubled(ms(10), 3, ms(1_000)), ms(80));
        assert_eq!(doubled(ms(10), 31, ms(1_000)), ms(1_000));
        assert_eq!(doubled(ms(10), 99, ms(1_000)), ms(1_000));
    }
}
