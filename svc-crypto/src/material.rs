//! What a version of a key is made of: fresh random bytes, or what a caller brought.

use mesh::Fault;

use crate::{
    domain::{
        algorithm::Algorithm,
        secret::{KEY_BYTES, KeyBytes, SecretBytes},
        signing::{Scheme, SigningKey},
    },
    random::{Random, RandomError},
};

/// The secret of one version, and what is public of it. Cannot be printed.
pub struct Material {
    /// 32 bytes of a symmetric key, or the PKCS#8 of a signing key.
    pub secret: SecretBytes,
    /// Of a signing key: SubjectPublicKeyInfo in DER. Else empty.
    pub public_key: Vec<u8>,
    /// Whether a caller brought it.
    pub imported: bool,
}

/// How a signing key works; `None` for what signs nothing.
pub fn signing(algorithm: Algorithm) -> Option<Scheme> {
    match algorithm {
        Algorithm::Ed25519 => Some(Scheme::Ed25519),
        Algorithm::EcdsaP256Sha256 => Some(Scheme::EcdsaP256Sha256),
        Algorithm::Aes256Gcm | Algorithm::Aes256Siv | Algorithm::HmacSha256 | Algorithm::Ff1Aes256 => None,
    }
}

/// A fresh one.
pub fn fresh(algorithm: Algorithm, random: &Random) -> Result<Material, RandomError> {
    let Some(signs) = signing(algorithm) else {
        let secret = SecretBytes::new(random.key()?.expose().to_vec());
        return Ok(Material { secret, public_key: Vec::new(), imported: false });
    };
    let secret = SigningKey::make(signs, random.generator()).map_err(|_| RandomError)?;
    let key = SigningKey::from_pkcs8(signs, &secret, random.generator()).map_err(|_| RandomError)?;
    Ok(Material { secret, public_key: key.public_key().to_spki(), imported: false })
}

/// What a caller brought, unwrapped.
///
/// # Errors
/// What must be given instead, of the field `wrapped`.
pub fn brought(algorithm: Algorithm, secret: SecretBytes, random: &Random) -> Result<Material, Fault> {
    let Some(signs) = signing(algorithm) else {
        return match KeyBytes::from_slice(secret.expose()) {
            Some(_) => Ok(Material { secret, public_key: Vec::new(), imported: true }),
            None => Err(Fault::invalid("wrapped", format!("must hold exactly {KEY_BYTES} bytes"))),
        };
    };
    let key = SigningKey::from_pkcs8(signs, &secret, random.generator())
        .map_err(|error| Fault::invalid("wrapped", error.to_string()))?;
    Ok(Material { public_key: key.public_key().to_spki(), secret, imported: true })
}
