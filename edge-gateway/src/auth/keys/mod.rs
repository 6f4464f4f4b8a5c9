//! API keys: their text, the file that they are kept in, and the ring that requests are checked against.
//!
//! A key is shown once, when it is made. What is kept is its HMAC-SHA-256 under a pepper, which lies in a file
//! of its own: neither file alone is worth anything.

pub(crate) mod file;
pub(crate) mod hex;
pub(crate) mod pepper;
pub(crate) mod ring;
pub(crate) mod text;
pub(crate) mod time;

pub use file::{FreshKey, KeyFile, KeyFileError, KeyRecord, KeyState, NewKey, SignatureRecord};
pub use pepper::Pepper;
pub use text::KeyId;
pub use time::{Time, TimeError};
