//! What a root of trust wrapped, in the form in which it is kept: beside the wrapped key stand the root's name and
//! the version of its own key, so that it is known whom to ask, and what is still to be wrapped anew when the
//! root is replaced.
//!
//! A root that is a file wraps into an [`envelope`], whose key id is the root's. Everything else is:
//!
//! | bytes | field   | content                                                             |
//! |------:|---------|---------------------------------------------------------------------|
//! |     4 | magic   | `PMR1`                                                              |
//! |     1 | length  | of the name                                                         |
//! |     n | name    | of the root, such as `transit:transit/paymesh`                      |
//! |     1 | length  | of the version                                                      |
//! |     v | version | of the root's key, in the root's own words; empty where it has none |
//! |  rest | body    | what the root made of the key                                       |
//!
//! Name and version say whom to ask, and are not authenticated: the body is, by the root, with the key's place as
//! its context. Whoever changes them makes a key that does not open.

use std::fmt;

use ring::digest;
use uuid::{Builder, Uuid};

use super::{
    canonical,
    envelope::{self, KeyRef},
    prefix::{PREFIX_BYTES, Prefix, Suite},
};

const MAGIC: &[u8; 4] = b"PMR1";
const NAME_LABEL: &[u8] = b"paymesh root name 1";
/// What the name of a root that is 32 bytes in memory begins with; its id follows.
const FILE_PREFIX: &str = "file:";
/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 200;
/// The longest version, in bytes: Azure Key Vault's two of 32, and a dot.
pub const VERSION_BYTES_MAX: usize = 65;
/// The longest body, in bytes: no root makes more of 32 bytes.
const BODY_BYTES_MAX: usize = 4_096;

/// The name of a root of trust: what it is, and which key there. Says nothing of the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RootName(String);

/// A text is no name of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {NAME_BYTES_MAX} visible ASCII characters")]
pub struct RootNameError;

impl RootName {
    /// Judges a name.
    pub fn parse(text: &str) -> Result<Self, RootNameError> {
        let legal =
            (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if legal { Ok(Self(text.to_owned())) } else { Err(RootNameError) }
    }

    /// The name of a root that is 32 bytes in memory, by the id that is derived from them.
    pub fn of_file(id: Uuid) -> Self {
        Self(format!("{FILE_PREFIX}{id}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of a root that is 32 bytes in memory.
    fn file_id(&self) -> Option<Uuid> {
        self.0.strip_prefix(FILE_PREFIX).and_then(|id| Uuid::try_parse(id).ok())
    }

    /// What a store keeps of it: a file's own id, else the first 16 bytes of the name's SHA-256.
    pub fn id(&self) -> Uuid {
        self.file_id().unwrap_or_else(|| {
            let hash = digest::digest(&digest::SHA256, &canonical::encode(&[NAME_LABEL, self.0.as_bytes()]));
            let mut bytes = [0; 16];
            bytes.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
            Builder::from_custom_bytes(bytes).into_uuid()
        })
    }
}

impl fmt::Display for RootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which root wrapped a key, and with which version of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// The root.
    pub root: RootName,
    /// The version of its key, in its own words; empty where there are none.
    pub version: String,
}

impl Stamp {
    /// `None` for what cannot be kept as a version.
    pub fn new(root: RootName, version: &str) -> Option<Self> {
        let legal = version.len() <= VERSION_BYTES_MAX && version.bytes().all(|byte| byte.is_ascii_graphic());
        legal.then(|| Self { root, version: version.to_owned() })
    }
}

/// The root's name, and where there is one, the version after a `#`.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.version {
            "" => write!(f, "{}", self.root),
            version => write!(f, "{}#{version}", self.root),
        }
    }
}

/// What everything begins with that this root wrapped, in the form in which it is kept, and nothing else that
/// [`read`] reads.
pub fn begin(root: &RootName) -> Vec<u8> {
    match root.file_id() {
        Some(id) => {
            let prefix = Prefix { suite: Suite::Message, key: KeyRef { id, version: 1 } };
            prefix.bytes()[..PREFIX_BYTES - size_of::<u32>()].to_vec()
        }
        None => [MAGIC, &[length_of(root.as_str())][..], root.as_str().as_bytes()].concat(),
    }
}

/// Puts what a root made of a key into the form in which it is kept.
pub fn encode(stamp: &Stamp, body: &[u8]) -> Vec<u8> {
    let (name, version) = (stamp.root.as_str(), &*stamp.version);
    let mut bytes = Vec::with_capacity(MAGIC.len() + 2 + name.len() + version.len() + body.len());
    bytes.extend_from_slice(MAGIC);
    for text in [name, version] {
        bytes.push(length_of(text));
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.extend_from_slice(body);
    bytes
}

/// Reads who wrapped this, and what it made; `None` if it is nothing that a root wrapped. The body of an envelope
/// is the whole envelope.
pub fn read(wrapped: &[u8]) -> Option<(Stamp, &[u8])> {
    let Some(rest) = wrapped.strip_prefix(MAGIC) else {
        let key = envelope::key_of(wrapped)?;
        let stamp = Stamp { root: RootName::of_file(key.id), version: key.version.to_string() };
        return Some((stamp, wrapped));
    };
    let (name, rest) = text(rest)?;
    let (version, body) = text(rest)?;
    if body.is_empty() || body.len() > BODY_BYTES_MAX {
        return None;
    }
    Some((Stamp::new(RootName::parse(name).ok()?, version)?, body))
}

/// Of a name or a version: both are shorter than 256 bytes.
fn length_of(text: &str) -> u8 {
    u8::try_from(text.len()).unwrap_or(u8::MAX)
}

/// A text after its length, and what follows.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{
        envelope::{Salt, SealingKey},
        secret::KeyBytes,
    };

    fn stamp(name: &str, version: &str) -> Stamp {
        Stamp::new(RootName::parse(name).unwrap(), version).unwrap()
    }

    #[test]
    fn what_is_kept_reads_back() {
        for (name, version) in [("transit:transit/paymesh", "7"), ("pkcs11:t/k", ""), (&"n".repeat(200), "v")]
        {
            let kept = encode(&stamp(name, version), b"body");
            assert_eq!(read(&kept), Some((stamp(name, version), &b"body"[..])));
        }
        let example = encode(&stamp("a:b", "3"), &[0xff]);
        assert_eq!(example, b"PMR1\x03a:b\x013\xff");
    }

    #[test]
    fn an_envelope_is_of_the_file_whose_id_it_names() {
        let id = Uuid::from_u128(7);
        let key = SealingKey::new(KeyRef { id, version: 1 }, &KeyBytes::take(&mut [1; 32]));
        let envelope = key.seal(Salt::new([2; 32]), b"c", &[3; 32]).unwrap();
        let (stamp, body) = read(&envelope).unwrap();
        assert_eq!((stamp.root.id(), &*stamp.version, body), (id, "1", &*envelope));
        assert_eq!(stamp.to_string(), format!("file:{id}#1"));
    }

    #[test]
    fn what_a_root_wrapped_is_known_by_its_beginning() {
        let [a, b] = [7, 8].map(|id| RootName::of_file(Uuid::from_u128(id)));
        let of_file = |id| {
            let key = SealingKey::new(KeyRef { id, version: 1 }, &KeyBytes::take(&mut [1; 32]));
            key.seal(Salt::new([2; 32]), b"c", &[3; 32]).unwrap()
        };
        let wrapped = [
            (a.clone(), of_file(a.id())),
            (b.clone(), of_file(b.id())),
            (RootName::parse("a:b").unwrap(), encode(&stamp("a:b", "3"), b"x")),
            (RootName::parse("a:bc").unwrap(), encode(&stamp("a:bc", "3"), b"x")),
        ];
        for (name, _) in &wrapped {
            for (by, bytes) in &wrapped {
                assert_eq!(read(bytes).unwrap().0.root, *by);
                assert_eq!(bytes.starts_with(&begin(name)), name == by, "{name} {by}");
            }
        }
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_none() {
        let kept = encode(&stamp("transit:a", "1"), b"x");
        for length in 0..kept.len() {
            assert_eq!(read(&kept[..length]), None, "{length}");
        }
        assert_eq!(read(&encode(&stamp("a", ""), &[0; BODY_BYTES_MAX + 1])), None);
        assert_eq!(read(b"PMR1\x00\x00x"), None, "a root has a name");
        assert_eq!(read(b"PMR1\x02a b\x00x"), None);
        for wrong in ["", "a b", "ä", &"x".repeat(201)] {
            assert_eq!(RootName::parse(wrong), Err(RootNameError), "{wrong:?}");
        }
        assert_eq!(Stamp::new(RootName::parse("a").unwrap(), &"1".repeat(66)), None);
    }

    #[test]
    fn names_have_ids_of_their_own() {
        let id = |name: &str| RootName::parse(name).unwrap().id();
        assert_eq!(id("transit:a/b"), id("transit:a/b"));
        assert_ne!(id("transit:a/b"), id("transit:a/c"));
        assert_eq!(RootName::of_file(Uuid::from_u128(9)).id(), Uuid::from_u128(9));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            magic in any::<bool>(),
        ) {
            let bytes = if magic { [&MAGIC[..], &bytes].concat() } else { bytes };
            if let Some((stamp, body)) = read(&bytes)
                && magic
            {
                prop_assert_eq!(encode(&stamp, body), bytes);
            }
        }
    }
}
