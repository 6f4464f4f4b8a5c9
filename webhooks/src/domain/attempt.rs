//! One attempt to deliver, and what is kept of it.

use std::collections::HashSet;

use money::Timestamp;
use serde::{Deserialize, Serialize};

/// The most of an answer's body that is read and kept, in bytes.
pub const ANSWER_BYTES_MAX: usize = 512;
/// The most attempts of a delivery that are kept: the newest. The schedule has ten.
pub const ATTEMPTS_KEPT: usize = 50;
/// So many bytes of an answer that are the same as some of ours repeat them.
const ECHO_BYTES: usize = 16;

/// An attempt, as its delivery's log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 for the first of the delivery.
    pub number: u32,
    /// When it was begun.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// The beginning of the answer's body, as [`excerpt`] makes it; may be empty.
    pub answer: String,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// An answer with this HTTP status.
    Answered(u16),
    /// No answer.
    Failed(AttemptError),
}

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AttemptError {
    /// The URL is one that is not called any more: the operator has changed what is.
    #[error("the URL may not be called")]
    Url,
    /// The host's name has no address, or could not be resolved in time.
    #[error("the host's name could not be resolved")]
    Name,
    /// The host has an address that is not called.
    #[error("the host has an address that is not public")]
    Address,
    /// No connection.
    #[error("the host cannot be reached")]
    Connect,
    /// No TLS, or with somebody else.
    #[error("the host's certificate is not trusted, or TLS failed")]
    Tls,
    /// The connection broke off before an answer, or it was none.
    #[error("the answer could not be read")]
    Answer,
    /// Not in time.
    #[error("the answer did not come in time")]
    Time,
}

impl AttemptError {
    /// Every error.
    pub const ALL: [Self; 7] =
        [Self::Url, Self::Name, Self::Address, Self::Connect, Self::Tls, Self::Answer, Self::Time];

    /// The name in the contract and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Url => "URL",
            Self::Name => "NAME",
            Self::Address => "ADDRESS",
            Self::Connect => "CONNECT",
            Self::Tls => "TLS",
            Self::Answer => "ANSWER",
            Self::Time => "TIME",
        }
    }
}

/// What an attempt's outcome means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it: any 2xx.
    Delivered,
    /// The receiver wants no more, ever: 410.
    Gone,
    /// Anything else, redirects among it: to be tried again.
    Failed,
}

impl Outcome {
    /// What this means (Standard Webhooks 1.0.0, "Delivery").
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Answered(200..=299) => Verdict::Delivered,
            Self::Answered(410) => Verdict::Gone,
            Self::Answered(_) | Self::Failed(_) => Verdict::Failed,
        }
    }
}

/// The beginning of an answer's body as it is kept: at most 512 bytes of text without control characters. What repeats
/// 16 bytes or more of `ours`, such as the body that was sent or its signature, is left out: who may read the log need
/// not be allowed to read what was sent.
pub fn excerpt(answer: &[u8], ours: &[&[u8]]) -> String {
    let answer = answer.get(..ANSWER_BYTES_MAX).unwrap_or(answer);
    let mut kept = String::with_capacity(answer.len());
    let mut left_out = false;
    for (part, echo) in parts(answer, ours) {
        if echo {
            left_out = true;
            kept.push('…');
        } else {
            kept.extend(String::from_utf8_lossy(part).chars().map(|c| if unprintable(c) { ' ' } else { c }));
        }
    }
    if left_out { kept } else { kept.trim().to_owned() }
}

/// Control characters, and those that change the direction of text around them.
fn unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The answer in parts, with whether each repeats something of ours.
fn parts<'a>(answer: &'a [u8], ours: &[&[u8]]) -> Vec<(&'a [u8], bool)> {
    let mut echoed = vec![false; answer.len()];
    // The answer is bounded, and ours may be long.
    let said: HashSet<&[u8]> = answer.windows(ECHO_BYTES).collect();
    let both: HashSet<&[u8]> = ours
        .iter()
        .flat_map(|ours| ours.windows(ECHO_BYTES))
        .filter(|window| said.contains(window))
        .collect();
    for (at, window) in answer.windows(ECHO_BYTES).enumerate() {
        if both.contains(window) {
            echoed[at..at + ECHO_BYTES].fill(true);
        }
    }
    let mut parts = Vec::new();
    let mut rest = answer;
    for run in echoed.chunk_by(|one, next| one == next) {
        let (part, after) = rest.split_at(run.len());
        rest = after;
        parts.push((part, run.first().copied().unwrap_or_default()));
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_status_has_its_meaning() {
        for status in 100..1_000 {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                410 => Verdict::Gone,
                _ => Verdict::Failed,
            };
            assert_eq!(Outcome::Answered(status).verdict(), expected, "{status}");
        }
        for error in AttemptError::ALL {
            assert_eq!(Outcome::Failed(error).verdict(), Verdict::Failed);
            let json = serde_json::to_string(&error).unwrap();
            assert_eq!(json, format!("\"{}\"", error.name()), "kept under the name that is told");
        }
    }

    #[test]
    fn an_excerpt_is_text_without_control_characters() {
        assert_eq!(excerpt(b"", &[]), "");
        assert_eq!(excerpt(b" ok\r\n", &[]), "ok");
        assert_eq!(excerpt("a\x1b[31mb\0c\u{202e}d".as_bytes(), &[]), "a [31mb c d");
        assert_eq!(excerpt(b"\xff\xfeok", &[]), "\u{fffd}\u{fffd}ok");
        assert_eq!(excerpt(&[b'x'; 4_096], &[]).len(), 512);
    }

    #[test]
    fn what_repeats_ours_is_left_out() {
        let body = br#"{"type":"payment.captured","data":{"email":"payer@example.com"}}"#;
        let signature = b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let echo = [b"you sent ".as_slice(), body, b" signed ", signature].concat();
        assert_eq!(excerpt(&echo, &[body, signature]), "you sent … signed …");
        assert_eq!(excerpt(b"no: payer@example.com is unknown", &[body]), "no: … is unknown");
        assert_eq!(excerpt(b"payment.captured", &[body]), "…");
        assert_eq!(excerpt(b"captured, thanks", &[body]), "captured, thanks");
    }

    proptest! {
        #[test]
        fn any_answer_makes_a_bounded_excerpt_without_ours(
            answer in proptest::collection::vec(any::<u8>(), 0..700),
            ours in "[!-~]{16,100}",
            at in 0..700_usize,
        ) {
            let (before, after) = answer.split_at(at.min(answer.len()));
            let kept = excerpt(&[before, ours.as_bytes(), after].concat(), &[ours.as_bytes()]);
            prop_assert!(kept.chars().count() <= ANSWER_BYTES_MAX);
            prop_assert!(!kept.chars().any(char::is_control));
            for window in ours.as_bytes().windows(ECHO_BYTES) {
                prop_assert!(kept.as_bytes().windows(ECHO_BYTES).all(|kept| kept != window), "{kept}");
            }
        }
    }
}
