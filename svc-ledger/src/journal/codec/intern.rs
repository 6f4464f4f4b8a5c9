//! Texts that come again and again, kept once: replaying many records allocates for none that is known.

use std::str::FromStr;

/// How many of a kind are kept. A text whose place another takes is made anew; nothing grows.
const PLACES: usize = 256;

/// Parsed texts of one kind, each at the place that its bytes say.
#[derive(Debug)]
pub(super) struct Interner<T> {
    places: Box<[Option<T>]>,
    as_str: fn(&T) -> &str,
}

impl<T: FromStr + Clone> Interner<T> {
    pub(super) fn new(as_str: fn(&T) -> &str) -> Self {
        Self { places: (0..PLACES).map(|_| None).collect(), as_str }
    }

    /// The parsed text; `None` where it is not a legal one.
    pub(super) fn get(&mut self, bytes: &[u8]) -> Option<T> {
        let place = &mut self.places[place(bytes)];
        if let Some(kept) = place.as_ref().filter(|kept| (self.as_str)(kept).as_bytes() == bytes) {
            return Some(kept.clone());
        }
        let parsed: T = std::str::from_utf8(bytes).ok()?.parse().ok()?;
        *place = Some(parsed.clone());
        Some(parsed)
    }
}

/// FNV-1a, folded.
fn place(bytes: &[u8]) -> usize {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Below PLACES, so that it fits.
    #[allow(clippy::cast_possible_truncation)]
    let place = (hash ^ (hash >> 32)) as usize % PLACES;
    place
}
