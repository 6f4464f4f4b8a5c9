//! What is left, said in the answer: `RateLimit-Policy` and `RateLimit` of
//! draft-ietf-httpapi-ratelimit-headers-11, which are lists of structured fields (RFC 9651).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::gcra::{Quota, Verdict};

pub(crate) const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(crate) const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What a request was counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Where it came from.
    Address,
    /// For whom.
    Tenant,
    /// With which credential.
    Credential,
}

impl Kind {
    /// The policy's name: a String of visible ASCII characters.
    const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Tenant => "tenant",
            Self::Credential => "credential",
        }
    }
}

/// What the limits said of one request.
#[derive(Debug, Clone, Default)]
pub struct Report {
    lines: [Option<(Kind, Quota, Verdict)>; 3],
}

impl Report {
    /// Notes what one bucket said.
    pub fn add(&mut self, kind: Kind, quota: Quota, verdict: Verdict) {
        self.lines[kind as usize] = Some((kind, quota, verdict));
    }

    /// Writes both fields, where there is a limit at all.
    ///
    /// `q` and `w` are the bucket's size and the seconds until an empty one is full; `r` is what is left,
    /// and `t` the seconds until there is one more, which is also what Retry-After says.
    pub fn write(&self, headers: &mut HeaderMap) {
        let (mut policy, mut limit) = (Vec::new(), Vec::new());
        for (kind, quota, verdict) in self.lines.iter().flatten() {
            let name = kind.name();
            item(&mut policy, name, [(b'q', quota.requests()), (b'w', quota.window_s())]);
            let wait_s = u64::from(seconds(verdict.wait_ns));
            item(&mut limit, name, [(b'r', verdict.remaining), (b't', wait_s)]);
        }
        if policy.is_empty() {
            return;
        }
        for (name, value) in [(RATELIMIT_POLICY, policy), (RATELIMIT, limit)] {
            if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
                headers.insert(name, value);
            }
        }
    }
}

/// One more item of a list: a String with two Integers as parameters. Written by hand, as every answer has
/// up to six of them.
fn item(list: &mut Vec<u8>, name: &str, parameters: [(u8, u64); 2]) {
    if list.is_empty() {
        list.reserve(112);
    } else {
        list.extend_from_slice(b", ");
    }
    list.push(b'"');
    list.extend_from_slice(name.as_bytes());
    list.push(b'"');
    for (key, value) in parameters {
        list.extend_from_slice(&[b';', key, b'=']);
        integer(list, value);
    }
}

fn integer(text: &mut Vec<u8>, value: u64) {
    // u64::MAX has 20 digits.
    let (mut digits, mut at, mut rest) = ([0; 20], 20, value);
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

/// Rounded up, so that who waits as long is not refused again.
pub(crate) fn seconds(wait_ns: u64) -> u32 {
    u32::try_from(wait_ns.div_ceil(1_000_000_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn integers_are_written_in_decimal() {
        for value in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let mut text = Vec::new();
            integer(&mut text, value);
            assert_eq!(String::from_utf8(text).unwrap(), value.to_string());
        }
    }

    #[test]
    fn the_fields_are_lists_of_named_items_with_parameters() {
        let quota = |requests, window_s| {
            Quota::new(NonZeroU32::new(requests).unwrap(), NonZeroU32::new(window_s).unwrap())
        };
        let mut report = Report::default();
        let mut headers = HeaderMap::new();
        report.write(&mut headers);
        assert!(headers.is_empty(), "no limit, no field");
        report.add(Kind::Credential, quota(10, 5), quota(10, 5).refused(6_200_000_000));
        report.add(Kind::Tenant, quota(100, 60), quota(100, 60).left(600_000_000));
        report.write(&mut headers);
        assert_eq!(headers["ratelimit-policy"], r#""tenant";q=100;w=60, "credential";q=10;w=5"#);
        assert_eq!(headers["ratelimit"], r#""tenant";r=99;t=1, "credential";r=0;t=2"#);
    }
}
