//! What a signature is checked with: an HMAC secret or a public key, and the one algorithm that goes with it.

use ring::{hmac, signature};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use crate::auth::keys::SignatureRecord;

/// An algorithm of RFC 9421, section 3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignatureAlgorithm {
    /// Both sides hold the same secret.
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// Ed25519 (RFC 8032).
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ECDSA on P-256, the signature as r and s.
    #[serde(rename = "ecdsa-p256-sha256")]
    EcdsaP256Sha256,
}

impl SignatureAlgorithm {
    /// Its name in the registry of RFC 9421.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
        }
    }

    /// What a public key of this algorithm begins with in DER (RFC 8410; RFC 5480), and its length after
    /// that.
    fn public_key_form(self) -> Option<(&'static [u8], usize)> {
        match self {
            Self::HmacSha256 => None,
            Self::Ed25519 => Some((b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", 32)),
            Self::EcdsaP256Sha256 => Some((
                b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\
                  \x03\x42\x00",
                65,
            )),
        }
    }
}

/// A key that requests are checked with. Not shown in `Debug`.
pub struct VerifyingKey {
    algorithm: SignatureAlgorithm,
    material: Material,
}

enum Material {
    Hmac(hmac::Key),
    Public(Vec<u8>),
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyingKey({})", self.algorithm.as_str())
    }
}

impl VerifyingKey {
    /// The key of a record; `secret` is what HMAC is keyed with.
    ///
    /// # Errors
    /// What the record has to say.
    pub fn new(record: &SignatureRecord, secret: &[u8; 32]) -> Result<Self, &'static str> {
        let algorithm = record.algorithm;
        let material = match (algorithm.public_key_form(), &record.public_key) {
            (None, None) => Material::Hmac(hmac::Key::new(hmac::HMAC_SHA256, secret)),
            (None, Some(_)) => return Err("hmac-sha256 takes no public_key: its secret is derived"),
            (Some(_), None) => return Err("its signature algorithm needs a public_key"),
            (Some((prefix, length)), Some(pem)) => {
                let what = "its public_key must be PEM (BEGIN PUBLIC KEY) of the algorithm that it names";
                let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| what)?;
                let key = der.as_ref().strip_prefix(prefix).ok_or(what)?;
                if key.len() != length {
                    return Err(what);
                }
                Material::Public(key.to_vec())
            }
        };
        Ok(Self { algorithm, material })
    }

    /// Whether a record makes a key.
    pub(crate) fn check(record: &SignatureRecord) -> Result<(), &'static str> {
        Self::new(record, &[0; 32]).map(|_| ())
    }

    pub(crate) fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// Whether this is the message's signature.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let public = |algorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match (&self.material, self.algorithm) {
            (Material::Hmac(key), _) => hmac::verify(key, message, signature).is_ok(),
            (Material::Public(key), SignatureAlgorithm::EcdsaP256Sha256) => {
                public(&signature::ECDSA_P256_SHA256_FIXED, key)
            }
            (Material::Public(key), _) => public(&signature::ED25519, key),
        }
    }
}
