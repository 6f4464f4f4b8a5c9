//! The public keys of an issuer (RFC 7517, RFC 7518, RFC 8037) and the algorithms that each may be used with.
//! Pure.
//!
//! The key decides the algorithm, not the token: a token can only choose among those of its key's kind, so a
//! public key is never taken for an HMAC secret, and `none` is no algorithm (RFC 8725, sections 3.1 and 3.2).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;

use super::TokenError;

/// More keys than this are not looked at.
const KEYS_MAX: usize = 100;

/// What a signature may be made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// By its name in the header of a token or in a key.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            // RFC 8037 and RFC 9864: the latter names the curve.
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 | Self::EdDsa => return None,
        })
    }
}

/// One public key.
#[derive(Debug)]
pub(crate) struct Key {
    kid: Option<String>,
    /// Where the issuer says that the key is for one algorithm only.
    only: Option<Algorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of an issuer.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a JWK set. Keys that are not for signatures, or not of a kind that is known, are left out, as
    /// section 5 demands; `None` where the text is no set.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        let raw: RawSet = serde_json::from_slice(json).ok()?;
        let keys = raw.keys.into_iter().take(KEYS_MAX);
        Some(Self(keys.filter_map(|key| Key::read(serde_json::from_value(key).ok()?)).collect()))
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The key of a token. Without a `kid` there must be only one key that it could be.
    pub(crate) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, TokenError> {
        let mut named = self.0.iter().filter(|key| kid.is_none() || key.kid.as_deref() == kid).peekable();
        if named.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        let mut fitting = named.filter(|key| key.allows(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(TokenError::Algorithm),
            (Some(_), Some(_)) => Err(TokenError::UnknownKey),
        }
    }
}

impl Key {
    fn read(raw: RawKey) -> Option<Self> {
        let signs = raw.usage.as_deref().is_none_or(|usage| usage == "sig")
            && raw.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        // A key for an algorithm that is not known here is for none.
        let only = match raw.alg.as_deref() {
            Some(name) => Some(Algorithm::from_name(name)?),
            None => None,
        };
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let of = |length: usize| move |bytes: &Vec<u8>| bytes.len() == length;
        let point = |length: usize| {
            let (x, y) = (bytes(&raw.x).filter(of(length))?, bytes(&raw.y).filter(of(length))?);
            Some([&[4][..], &x, &y].concat())
        };
        let material = match (raw.kty.as_str(), raw.crv.as_deref()) {
            ("RSA", _) => Material::Rsa { n: bytes(&raw.n)?, e: bytes(&raw.e)? },
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(&raw.x).filter(of(32))?),
            _ => return None,
        };
        let key = Self { kid: raw.kid, only, material };
        (signs && only.is_none_or(|only| key.fits(only))).then_some(key)
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        match &self.material {
            Material::Rsa { .. } => algorithm.rsa().is_some(),
            Material::P256(_) => algorithm == Algorithm::Es256,
            Material::P384(_) => algorithm == Algorithm::Es384,
            Material::Ed25519(_) => algorithm == Algorithm::EdDsa,
        }
    }

    fn allows(&self, algorithm: Algorithm) -> bool {
        self.only.map_or_else(|| self.fits(algorithm), |only| only == algorithm)
    }

    /// Whether this is the message's signature by this algorithm.
    pub(crate) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.allows(algorithm) {
            return false;
        }
        let verified =
            match (&self.material, algorithm.rsa()) {
                (Material::Rsa { n, e }, Some(parameters)) => {
                    RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
                }
                (Material::Rsa { .. }, None) => return false,
                (Material::P256(key), _) => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key)
                    .verify(message, signature),
                (Material::P384(key), _) => UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, key)
                    .verify(message, signature),
                (Material::Ed25519(key), _) => {
                    UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature)
                }
            };
        verified.is_ok()
    }
}
