//! What can be wrong with a request before any service sees it, in words that are safe to send.
//!
//! Nothing here ever holds a value from the request: a card number may stand anywhere in a body.
//! Names of unknown fields are shown only where they look like names.

use std::borrow::Cow;

/// More violations than this are not listed: the answer stays small whatever the body.
pub(crate) const VIOLATIONS_MAX: usize = 16;

/// One field and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, such as `lines[2].amount`; `body` for the whole.
    pub field: String,
    /// What would be right.
    pub detail: Cow<'static, str>,
}

/// Why a request cannot be turned into the message that the RPC takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The body is not JSON.
    #[error("the body is not valid JSON: see line {line}, column {column}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// JSON is UTF-8 (RFC 8259, section 8.1).
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// A body came where the operation has none.
    #[error("this operation takes no body")]
    BodyNotTaken,
    /// The JSON is not the message.
    #[error("{} field(s) not valid", .0.len())]
    Violations(Vec<Violation>),
}

/// A name from the request in a form that may be answered with: a short identifier with fewer
/// digits than any card number has, or a stand-in.
pub(crate) fn safe_name(name: &str) -> &str {
    const DIGITS_MAX: usize = 7;
    const LENGTH_MAX: usize = 64;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    if (1..=LENGTH_MAX).contains(&name.len()) && name.bytes().all(legal) && digits <= DIGITS_MAX {
        name
    } else {
        "(name withheld)"
    }
}

/// The known name that an unknown one most likely stands for.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 64 {
        return None;
    }
    let folded = fold(name);
    known
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance * 2 < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Case and separators do not count.
fn fold(name: &str) -> Vec<u8> {
    name.bytes().filter(|byte| !matches!(byte, b'_' | b'-')).map(|byte| byte.to_ascii_lowercase()).collect()
}

/// Levenshtein's edit distance.
fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_named() {
        let known = ["amount", "currency", "payment_method", "id"];
        let guess = |name| did_you_mean(name, known.iter().copied());
        assert_eq!(guess("amonut"), Some("amount"));
        assert_eq!(guess("Payment-Method"), Some("payment_method"));
        assert_eq!(guess("currancy"), Some("currency"));
        assert_eq!(guess("colour"), None);
        assert_eq!(guess("x"), None);
    }

    #[test]
    fn a_name_that_could_be_a_card_is_withheld() {
        assert_eq!(safe_name("line1"), "line1");
        for name in ["4242424242424242", "card_4242-4242-4242-4242", "", "a b", "<script>", &"x".repeat(65)] {
            assert_eq!(safe_name(name), "(name withheld)");
        }
    }
}
