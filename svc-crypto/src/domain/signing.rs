//! Signatures: Ed25519 (RFC 8032) and ECDSA over P-256 with SHA-256 (FIPS 186-5), by ring.
//!
//! Private keys are kept as PKCS#8 (RFC 5958), public ones are given out as `SubjectPublicKeyInfo`.
//! A generator of random numbers is handed in where ring draws as many as it needs: to make a key, and
//! for the nonce of each ECDSA signature.
//!
//! # What is signed
//! Without a context, the message as it is, so that anybody can check it. With one:
//! ```text
//! canonical("paymesh signature 1", context, message)         (each part after its length in 64 bits)
//! ```
//! A key has one public key, so unlike tags the two cannot be told apart by a subkey. Therefore a message
//! that itself begins as that encoding does is not signed without a context, and no signature of one
//! verifies: who may only sign bare messages cannot make a signature for a context.

use ring::rand::SecureRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED,
    ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey,
    VerificationAlgorithm,
};
use zeroize::Zeroizing;

use super::{
    canonical,
    secret::SecretBytes,
    spki::{self, Curve},
};

const LABEL: &[u8] = b"paymesh signature 1";

/// How signatures are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Ed25519, deterministic.
    Ed25519,
    /// ECDSA over P-256 with SHA-256.
    EcdsaP256Sha256,
}

impl Scheme {
    fn curve(self) -> Curve {
        match self {
            Self::Ed25519 => Curve::Ed25519,
            Self::EcdsaP256Sha256 => Curve::P256,
        }
    }
}

/// How a signature is written. Ed25519 has one form, 64 bytes, whichever is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// ECDSA-Sig-Value in ASN.1 DER (RFC 3279), 8 to 72 bytes: X.509, TLS, OpenSSL, Java.
    Der,
    /// r ‖ s, 64 bytes (IEEE P1363): JOSE, WebCrypto.
    P1363,
}

/// Why there is no key or no signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The private key cannot be used.
    #[error(
        "must be an unencrypted PKCS#8 private key of the key's algorithm; one of P-256 must contain its public key"
    )]
    PrivateKey,
    /// The public key cannot be used.
    #[error("must be a SubjectPublicKeyInfo of Ed25519 or of P-256 with an uncompressed point")]
    PublicKey,
    /// The message would pass for one that is signed in a context.
    #[error("must not begin as messages do that are signed with a context")]
    Reserved,
    /// No random numbers.
    #[error("the operating system gives no random numbers")]
    Randomness,
}

/// One version of a key that signs. Cannot be printed.
pub struct SigningKey(Inner);

enum Inner {
    Ed25519(Box<Ed25519KeyPair>),
    // ring fixes the encoding with the key.
    P256 { der: Box<EcdsaKeyPair>, p1363: Box<EcdsaKeyPair> },
}

impl SigningKey {
    /// Makes a private key, as PKCS#8.
    pub fn make(scheme: Scheme, random: &dyn SecureRandom) -> Result<SecretBytes, SigningError> {
        match scheme {
            Scheme::Ed25519 => {
                let mut seed = Zeroizing::new([0; 32]);
                random.fill(seed.as_mut()).map_err(|ring::error::Unspecified| SigningError::Randomness)?;
                Ok(ed25519_pkcs8(&seed))
            }
            Scheme::EcdsaP256Sha256 => {
                let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, random);
                let document = document.map_err(|ring::error::Unspecified| SigningError::Randomness)?;
                Ok(SecretBytes::new(document.as_ref().to_vec()))
            }
        }
    }

    /// Reads a private key that [`Self::make`] or another system made. Of P-256, ring needs the public
    /// key in it, and checks that the two belong together; OpenSSL and Go write it, Java does not.
    pub fn from_pkcs8(
        scheme: Scheme,
        pkcs8: &SecretBytes,
        random: &dyn SecureRandom,
    ) -> Result<Self, SigningError> {
        let pkcs8 = pkcs8.expose();
        let refused = |_| SigningError::PrivateKey;
        Ok(Self(match scheme {
            Scheme::Ed25519 => {
                Inner::Ed25519(Box::new(Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(refused)?))
            }
            Scheme::EcdsaP256Sha256 => {
                let load =
                    |form| EcdsaKeyPair::from_pkcs8(form, pkcs8, random).map(Box::new).map_err(refused);
                Inner::P256 {
                    der: load(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
                    p1363: load(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
                }
            }
        }))
    }

    /// The other half.
    pub fn public_key(&self) -> PublicKey {
        let (scheme, key) = match &self.0 {
            Inner::Ed25519(pair) => (Scheme::Ed25519, pair.public_key().as_ref().to_vec()),
            Inner::P256 { der, .. } => (Scheme::EcdsaP256Sha256, der.public_key().as_ref().to_vec()),
        };
        PublicKey { scheme, key }
    }

    /// Signs a message in a context, which is empty if there is none.
    pub fn sign(
        &self,
        encoding: Encoding,
        context: &[u8],
        message: &[u8],
        random: &dyn SecureRandom,
    ) -> Result<Vec<u8>, SigningError> {
        let signed = Signed::new(context, message).ok_or(SigningError::Reserved)?;
        let signature = match (&self.0, encoding) {
            (Inner::Ed25519(pair), _) => Ok(pair.sign(signed.bytes())),
            (Inner::P256 { der, .. }, Encoding::Der) => der.sign(random, signed.bytes()),
            (Inner::P256 { p1363, .. }, Encoding::P1363) => p1363.sign(random, signed.bytes()),
        };
        let signature = signature.map_err(|ring::error::Unspecified| SigningError::Randomness)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// What anybody may have of a key that signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    scheme: Scheme,
    key: Vec<u8>,
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo`.
    pub fn from_spki(der: &[u8]) -> Result<Self, SigningError> {
        let (curve, key) = spki::decode(der).ok_or(SigningError::PublicKey)?;
        let scheme = match curve {
            Curve::Ed25519 => Scheme::Ed25519,
            Curve::P256 => Scheme::EcdsaP256Sha256,
        };
        Ok(Self { scheme, key: key.to_vec() })
    }

    /// The `SubjectPublicKeyInfo`.
    pub fn to_spki(&self) -> Vec<u8> {
        spki::encode(self.scheme.curve(), &self.key)
    }

    /// How its signatures are made.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether this is a signature of that message in that context.
    pub fn verify(&self, encoding: Encoding, context: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let how: &dyn VerificationAlgorithm = match (self.scheme, encoding) {
            (Scheme::Ed25519, _) => &ED25519,
            (Scheme::EcdsaP256Sha256, Encoding::Der) => &ECDSA_P256_SHA256_ASN1,
            (Scheme::EcdsaP256Sha256, Encoding::P1363) => &ECDSA_P256_SHA256_FIXED,
        };
        let Some(signed) = Signed::new(context, message) else { return false };
        UnparsedPublicKey::new(how, &self.key).verify(signed.bytes(), signature).is_ok()
    }
}

/// The bytes that are signed for a message in a context.
enum Signed<'a> {
    Bare(&'a [u8]),
    Bound(Vec<u8>),
}

impl<'a> Signed<'a> {
    /// `None` if it would pass for another one.
    fn new(context: &[u8], message: &'a [u8]) -> Option<Self> {
        if !context.is_empty() {
            return Some(Self::Bound(canonical::encode(&[LABEL, context, message])));
        }
        (!message.starts_with(&canonical::encode(&[LABEL]))).then_some(Self::Bare(message))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bare(message) => message,
            Self::Bound(encoded) => encoded,
        }
    }
}

/// RFC 8410, section 7: `OneAsymmetricKey` of version 1, without the public key.
fn ed25519_pkcs8(seed: &[u8; 32]) -> SecretBytes {
    const PREFIX: &[u8] =
        &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    SecretBytes::new([PREFIX, seed].concat())
}

#[cfg(test)]
mod tests;
