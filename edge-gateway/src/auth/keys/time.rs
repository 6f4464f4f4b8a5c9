//! A point in time as the key file writes it: RFC 3339, UTC, whole seconds.

use std::{fmt, str::FromStr};

use money::Timestamp;
use serde::{Deserialize, Serialize};

/// A point in time, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(i64);

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a time such as 2027-01-31T12:00:00Z, from 1970 to 2261")]
pub struct TimeError;

/// Beyond this, nanoseconds do not fit a [`Timestamp`]: the end of 2261.
const SECONDS_MAX: i64 = 9_214_646_399;

impl Time {
    /// The second that this is in.
    pub fn of(timestamp: Timestamp) -> Self {
        Self(timestamp.as_seconds().clamp(0, SECONDS_MAX))
    }

    /// This many seconds later.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(seconds).min(SECONDS_MAX))
    }

    /// The second's beginning.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_seconds(self.0)
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let parsed: prost_types::Timestamp = text.parse().map_err(|_| TimeError)?;
        if (0..=SECONDS_MAX).contains(&parsed.seconds) { Ok(Self(parsed.seconds)) } else { Err(TimeError) }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        prost_types::Timestamp { seconds: self.0, nanos: 0 }.fmt(f)
    }
}

impl TryFrom<String> for Time {
    type Error = TimeError;

    fn try_from(text: String) -> Result<Self, TimeError> {
        text.parse()
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}
