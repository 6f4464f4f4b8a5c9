//! The headers of an HTTP request as a map of texts, for RPCs that ask for them by an option.
//!
//! What belongs to the connection, to the edge or to the mesh stays here (RFC 9110, section 7.6.1), and
//! so do credentials: whoever asks for headers checks signatures, not keys. A value that is no UTF-8 is no
//! text and is left out: on the way, others add such as a place's name in Latin-1. Whoever needs one does
//! without, and a signature over it does not hold.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::wire;

/// More headers than this, or more bytes of them together, are refused: to leave some out could leave
/// out the one that matters.
const HEADERS_MAX: usize = 64;
const BYTES_MAX: usize = 16 * 1024;

const WITHHELD: [&str; 19] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "forwarded",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "baggage",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-api-key",
];
const WITHHELD_PREFIXES: [&str; 4] = ["grpc-", "l5d-", "paymesh-", "x-forwarded-"];

/// Appends the headers as the entries of the map with this number.
pub(crate) fn put(out: &mut Vec<u8>, number: u32, headers: &HeaderMap) -> Result<(), String> {
    let (mut entries, mut bytes) = (BTreeMap::<&str, String>::new(), 0);
    for (name, value) in headers {
        let name = name.as_str();
        let prefixed = WITHHELD_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if prefixed || WITHHELD.contains(&name) {
            continue;
        }
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else { continue };
        bytes += name.len() + value.len();
        let entry = entries.entry(name).or_default();
        // Several of one name are one list (RFC 9110, section 5.3).
        if !entry.is_empty() {
            entry.push_str(", ");
        }
        entry.push_str(value);
    }
    if entries.len() > HEADERS_MAX || bytes > BYTES_MAX {
        return Err(format!("must be at most {HEADERS_MAX} of together {BYTES_MAX} bytes"));
    }
    for (name, value) in entries {
        let entry = wire::open(out, number);
        wire::put_bytes(out, 1, name.as_bytes());
        wire::put_bytes(out, 2, value.as_bytes());
        wire::close(out, entry);
    }
    Ok(())
}
