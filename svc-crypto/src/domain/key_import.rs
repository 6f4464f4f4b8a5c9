//! Bringing a key in from outside without showing it to anybody on the way: here a key pair is made for
//! one import, the owner wraps the key for its public half, and the private half is used once and gone.
//!
//! # RSA-OAEP with AES-KWP
//! As `CKM_RSA_AES_KEY_WRAP` of PKCS#11 and most key services have it:
//! ```text
//! 512 bytes  RSAES-OAEP (RFC 8017; SHA-256, MGF1 with SHA-256, empty label) of an AES-256 key
//! the rest   AES-KWP (RFC 5649) of the key material under that key
//! ```
//! The import's public key is RSA with 4096 bits, as `SubjectPublicKeyInfo`.
//!
//! RSA is by the crate `rsa`, as ring does not decrypt with it. RUSTSEC-2023-0071 is open against every
//! release of that crate: how long decryptions take may tell an observer of many of them something
//! about the private key, or about the padding (Marvin, Manger). Here that is not to be had. A private
//! key is made for one import, and [`RsaImport::unwrap`] *takes* it: it decrypts once, blinded, whatever comes
//! out, and there is nothing left to ask again. Where replicas share a store, the key waits there, sealed, for
//! whoever takes it out, which one can, once; a store that went back to before that could give it once more, within
//! the quarter of an hour in which it is good, and those attacks take thousands. Should any of that ever change, this
//! crate may no longer be used.
//!
//! The private key is wiped; what the crate computes with on the way is not all.
//!
//! # ECDH with AES-KWP
//! ```text
//! 65 bytes   E, the owner's fresh P-256 public key, an uncompressed point
//! the rest   AES-KWP of the key material under K
//! K          = HKDF-SHA-256(salt = "paymesh import ecdh 1", IKM = Z, info = I ‖ E, 32)
//! Z          = the x coordinate of ECDH (NIST SP 800-56A, 5.7.1.2) of I and E; I: the import's point
//! ```
//! The import's public key is P-256, as `SubjectPublicKeyInfo`.

use chacha20::{ChaCha20Rng, rand_core::SeedableRng as _};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::SecureRandom;
use rsa::{
    Oaep, RsaPrivateKey,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _},
    sha2::Sha256,
};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    derive::Prk,
    key_wrap,
    secret::{KEY_BYTES, KeyBytes, SecretBytes},
    spki::{self, Curve},
};

const RSA_BITS: usize = 4096;
const RSA_BYTES: usize = RSA_BITS / 8;
const POINT_BYTES: usize = 65;
const ECDH_SALT: &[u8] = b"paymesh import ecdh 1";

/// The key was not brought in. Deliberately says no more of what was wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// What came does not unwrap.
    #[error("the wrapped key does not unwrap with this import's key")]
    Wrapped,
    /// No key pair could be made.
    #[error("no key pair for the import could be made")]
    KeyPair,
}

/// The random number that an import's RSA key is made of. Cannot be copied: it is used once.
pub struct ImportSeed(Zeroizing<[u8; KEY_BYTES]>);

impl ImportSeed {
    /// Takes over fresh random bytes, and wipes where they came from. They must come from a cryptographic
    /// generator.
    pub fn take(random: &mut [u8; KEY_BYTES]) -> Self {
        let seed = Self(Zeroizing::new(*random));
        random.zeroize();
        seed
    }
}

/// An import by RSA-OAEP and AES-KWP. Cannot be printed.
pub struct RsaImport {
    private: RsaPrivateKey,
    /// What is left of the seed's randomness blinds the decryption.
    random: ChaCha20Rng,
}

impl RsaImport {
    /// Makes the key pair. Takes seconds of processor time: not to be called where others wait.
    pub fn new(seed: ImportSeed) -> Result<Self, ImportError> {
        let ImportSeed(seed) = seed;
        let mut random = ChaCha20Rng::from_seed(*seed);
        let private = RsaPrivateKey::new(&mut random, RSA_BITS).map_err(|_| ImportError::KeyPair)?;
        Ok(Self { private, random })
    }

    /// The private half, to be sealed and kept until its one use: PKCS#8 in DER.
    pub fn into_secret(self) -> Result<SecretBytes, ImportError> {
        let der = self.private.to_pkcs8_der().map_err(|_| ImportError::KeyPair)?;
        Ok(SecretBytes::new(der.as_bytes().to_vec()))
    }

    /// Of what was kept. The decryption is blinded with `seed`.
    pub fn from_secret(secret: &SecretBytes, seed: ImportSeed) -> Result<Self, ImportError> {
        let private = RsaPrivateKey::from_pkcs8_der(secret.expose()).map_err(|_| ImportError::KeyPair)?;
        let ImportSeed(seed) = seed;
        Ok(Self { private, random: ChaCha20Rng::from_seed(*seed) })
    }

    /// The public half, `SubjectPublicKeyInfo` in DER.
    pub fn public_key(&self) -> Result<Vec<u8>, ImportError> {
        let der = self.private.to_public_key().to_public_key_der().map_err(|_| ImportError::KeyPair)?;
        Ok(der.as_bytes().to_vec())
    }

    /// Unwraps the one key of this import. The private half is gone afterwards, whatever comes of it.
    pub fn unwrap(self, wrapped: &[u8]) -> Result<SecretBytes, ImportError> {
        let Self { private, mut random } = self;
        let (wrapping_key, material) = wrapped.split_at_checked(RSA_BYTES).ok_or(ImportError::Wrapped)?;
        let opened = private
            .decrypt_blinded(&mut random, Oaep::<Sha256>::new(), wrapping_key)
            .map_err(|_| ImportError::Wrapped)?;
        let opened = SecretBytes::new(opened);
        let wrapping_key = KeyBytes::from_slice(opened.expose()).ok_or(ImportError::Wrapped)?;
        key_wrap::unwrap(&wrapping_key, material).map_err(|key_wrap::WrapError| ImportError::Wrapped)
    }
}

/// An import by ECDH and AES-KWP. Cannot be printed.
pub struct EcdhImport {
    private: EphemeralPrivateKey,
    point: Vec<u8>,
}

impl EcdhImport {
    /// Makes the key pair.
    pub fn new(random: &dyn SecureRandom) -> Result<Self, ImportError> {
        let private = EphemeralPrivateKey::generate(&ECDH_P256, random);
        let private = private.map_err(|ring::error::Unspecified| ImportError::KeyPair)?;
        let point = private.compute_public_key().map_err(|ring::error::Unspecified| ImportError::KeyPair)?;
        Ok(Self { private, point: point.as_ref().to_vec() })
    }

    /// The public half, `SubjectPublicKeyInfo` in DER.
    pub fn public_key(&self) -> Vec<u8> {
        spki::encode(Curve::P256, &self.point)
    }

    /// Unwraps the one key of this import. The private half is gone afterwards, whatever comes of it.
    pub fn unwrap(self, wrapped: &[u8]) -> Result<SecretBytes, ImportError> {
        let Self { private, point } = self;
        let (theirs, material) = wrapped.split_at_checked(POINT_BYTES).ok_or(ImportError::Wrapped)?;
        // Checks that the point is on the curve.
        agree_ephemeral(private, &UnparsedPublicKey::new(&ECDH_P256, theirs), |shared| {
            let mut key = Prk::extract(&[ECDH_SALT], shared).expand(&[&point, theirs]);
            key_wrap::unwrap(&KeyBytes::take(&mut key), material)
        })
        .map_err(|ring::error::Unspecified| ImportError::Wrapped)?
        .map_err(|key_wrap::WrapError| ImportError::Wrapped)
    }
}

#[cfg(test)]
mod tests;
