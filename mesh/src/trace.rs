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

    /// The header's content, in ASCII. Every call has one, and `format!` takes several times as long.
    #[allow(clippy::cast_possible_truncation)] // the low half of the id is what is wanted
    pub fn header(&self) -> [u8; 55] {
        let mut text = *b"00-................................-................-00";
        put_hex(&mut text[3..19], (self.trace_id >> 64) as u64);
        put_hex(&mut text[19..35], self.trace_id as u64);
        put_hex(&mut text[36..52], self.span_id);
        put_hex(&mut text[53..], self.sampled.into());
        text
    }

    /// Reads a header; `None` for anything that the specification calls invalid.
    pub fn parse(header: &str) -> Option<Self> {
        // All is at its place, so that nothing is searched for.
        let (text, more) = header.as_bytes().split_first_chunk::<55>()?;
        let version = lower_hex(&text[..2])?;
        // A higher version may have more parts; version 00 may not, and ff is forbidden.
        let is_known = match more {
            [] => version != 0xff,
            [b'-', ..] => !matches!(version, 0 | 0xff),
            _ => false,
        };
        if !is_known || [text[2], text[35], text[52]] != *b"---" {
            return None;
        }
        let trace_id = u128::from(lower_hex(&text[3..19])?) << 64 | u128::from(lower_hex(&text[19..35])?);
        let (span_id, flags) = (lower_hex(&text[36..52])?, lower_hex(&text[53..])?);
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

/// Up to 16 digits of lower case. The library's parser takes upper case and signs, and several times as long.
fn lower_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value: u64, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

/// Writes the lowest digits of a number, in lower case.
fn put_hex(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 0xf) as usize];
        value >>= 4;
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.header()).map_err(|_| fmt::Error)?)
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
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c8031é-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_place_is_looked_at() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for place in 0..header.len() {
            for wrong in ["g", "/", ":", "`", "A", "-", " ", "\0", "\u{80}"] {
                let header = [&header[..place], wrong, &header[place + 1..]].concat();
                let is_right = wrong == "-" && [2, 35, 52].contains(&place);
                assert_eq!(TraceContext::parse(&header).is_some(), is_right, "{header:?}");
            }
            assert_eq!(TraceContext::parse(&header[..place]), None);
        }
        for (header, sampled) in [
            ("fe-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fe", false),
            ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-", true),
        ] {
            assert_eq!(TraceContext::parse(header).unwrap().sampled, sampled, "{header}");
        }
    }

    #[test]
    fn what_is_written_has_all_its_zeros() {
        for (trace_id, span_id, sampled, written) in [
            (1, 1, false, "00-00000000000000000000000000000001-0000000000000001-00"),
            (1 << 64, u64::MAX, true, "00-00000000000000010000000000000000-ffffffffffffffff-01"),
            (
                u128::MAX,
                0x0123_4567_89ab_cdef,
                true,
                "00-ffffffffffffffffffffffffffffffff-0123456789abcdef-01",
            ),
        ] {
            let trace = TraceContext { trace_id, span_id, sampled };
            assert_eq!((trace.to_string(), TraceContext::parse(written)), (written.to_owned(), Some(trace)));
            assert_eq!(trace.header(), written.as_bytes());
        }
    }
}
