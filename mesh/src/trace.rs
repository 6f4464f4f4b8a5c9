//! W3C trace context: which trace a request belongs to. <https://www.w3.org/TR/trace-context/>

use std::fmt;

use uuid::Uuid;

/// The content of a `traceparent` header of version 00.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Never 0.
    pub trace_id: u128,
    /// The caller's span. Never 0.
    pub span_id: u64,
    /// Whether the caller records the trace.
    pub sampled: bool,
}

impl TraceContext {
    /// The name of the header.
    pub const HEADER: &'static str = "traceparent";

    /// A new trace, with `fresh` as the source of its ids.
    pub fn start(fresh: Uuid, sampled: bool) -> Self {
        let (high, low) = fresh.as_u64_pair();
        Self { trace_id: fresh.as_u128().max(1), span_id: (high ^ low.rotate_left(17)).max(1), sampled }
    }

    /// Reads a header; `None` for anything that the specification calls invalid.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lengths = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
        // A higher version may have more parts; version 00 may not, and ff is forbidden.
        let known = version != "ff" && (version != "00" || parts.next().is_none());
        if !lengths || !known {
            return None;
        }
        lower_hex(version)?;
        let (high, low) = trace.split_at_checked(16)?;
        let trace_id = u128::from(lower_hex(high)?) << 64 | u128::from(lower_hex(low)?);
        let (span_id, flags) = (lower_hex(span)?, lower_hex(flags)?);
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

/// Up to 16 digits of lower case. The library's parser takes upper case and signs, and several times as long.
fn lower_hex(digits: &str) -> Option<u64> {
    digits.bytes().try_fold(0, |value: u64, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_headers_read_back_and_invalid_ones_are_none() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(TraceContext::parse(header).unwrap().to_string(), header);
        assert!(TraceContext::parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x").is_some());
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }
}
