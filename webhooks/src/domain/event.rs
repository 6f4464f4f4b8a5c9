//! Types of events, and which of them an endpoint wants.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest type or pattern, in bytes.
const BYTES_MAX: usize = 128;
/// The most patterns of an endpoint.
pub const PATTERNS_MAX: usize = 64;

/// What happened, such as `payment.captured`: words of a-z, 0-9 and `_` with points between them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EventType(Box<str>);

/// Why a text is no type of event, or no pattern for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not made of words.
    #[error("must be words of a-z, 0-9 and '_' with points between them, at most 128 characters in all")]
    Type,
    /// As above, for a pattern.
    #[error("must be a type of event such as payment.captured, or payment.* for all that begin so, or *")]
    Pattern,
    /// None, or too many.
    #[error("must have 1 to {PATTERNS_MAX} patterns, none of them twice")]
    Patterns,
}

fn is_type(text: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    text.len() <= BYTES_MAX && text.split('.').all(is_word)
}

impl EventType {
    /// The type as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = EventError;

    fn from_str(text: &str) -> Result<Self, EventError> {
        if is_type(text) { Ok(Self(text.into())) } else { Err(EventError::Type) }
    }
}

impl TryFrom<String> for EventType {
    type Error = EventError;

    fn try_from(text: String) -> Result<Self, EventError> {
        text.parse()
    }
}

impl From<EventType> for String {
    fn from(kind: EventType) -> Self {
        kind.0.into()
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which types of events an endpoint wants: each exactly (`payment.captured`), all that begin so (`payment.*`,
/// which is not `payment` itself), or all (`*`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<String>", try_from = "Vec<String>")]
pub struct EventFilter(Vec<String>);

impl EventFilter {
    /// What any of these patterns matches.
    pub fn new(patterns: Vec<String>) -> Result<Self, EventError> {
        let mut different: Vec<&String> = patterns.iter().collect();
        different.sort();
        different.dedup();
        if patterns.is_empty() || patterns.len() > PATTERNS_MAX || different.len() < patterns.len() {
            return Err(EventError::Patterns);
        }
        let legal =
            |pattern: &String| pattern == "*" || is_type(pattern.strip_suffix(".*").unwrap_or(pattern));
        if patterns.iter().all(legal) { Ok(Self(patterns)) } else { Err(EventError::Pattern) }
    }

    /// The patterns as they were given.
    pub fn patterns(&self) -> &[String] {
        &self.0
    }

    /// Whether events of this type are wanted.
    pub fn matches(&self, kind: &EventType) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            // What is left ends with its point, or is empty.
            Some(beginning) => kind.as_str().starts_with(beginning),
            None => pattern == kind.as_str(),
        })
    }
}

impl TryFrom<Vec<String>> for EventFilter {
    type Error = EventError;

    fn try_from(patterns: Vec<String>) -> Result<Self, EventError> {
        Self::new(patterns)
    }
}

impl From<EventFilter> for Vec<String> {
    fn from(filter: EventFilter) -> Self {
        filter.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(patterns: &[&str]) -> Result<EventFilter, EventError> {
        EventFilter::new(patterns.iter().map(|&pattern| pattern.to_owned()).collect())
    }

    #[test]
    fn patterns_match_whole_words() {
        for (pattern, kind, matches) in [
            ("payment.captured", "payment.captured", true),
            ("payment.captured", "payment.captured.late", false),
            ("payment.*", "payment.captured", true),
            ("payment.*", "payment.refund.created", true),
            ("payment.*", "payment", false),
            ("payment.*", "payments.captured", false),
            ("payment.refund.*", "payment.captured", false),
            ("*", "dispute.opened", true),
        ] {
            let kind: EventType = kind.parse().unwrap();
            assert_eq!(filter(&[pattern]).unwrap().matches(&kind), matches, "{pattern} {kind:?}");
        }
        let two = filter(&["refund.*", "payment.captured"]).unwrap();
        assert!(two.matches(&"refund.failed".parse().unwrap()));
        assert!(two.matches(&"payment.captured".parse().unwrap()));
        assert!(!two.matches(&"payment.failed".parse().unwrap()));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let long = "x".repeat(129);
        for wrong in
            ["", "Payment.captured", "payment.", ".captured", "pay*", "payment.*.x", "**", ".*", &long]
        {
            assert_eq!(filter(&[wrong]), Err(EventError::Pattern), "{wrong}");
            assert_eq!(wrong.parse::<EventType>(), Err(EventError::Type), "{wrong}");
        }
        assert_eq!("payment.*".parse::<EventType>(), Err(EventError::Type));
        assert_eq!(filter(&[]), Err(EventError::Patterns));
        assert_eq!(filter(&["*", "*"]), Err(EventError::Patterns));
        let many: Vec<String> = (0..=PATTERNS_MAX).map(|n| format!("x{n}")).collect();
        assert_eq!(EventFilter::new(many), Err(EventError::Patterns));
    }
}
