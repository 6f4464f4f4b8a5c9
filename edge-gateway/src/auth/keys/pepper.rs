//! The key under which API keys are hashed: who has the key file alone can neither use a key nor guess at
//! one.

use std::{fmt, fs, path::Path};

use ring::{
    digest::SHA256_OUTPUT_LEN,
    error::Unspecified,
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use super::hex;

/// The shortest pepper, in bytes: the strength of HMAC-SHA-256 needs no more (RFC 2104, section 3).
const BYTES_MIN: usize = 32;
const BYTES_MAX: usize = 4096;

/// What each use begins with, so that no hash of one use is one of another.
const KEY_USE: &[u8] = b"paymesh api key v1\0";
const SIGNING_USE: &[u8] = b"paymesh request signature v1\0";

/// A keyed hash of an API key.
pub(crate) type KeyHash = [u8; SHA256_OUTPUT_LEN];

/// The key of the hashes. Not shown in `Debug`.
#[derive(Clone)]
pub struct Pepper(hmac::Key);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}

impl Pepper {
    /// Reads a pepper: the file's bytes without the white space around them.
    pub fn load(path: &Path) -> Result<Self, String> {
        let read = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let bytes = Zeroizing::new(read);
        let bytes = bytes.trim_ascii();
        if !(BYTES_MIN..=BYTES_MAX).contains(&bytes.len()) {
            return Err(format!("{}: a pepper must have {BYTES_MIN} to {BYTES_MAX} bytes", path.display()));
        }
        Ok(Self::new(bytes))
    }

    /// A pepper of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The text of a fresh pepper, for a file: 256 random bits in hexadecimal.
    pub fn fresh() -> Result<Zeroizing<String>, Unspecified> {
        let mut random = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(random.as_mut())?;
        Ok(Zeroizing::new(hex::encode(random.as_ref())))
    }

    /// What is kept of an API key.
    pub(crate) fn hash(&self, key: &str) -> KeyHash {
        self.tag(KEY_USE, key.as_bytes())
    }

    /// The secret that requests made with the key of this hash are signed with by HMAC. It is derived and
    /// not kept, and unlike the key itself it never travels with a request.
    pub(crate) fn signing_secret(&self, hash: &KeyHash) -> Zeroizing<KeyHash> {
        Zeroizing::new(self.tag(SIGNING_USE, hash))
    }

    fn tag(&self, usage: &[u8], bytes: &[u8]) -> KeyHash {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(usage);
        context.update(bytes);
        let tag = context.sign();
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(tag.as_ref());
        hash
    }
}

/// Constant time: every byte is looked at whatever the others were.
pub(crate) fn same(left: &KeyHash, right: &KeyHash) -> bool {
    let difference = left.iter().zip(right).fold(0_u8, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    difference == 0
}
