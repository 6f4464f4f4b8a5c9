//! Standard Webhooks (<https://www.standardwebhooks.com>, specification 1.0.0): what is signed is
//! `id.timestamp.body`, with HMAC-SHA256 under a secret that both sides know. Signs what we send, and checks what
//! processors send us.
//!
//! Knows no processor, no endpoint and no clock.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use money::Timestamp;
use ring::hmac;
use zeroize::Zeroizing;

/// How far a webhook's time may be from ours, in seconds: an old message cannot be sent again.
const TOLERANCE_S: i64 = 5 * 60;
/// A message may be signed with several secrets while they are being changed; no more than this many
/// signatures are looked at.
const SIGNATURES_MAX: usize = 8;
/// The specification wants 24 to 64 bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How many bytes the secrets have that we make: as many as the hash has.
const MADE_BYTES: usize = 32;
const PREFIX: &str = "whsec_";

/// The header with the message's id, the same for every attempt to deliver it.
pub const ID: &str = "webhook-id";
/// The header with the time of the attempt, in seconds since the Unix epoch.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures, a space between them.
pub const SIGNATURE: &str = "webhook-signature";

/// Not signed, not with this secret, or not now: not said which, so that nobody can feel their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the webhook's signature is not valid")]
pub struct SignatureError;

/// A secret that webhooks are signed with. Cannot be printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(redacted)")
    }
}

impl WebhookSecret {
    /// Reads `whsec_` and base64; nothing where it is not that, or too short or long.
    pub fn parse(text: &str) -> Option<Self> {
        Self::of(BASE64_STANDARD.decode(text.trim().strip_prefix(PREFIX)?).ok()?)
    }

    /// Takes the bytes over; nothing where they are not 24 to 64.
    pub fn of(bytes: Vec<u8>) -> Option<Self> {
        let bytes = Zeroizing::new(bytes);
        SECRET_BYTES.contains(&bytes.len()).then_some(Self(bytes))
    }

    /// A new secret of 32 bytes; nothing where there is no randomness to be had.
    pub fn make(random: &dyn ring::rand::SecureRandom) -> Option<Self> {
        let mut bytes = Zeroizing::new(vec![0_u8; MADE_BYTES]);
        random.fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The bytes, to be sealed and for nothing else.
    pub fn expose_bytes(&self) -> &[u8] {
        &self.0
    }

    /// `whsec_` and base64: for whom it belongs to and for nothing else.
    pub fn expose_text(&self) -> Zeroizing<String> {
        // Never moved by growing, which would leave a copy.
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + self.0.len().div_ceil(3) * 4));
        text.push_str(PREFIX);
        BASE64_STANDARD.encode_string(&*self.0, &mut text);
        text
    }

    /// A value of `webhook-signature` for a message: for whoever sends one.
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        self.sign_message(&signed(id, timestamp, body))
    }

    fn sign_message(&self, message: &[u8]) -> String {
        let tag = hmac::sign(&self.key(), message);
        format!("v1,{}", BASE64_STANDARD.encode(tag.as_ref()))
    }

    /// Whether the message was signed with this secret, and not long ago. `headers` are by their lower-case names.
    /// Does not look into the body.
    pub fn verify(
        &self,
        headers: &BTreeMap<String, String>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        verify_any(std::slice::from_ref(self), headers, body, now)
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

/// The value of `webhook-signature` for a message that is signed with each of these secrets.
pub fn sign_with_all<'a>(
    secrets: impl IntoIterator<Item = &'a WebhookSecret>,
    id: &str,
    timestamp: &str,
    body: &[u8],
) -> String {
    let message = signed(id, timestamp, body);
    let signatures: Vec<_> = secrets.into_iter().map(|secret| secret.sign_message(&message)).collect();
    signatures.join(" ")
}

/// As [`WebhookSecret::verify`], where any of these secrets will do: while one is replaced by another.
pub fn verify_any(
    secrets: &[WebhookSecret],
    headers: &BTreeMap<String, String>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), SignatureError> {
    let header = |name: &str| headers.get(name).map(String::as_str).ok_or(SignatureError);
    let (id, timestamp) = (header(ID)?, header(TIMESTAMP)?);
    let signatures = header(SIGNATURE)?;
    // First what costs nothing: a body that is sent again and again is not hashed each time.
    let sent: i64 = timestamp.parse().map_err(|_| SignatureError)?;
    if sent.abs_diff(now.as_seconds()) > TOLERANCE_S.unsigned_abs() {
        return Err(SignatureError);
    }
    let message = signed(id, timestamp, body);
    let tags: Vec<_> = signatures
        .split(' ')
        .take(SIGNATURES_MAX)
        .filter_map(|signature| BASE64_STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .collect();
    let keys: Vec<_> = secrets.iter().map(WebhookSecret::key).collect();
    let valid = keys.iter().any(|key| tags.iter().any(|tag| hmac::verify(key, &message, tag).is_ok()));
    if valid { Ok(()) } else { Err(SignatureError) }
}

fn signed(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(id.len() + timestamp.len() + 2 + body.len());
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        message.extend_from_slice(part);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const MESSAGE: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: &str = "1614265330";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn headers(changes: &[(&str, Option<&str>)]) -> BTreeMap<String, String> {
        let mut headers: BTreeMap<String, String> = [(ID, MESSAGE), (TIMESTAMP, TIME), (SIGNATURE, SIGNED)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        for (name, value) in changes {
            match value {
                Some(value) => headers.insert((*name).to_owned(), (*value).to_owned()),
                None => headers.remove(*name),
            };
        }
        headers
    }

    fn check(changes: &[(&str, Option<&str>)], body: &[u8], second: i64) -> Result<(), SignatureError> {
        let now = Timestamp::from_seconds(second);
        WebhookSecret::parse(SECRET).unwrap().verify(&headers(changes), body, now)
    }

    #[test]
    fn the_specifications_example_is_valid_within_five_minutes() {
        assert_eq!(WebhookSecret::parse(SECRET).unwrap().sign(MESSAGE, TIME, BODY), SIGNED);
        for second in [-300, 0, 300] {
            assert_eq!(check(&[], BODY, 1_614_265_330 + second), Ok(()), "{second}");
        }
        for second in [-301, 301, -1_000_000_000] {
            assert_eq!(check(&[], BODY, 1_614_265_330 + second), Err(SignatureError), "{second}");
        }
    }

    #[test]
    fn one_right_signature_among_several_is_enough() {
        let several = format!("v1a,AAAA v1,AAAA v2,{} {SIGNED}", &SIGNED[3..]);
        assert_eq!(check(&[(SIGNATURE, Some(&several))], BODY, 1_614_265_330), Ok(()));
        let late = format!("{}{SIGNED}", "v1,AAAA ".repeat(SIGNATURES_MAX));
        let late = check(&[(SIGNATURE, Some(&late))], BODY, 1_614_265_330);
        assert_eq!(late, Err(SignatureError), "only so many are looked at");
    }

    #[test]
    fn whatever_is_wrong_the_refusal_is_the_same() {
        let unsigned = SIGNED.strip_prefix("v1,");
        let cases: &[&[(&str, Option<&str>)]] = &[
            &[(ID, None)],
            &[(TIMESTAMP, None)],
            &[(SIGNATURE, None)],
            &[(ID, Some("msg_other"))],
            &[(TIMESTAMP, Some("1614265331"))],
            &[(TIMESTAMP, Some(" 1614265330"))],
            &[(TIMESTAMP, Some("99999999999999999999"))],
            &[(SIGNATURE, Some(""))],
            &[(SIGNATURE, unsigned)],
            &[(SIGNATURE, Some("v1,"))],
            &[(SIGNATURE, Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1O0="))],
        ];
        for changes in cases {
            assert_eq!(check(changes, BODY, 1_614_265_330), Err(SignatureError), "{changes:?}");
        }
        for body in [&b""[..], br#"{"test":2432232314}"#, br#"{"test": 2432232314} "#] {
            assert_eq!(check(&[], body, 1_614_265_330), Err(SignatureError));
        }
    }

    #[test]
    fn a_message_signed_with_two_secrets_is_valid_under_each() {
        let [old, new, other] = [1_u8, 2, 3].map(|byte| WebhookSecret::of(vec![byte; 24]).unwrap());
        let both = sign_with_all([&new, &old], MESSAGE, TIME, BODY);
        let [first, second] = [&new, &old].map(|secret| secret.sign(MESSAGE, TIME, BODY));
        assert_eq!(both, format!("{first} {second}"));
        let (headers, now) = (headers(&[(SIGNATURE, Some(&both))]), Timestamp::from_seconds(1_614_265_330));
        for secret in [&old, &new] {
            assert_eq!(secret.verify(&headers, BODY, now), Ok(()));
            assert_eq!(verify_any(&[other.clone(), secret.clone()], &headers, BODY, now), Ok(()));
        }
        assert_eq!(other.verify(&headers, BODY, now), Err(SignatureError));
        assert_eq!(verify_any(&[], &headers, BODY, now), Err(SignatureError));
        assert_eq!(sign_with_all([], MESSAGE, TIME, BODY), "");
    }

    #[test]
    fn a_secret_is_exposed_on_purpose_and_never_shown() {
        for wrong in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA", "whsec_***"] {
            assert!(WebhookSecret::parse(wrong).is_none(), "{wrong}");
        }
        for (length, good) in [(0, false), (23, false), (24, true), (64, true), (65, false)] {
            assert_eq!(WebhookSecret::of(vec![7; length]).is_some(), good, "{length}");
        }
        let read = WebhookSecret::parse(SECRET).unwrap();
        assert_eq!(*read.expose_text(), SECRET);
        assert_eq!(format!("{read:?}"), "WebhookSecret(redacted)");
    }
}
