//! What the service decides: cards, tokens, keys, and every form in which something is sealed, tagged
//! or signed. Pure: the time, ids and randomness come in as arguments. Knows neither the wire nor the
//! store.

pub mod algorithm;
pub mod audit;
pub mod card;
pub mod deterministic;
pub mod digits;
pub mod format_preserving;
pub mod grant;
pub mod key;
pub mod key_import;
pub mod key_wrap;
pub mod keys;
pub mod large;
pub mod mac;
pub mod quota;
pub mod rooted;
pub mod shares;
pub mod signing;
pub mod spki;
pub mod token;
pub mod verification;

pub use crypto_envelope::{canonical, derive, envelope, prefix, secret};
