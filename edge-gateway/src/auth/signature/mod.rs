//! Signed requests (RFC 9421): for API keys that demand them. Whoever overhears a request then has the key,
//! and still can neither change the request nor send one of his own.
//!
//! A signature has to cover the method, the target (`@target-uri`, or `@authority` and `@path` and, where there
//! is a query, `@query`), the `Content-Digest` (RFC 9530) where there is a body, and the `Idempotency-Key` where
//! there is one. It says when it was `created`, has a `nonce` that is taken once, and the key's id as `keyid`.

mod base;
mod digest;
mod key;
mod nonces;

use http::request::Parts;
use money::Timestamp;
use sfv::{Dictionary, InnerList, ListEntry, Parser};

pub(crate) use self::nonces::{NonceError, Nonces};
use self::{base::signature_base, digest::joined};
pub use self::{
    digest::BodyDigest,
    key::{SignatureAlgorithm, VerifyingKey},
};
use super::keys::KeyId;

/// The most components that a signature may cover.
const COMPONENTS_MAX: usize = 32;
const NONCE_LENGTH_MAX: usize = 128;
const NONCE_LENGTH_MIN: usize = 8;

/// Why a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureError {
    /// There is none for this key.
    Missing,
    /// The headers cannot be read.
    Malformed,
    /// Something that has to be covered is not, or a covered component cannot be had.
    Components,
    /// A parameter is missing or is not what it has to be.
    Parameters,
    /// Made too long ago, or in the future.
    Stale,
    /// It is not the request's.
    Wrong,
    /// The nonce was used before.
    Replayed,
    /// Too many signed requests are remembered.
    Busy,
    /// The body is not the one that was signed.
    Body,
}

impl SignatureError {
    /// What to say to the client.
    pub fn message(self) -> &'static str {
        match self {
            Self::Missing => {
                "This API key demands signed requests (RFC 9421): Signature-Input and Signature with the key's id as keyid."
            }
            Self::Malformed => "Signature-Input or Signature cannot be read (RFC 9421, section 4).",
            Self::Components => {
                "The signature must cover @method, @target-uri (or @authority, @path and @query), content-digest where there is a body, and idempotency-key where there is one; each without parameters."
            }
            Self::Parameters => {
                "The signature needs the parameters created, nonce (8 to 128 characters) and keyid; alg, where given, must be the key's."
            }
            Self::Stale => "The signature was created too long ago or in the future, or has expired.",
            Self::Wrong => "The signature is not this request's.",
            Self::Replayed => "The signature's nonce was used before.",
            Self::Busy => "Too many signed requests with this API key; try again later.",
            Self::Body => "The body does not match the Content-Digest that was signed.",
        }
    }
}

/// What a signed request's body has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedBody {
    /// Nothing was signed.
    Any,
    /// No digest was signed: then there is no body.
    Empty,
    /// It hashes to this.
    Digest(BodyDigest),
}

impl SignedBody {
    /// Whether this body is the one that was signed.
    pub fn check(&self, body: &[u8]) -> Result<(), SignatureError> {
        let right = match self {
            Self::Any => true,
            Self::Empty => body.is_empty(),
            Self::Digest(digest) => digest.matches(body),
        };
        if right { Ok(()) } else { Err(SignatureError::Body) }
    }
}

/// What is the same for all requests.
#[derive(Debug, Clone)]
pub struct SignatureRules {
    /// The scheme that clients see.
    pub scheme: &'static str,
    /// How far `created` may be from now, in seconds.
    pub tolerance_s: i64,
}

/// A signature that is right, but for its nonce, which is taken last.
#[derive(Debug, PartialEq, Eq)]
pub struct Signed {
    /// Is to be taken once.
    pub nonce: String,
    /// What the body has to be.
    pub body: SignedBody,
}

/// Checks the signature that a request carries for the key of this id. Its nonce is still to be taken.
///
/// # Errors
/// What is wrong with it.
pub fn verify(
    parts: &Parts,
    id: KeyId,
    key: &VerifyingKey,
    rules: &SignatureRules,
    now: Timestamp,
) -> Result<Signed, SignatureError> {
    let (covered, signature) = find(parts, id)?;
    let nonce = parameters(&covered, key, rules, now)?;
    let body = components(&covered, parts)?;
    let base = signature_base(&covered, parts, rules.scheme)
        .map_err(|_: base::BaseError| SignatureError::Components)?;
    if key.verify(base.as_bytes(), &signature) {
        Ok(Signed { nonce, body })
    } else {
        Err(SignatureError::Wrong)
    }
}

/// The one signature whose `keyid` is the key's. Others may be there: of proxies, for someone else.
fn find(parts: &Parts, id: KeyId) -> Result<(InnerList, Vec<u8>), SignatureError> {
    let dictionary = |name| -> Result<Dictionary, SignatureError> {
        let text = joined(&parts.headers, name).ok_or(SignatureError::Missing)?;
        Parser::new(&text).parse().map_err(|_| SignatureError::Malformed)
    };
    let (inputs, mut signatures) = (dictionary("signature-input")?, dictionary("signature")?);
    let mut ours = inputs.into_iter().filter_map(|(label, entry)| match entry {
        ListEntry::InnerList(list) if text_of(&list, "keyid") == Some(id.as_str()) => Some((label, list)),
        _ => None,
    });
    let (label, covered) = ours.next().ok_or(SignatureError::Missing)?;
    if ours.next().is_some() || covered.items.len() > COMPONENTS_MAX {
        return Err(SignatureError::Malformed);
    }
    match signatures.swap_remove(&label) {
        Some(ListEntry::Item(item)) => {
            let bytes = item.bare_item.as_byte_sequence().map(<[u8]>::to_vec);
            Ok((covered, bytes.ok_or(SignatureError::Malformed)?))
        }
        _ => Err(SignatureError::Malformed),
    }
}

fn text_of<'a>(list: &'a InnerList, name: &str) -> Option<&'a str> {
    list.params.get(name).and_then(|value| value.as_string()).map(sfv::StringRef::as_str)
}

/// The parameters of section 2.3. Answers with the nonce.
fn parameters(
    covered: &InnerList,
    key: &VerifyingKey,
    rules: &SignatureRules,
    now: Timestamp,
) -> Result<String, SignatureError> {
    let integer = |name: &str| covered.params.get(name).map(|value| value.as_integer().map(i64::from));
    if covered.params.contains_key("alg") && text_of(covered, "alg") != Some(key.algorithm().as_str()) {
        return Err(SignatureError::Parameters);
    }
    let nonce = text_of(covered, "nonce").ok_or(SignatureError::Parameters)?;
    if !(NONCE_LENGTH_MIN..=NONCE_LENGTH_MAX).contains(&nonce.len()) {
        return Err(SignatureError::Parameters);
    }
    let created = integer("created").flatten().ok_or(SignatureError::Parameters)?;
    if now.as_seconds().saturating_sub(created).saturating_abs() > rules.tolerance_s {
        return Err(SignatureError::Stale);
    }
    match integer("expires") {
        Some(None) => Err(SignatureError::Parameters),
        Some(Some(expires)) if expires <= now.as_seconds() => Err(SignatureError::Stale),
        None | Some(Some(_)) => Ok(nonce.to_owned()),
    }
}

/// Whether enough is covered. Answers with what the body has to be.
fn components(covered: &InnerList, parts: &Parts) -> Result<SignedBody, SignatureError> {
    let covers = |name: &str| {
        covered.items.iter().any(|item| item.bare_item.as_string().is_some_and(|own| own.as_str() == name))
    };
    let target = covers("@target-uri")
        || (covers("@authority") && covers("@path") && (covers("@query") || parts.uri.query().is_none()));
    let key = mesh::call::IDEMPOTENCY_KEY_HEADER;
    let idempotency_key = covers(key.as_str()) || !parts.headers.contains_key(&key);
    if !(covers("@method") && target && idempotency_key) {
        return Err(SignatureError::Components);
    }
    if !covers(digest::CONTENT_DIGEST) {
        return Ok(SignedBody::Empty);
    }
    BodyDigest::read(&parts.headers).map(SignedBody::Digest).ok_or(SignatureError::Malformed)
}

#[cfg(test)]
mod tests;
