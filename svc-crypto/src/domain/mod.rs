//! What the service decides: cards, tokens, keys and the envelope. Pure: the time, ids and randomness
//! come in as arguments. Knows neither the wire nor the store.

pub mod algorithm;
pub mod canonical;
pub mod card;
pub mod envelope;
pub mod grant;
pub mod key;
pub mod keys;
pub mod secret;
pub mod token;
