//! What is left, said in the answer: `RateLimit-Policy` and `RateLimit` of
//! draft-ietf-httpapi-ratelimit-headers-11, which are lists of structured fields (RFC 9651).

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::gcra::{Quota, Verdict};

pub(crate) const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(crate) const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What a request was counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Address,
    Tenant,
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
pub(crate) struct Report {
    lines: [Option<(Kind, Quota, Verdict)>; 3],
}

impl Report {
    pub(crate) fn add(&mut self, kind: Kind, quota: Quota, verdict: Verdict) {
        self.lines[kind as usize] = Some((kind, quota, verdict));
    }

    /// Writes both fields, where there is a limit at all.
    ///
    /// `q` and `w` are the bucket's size and the seconds until an empty one is full; `r` is what is left,
    /// and `t` the seconds until there is one more, which is also what Retry-After says.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let (mut policy, mut limit) = (String::new(), String::new());
        for (kind, quota, verdict) in self.lines.iter().flatten() {
            let separator = if policy.is_empty() { "" } else { ", " };
            let (name, q, w) = (kind.name(), quota.requests(), quota.window_s());
            // Writing to a String does not fail.
            let _ = write!(policy, "{separator}\"{name}\";q={q};w={w}");
            let (r, t) = (verdict.remaining, seconds(verdict.wait_ns));
            let _ = write!(limit, "{separator}\"{name}\";r={r};t={t}");
        }
        if policy.is_empty() {
            return;
        }
        for (name, value) in [(RATELIMIT_POLICY, policy), (RATELIMIT, limit)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
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
