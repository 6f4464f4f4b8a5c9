//! The hierarchy of keys: which key wraps which, what each may be used for, and which version of a key
//! seals and opens.
//!
//! ```text
//! root of trust ─ wraps ─┬─▶ a tenant's key-encryption key ─ wraps ─▶ the tenant's keys, each in versions
//!                        └─▶ the key of the audit log's chain
//! ```
//! What the root wraps is told apart by [`super::rooted`]; all else is as follows.
//! A wrapped key is an [envelope] sealed by its parent, bound to the place it belongs
//! to: a wrapped key that is moved to another tenant, purpose, name or version does not open.

use std::{collections::BTreeMap, fmt, sync::Arc};

use money::TenantId;
use ring::hmac;
use uuid::Uuid;

use super::{
    canonical,
    envelope::{self, EnvelopeError, KeyRef, Salt, SealingKey},
    secret::{KeyBytes, SecretBytes},
};

const WRAP_LABEL: &[u8] = b"paymesh wrapped key 1";
const ROOT_ID_LABEL: &[u8] = b"paymesh root key id 1";

/// What a key is for. Part of its identity: no request can make a key serve another purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Wraps the tenant's other keys.
    TenantKek,
    /// Encrypts for callers of CryptoService, as the further ones that a name goes with do their work.
    Data,
    /// Encrypts deterministically.
    Deterministic,
    /// Makes tags and blind indexes.
    Mac,
    /// Signs with Ed25519.
    SignEd25519,
    /// Signs with ECDSA on P-256.
    SignEcdsaP256,
    /// Encrypts digits into digits.
    FormatPreserving,
    /// Seals cards in the vault.
    Card,
    /// Finds the token of a card that is already in the vault.
    CardIndex,
    /// Makes the fingerprint of a card that callers see. Not the index's key: who sees fingerprints
    /// cannot look them up in the index.
    CardFingerprint,
    /// Compares requests that come again under one idempotency key.
    RequestFingerprint,
    /// Makes the hashes of the audit log's chain. The service's own, of no tenant.
    AuditChain,
    /// Unwraps the one key of an import.
    Import,
}

impl Purpose {
    /// Every purpose there is.
    pub const ALL: [Self; 13] = [
        Self::TenantKek,
        Self::Data,
        Self::Deterministic,
        Self::Mac,
        Self::SignEd25519,
        Self::SignEcdsaP256,
        Self::FormatPreserving,
        Self::Card,
        Self::CardIndex,
        Self::CardFingerprint,
        Self::RequestFingerprint,
        Self::AuditChain,
        Self::Import,
    ];

    /// Those of keys that the root of trust wraps.
    pub const UNDER_ROOT: [Self; 2] = [Self::TenantKek, Self::AuditChain];

    /// The number that stands for it in a store and in a wrapped key's context. Never reused.
    pub fn code(self) -> u8 {
        match self {
            Self::TenantKek => 1,
            Self::Data => 2,
            Self::Card => 3,
            Self::CardIndex => 4,
            Self::CardFingerprint => 5,
            Self::RequestFingerprint => 6,
            Self::Deterministic => 7,
            Self::Mac => 8,
            Self::SignEd25519 => 9,
            Self::SignEcdsaP256 => 10,
            Self::FormatPreserving => 11,
            Self::AuditChain => 12,
            Self::Import => 13,
        }
    }

    /// The purpose that a store's number stands for.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| i64::from(purpose.code()) == code)
    }
}

/// The name that a tenant gives to a key. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(Arc<str>);

/// Why a key's name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 characters of a-z, 0-9, '-', '_' and '.'")]
pub struct KeyNameError;

impl KeyName {
    /// Judges a name.
    pub fn parse(text: &str) -> Result<Self, KeyNameError> {
        let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        if (1..=64).contains(&text.len()) && text.bytes().all(legal) {
            Ok(Self(text.into()))
        } else {
            Err(KeyNameError)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a key belongs: everything that identifies it but its version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Whose key it is; `None`: the service's own.
    pub tenant: Option<TenantId>,
    /// What it is for.
    pub purpose: Purpose,
    /// `None` for keys that the service makes by itself, of which a tenant has one per purpose.
    name: Option<KeyName>,
}

impl Slot {
    /// A key that callers name.
    pub fn named(tenant: TenantId, purpose: Purpose, name: KeyName) -> Self {
        Self { tenant: Some(tenant), purpose, name: Some(name) }
    }

    /// The service's own key for this purpose of a tenant.
    pub fn own(tenant: TenantId, purpose: Purpose) -> Self {
        Self { tenant: Some(tenant), purpose, name: None }
    }

    /// The service's own key for this purpose, of no tenant.
    pub fn of_service(purpose: Purpose) -> Self {
        Self { tenant: None, purpose, name: None }
    }

    /// Whose key it is, as it is kept: the tenant, or empty, which no tenant's name is.
    pub fn owner(&self) -> &str {
        self.tenant.as_ref().map_or("", TenantId::as_str)
    }

    /// The name, empty for the service's own keys.
    pub fn name(&self) -> &str {
        self.name.as_ref().map_or("", KeyName::as_str)
    }

    /// Everything that a wrapped key is bound to.
    pub fn context(&self, reference: KeyRef) -> Vec<u8> {
        canonical::encode(&[
            WRAP_LABEL,
            self.owner().as_bytes(),
            &[self.purpose.code()],
            self.name().as_bytes(),
            reference.id.as_bytes(),
            &reference.version.to_be_bytes(),
        ])
    }
}

/// One version of a key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Its id and version.
    pub reference: KeyRef,
    /// The envelope.
    pub wrapped: Vec<u8>,
}

/// Wraps a key for its place, with the parent's newest version.
pub fn wrap(
    parent: &Ring,
    slot: &Slot,
    reference: KeyRef,
    key: &[u8],
    salt: Salt,
) -> Result<WrappedKey, EnvelopeError> {
    let wrapped = parent.seal(salt, &slot.context(reference), key)?.1;
    Ok(WrappedKey { reference, wrapped })
}

/// Unwraps a key. Fails if it was wrapped by another parent or for another place.
pub fn unwrap(parent: &Ring, slot: &Slot, key: &WrappedKey) -> Result<SecretBytes, EnvelopeError> {
    Ok(parent.open(&key.wrapped, &slot.context(key.reference))?.1)
}

/// The same for a key of 256 bits.
pub fn unwrap_symmetric(parent: &Ring, slot: &Slot, key: &WrappedKey) -> Result<KeyBytes, EnvelopeError> {
    KeyBytes::from_slice(unwrap(parent, slot, key)?.expose()).ok_or(EnvelopeError)
}

/// The root of the hierarchy where it is 32 bytes in memory, from a file or from shares. Its id is derived from
/// them, so that a store can tell whether it is given the root it was made under.
pub fn root(bytes: &KeyBytes) -> Root {
    let key = hmac::Key::new(hmac::HMAC_SHA256, bytes.expose());
    let tag = hmac::sign(&key, ROOT_ID_LABEL);
    let mut id = [0; 16];
    id.copy_from_slice(&tag.as_ref()[..16]);
    let id = Uuid::from_bytes(id);
    Root { id, ring: Ring::new([SealingKey::new(KeyRef { id, version: 1 }, bytes)]) }
}

/// The top of the hierarchy, held in memory. Cannot be printed.
pub struct Root {
    /// Derived from the key; says nothing of it.
    pub id: Uuid,
    /// What wraps tenants' keys.
    pub ring: Ring,
}

/// All versions of one key, expanded. The newest seals; any opens what it sealed. Cannot be printed.
#[derive(Clone)]
pub struct Ring {
    versions: BTreeMap<u32, SealingKey>,
}

impl Ring {
    /// Puts versions together.
    pub fn new(versions: impl IntoIterator<Item = SealingKey>) -> Self {
        Self { versions: versions.into_iter().map(|key| (key.reference().version, key)).collect() }
    }

    /// Seals with the newest version, and says which that is. Fails if there is none.
    pub fn seal(
        &self,
        salt: Salt,
        context: &[u8],
        plaintext: &[u8],
    ) -> Result<(u32, Vec<u8>), EnvelopeError> {
        let (version, key) = self.versions.last_key_value().ok_or(EnvelopeError)?;
        Ok((*version, key.seal(salt, context, plaintext)?))
    }

    /// Opens an envelope with the version that it names.
    pub fn open(&self, envelope: &[u8], context: &[u8]) -> Result<(u32, SecretBytes), EnvelopeError> {
        let reference = envelope::key_of(envelope).ok_or(EnvelopeError)?;
        let key = self.versions.get(&reference.version).ok_or(EnvelopeError)?;
        Ok((reference.version, key.open(envelope, context)?))
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.versions.keys()).finish()
    }
}

/// A key that makes tags (HMAC-SHA-256). Cannot be printed.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

/// How long a tag is.
pub const MAC_BYTES: usize = 32;

impl MacKey {
    /// Expands the key.
    pub fn new(key: &KeyBytes) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// The tag of a list of parts, of which the first says what is tagged.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&canonical::length_of(part));
            context.update(part);
        }
        let mut tag = [0; MAC_BYTES];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(byte: u8) -> KeyBytes {
        KeyBytes::take(&mut [byte; 32])
    }

    fn version(version: u32, byte: u8) -> SealingKey {
        SealingKey::new(KeyRef { id: Uuid::from_u128(5), version }, &bytes(byte))
    }

    fn salt(byte: u8) -> Salt {
        Salt::new([byte; 32])
    }

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[test]
    fn a_wrapped_key_opens_only_in_its_place() {
        let parent = root(&bytes(1)).ring;
        let slot = Slot::named(tenant("acme"), Purpose::Data, KeyName::parse("orders").unwrap());
        let reference = KeyRef { id: Uuid::from_u128(5), version: 2 };
        let wrapped = wrap(&parent, &slot, reference, &[7; 32], salt(3)).unwrap();
        assert_eq!(unwrap(&parent, &slot, &wrapped).unwrap().expose(), &[7; 32]);

        for elsewhere in [
            Slot::named(tenant("other"), Purpose::Data, KeyName::parse("orders").unwrap()),
            Slot::named(tenant("acme"), Purpose::Data, KeyName::parse("order").unwrap()),
            Slot::own(tenant("acme"), Purpose::Data),
            Slot { purpose: Purpose::Card, ..slot.clone() },
        ] {
            assert!(unwrap(&parent, &elsewhere, &wrapped).is_err(), "{elsewhere:?}");
        }
        let newer = WrappedKey { reference: KeyRef { version: 3, ..reference }, ..wrapped.clone() };
        assert!(unwrap(&parent, &slot, &newer).is_err());
        assert!(unwrap(&root(&bytes(2)).ring, &slot, &wrapped).is_err());
    }

    #[test]
    fn the_newest_version_seals_and_every_version_opens() {
        let old = version(1, 1).seal(salt(1), b"c", b"old").unwrap();
        let ring = Ring::new([version(2, 2), version(1, 1)]);
        assert_eq!(ring.seal(salt(2), b"c", b"new").unwrap().0, 2);
        assert_eq!(ring.open(&old, b"c").unwrap(), (1, SecretBytes::new(b"old".to_vec())));
        let unknown = version(3, 3).seal(salt(1), b"c", b"new").unwrap();
        assert_eq!(ring.open(&unknown, b"c"), Err(EnvelopeError));
        assert_eq!(ring.open(b"", b"c"), Err(EnvelopeError));
        assert!(Ring::new([]).seal(salt(1), b"c", b"").is_err());
    }

    #[test]
    fn a_root_is_known_by_its_id_and_the_id_says_nothing_of_it() {
        assert_eq!(root(&bytes(1)).id, root(&bytes(1)).id);
        assert_ne!(root(&bytes(1)).id, root(&bytes(2)).id);
        assert_ne!(root(&bytes(1)).id.as_bytes(), &[1; 16]);
    }

    #[test]
    fn tags_tell_keys_and_boundaries_apart() {
        let (a, b) = (MacKey::new(&bytes(1)), MacKey::new(&bytes(2)));
        assert_eq!(a.tag(&[b"x", b"y"]), a.tag(&[b"x", b"y"]));
        assert_ne!(a.tag(&[b"x", b"y"]), b.tag(&[b"x", b"y"]));
        assert_ne!(a.tag(&[b"x", b"y"]), a.tag(&[b"xy"]));
        assert_ne!(a.tag(&[b"x", b"y"]), a.tag(&[b"x", b"y", b""]));
    }

    #[test]
    fn codes_read_back_and_names_are_plain() {
        for purpose in Purpose::ALL {
            assert_eq!(Purpose::from_code(purpose.code().into()), Some(purpose));
        }
        assert_eq!(Purpose::from_code(0), None);
        assert!(KeyName::parse("webhook.secret-1_a").is_ok());
        for wrong in ["", "A", "a/b", "a b", &"x".repeat(65)] {
            assert_eq!(KeyName::parse(wrong), Err(KeyNameError), "{wrong:?}");
        }
    }
}
