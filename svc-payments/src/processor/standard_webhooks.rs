//! Standard Webhooks (<https://www.standardwebhooks.com>, specification 1.0.0): what is signed is
//! `id.timestamp.body`, with HMAC-SHA256 under a secret that both sides know.
//!
//! Knows no processor and no clock.

use std::{fmt, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use mesh::{StartError, pki::write_file, tls::TlsError};
use money::Timestamp;
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use zeroize::Zeroizing;

use super::{WebhookError, WebhookHeaders};

/// How far a webhook's time may be from ours, in seconds: an old message cannot be sent again.
const TOLERANCE_S: i64 = 5 * 60;
/// A message may be signed with several secrets while they are being changed; no more than this many
/// signatures are looked at.
const SIGNATURES_MAX: usize = 8;
/// The specification wants 24 to 64 bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const PREFIX: &str = "whsec_";

/// A secret that webhooks are signed with. Cannot be printed.
#[derive(Clone)]
pub struct WebhookSecret(hmac::Key);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(redacted)")
    }
}

impl WebhookSecret {
    /// Reads `whsec_` and base64; nothing where it is not that, or too short or long.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(text.trim().strip_prefix(PREFIX)?).ok()?);
        SECRET_BYTES.contains(&bytes.len()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// Reads the secret of a file.
    pub fn read(path: &Path) -> Result<Self, StartError> {
        let text = std::fs::read_to_string(path).map_err(StartError::io(path.display().to_string()))?;
        Self::parse(&Zeroizing::new(text)).ok_or_else(|| {
            let path = path.display();
            StartError::Config(format!("{path}: must hold whsec_ and 24 to 64 bytes in base64"))
        })
    }

    /// Reads the secret of a file; where there is no such file, makes a secret and keeps it there.
    pub fn read_or_make(path: &Path) -> Result<Self, StartError> {
        if !path.exists() {
            let mut bytes = Zeroizing::new([0_u8; 32]);
            SystemRandom::new()
                .fill(bytes.as_mut())
                .map_err(|_| StartError::Config("the system gives no random bytes".to_owned()))?;
            let text = Zeroizing::new(format!("{PREFIX}{}\n", BASE64_STANDARD.encode(bytes.as_ref())));
            write_file(path, &text, 0o600).map_err(TlsError::from)?;
        }
        Self::read(path)
    }

    /// The value of `webhook-signature` for a message: for whoever sends one.
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let tag = hmac::sign(&self.0, &signed(id, timestamp, body));
        format!("v1,{}", BASE64_STANDARD.encode(tag.as_ref()))
    }

    /// Whether the message was signed with this secret, and not long ago. Does not look into the body.
    pub fn verify(&self, headers: &WebhookHeaders, body: &[u8], now: Timestamp) -> Result<(), WebhookError> {
        let header = |name: &str| headers.get(name).map(String::as_str).ok_or(WebhookError::Signature);
        let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
        let signatures = header("webhook-signature")?;
        // First what costs nothing: a body that is sent again and again is not hashed each time.
        let sent: i64 = timestamp.parse().map_err(|_| WebhookError::Signature)?;
        if sent.abs_diff(now.as_seconds()) > TOLERANCE_S.unsigned_abs() {
            return Err(WebhookError::Signature);
        }
        let message = signed(id, timestamp, body);
        let valid = signatures
            .split(' ')
            .take(SIGNATURES_MAX)
            .filter_map(|signature| BASE64_STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .any(|tag| hmac::verify(&self.0, &message, &tag).is_ok());
        if valid { Ok(()) } else { Err(WebhookError::Signature) }
    }
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The example of the specification's own libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: &str = "1614265330";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn headers(changes: &[(&str, Option<&str>)]) -> WebhookHeaders {
        let mut headers: WebhookHeaders =
            [("webhook-id", ID), ("webhook-timestamp", TIME), ("webhook-signature", SIGNATURE)]
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

    fn check(changes: &[(&str, Option<&str>)], body: &[u8], second: i64) -> Result<(), WebhookError> {
        let now = Timestamp::from_seconds(second);
        WebhookSecret::parse(SECRET).unwrap().verify(&headers(changes), body, now)
    }

    #[test]
    fn the_specifications_example_is_valid_within_five_minutes() {
        assert_eq!(WebhookSecret::parse(SECRET).unwrap().sign(ID, TIME, BODY), SIGNATURE);
        for second in [-300, 0, 300] {
            assert_eq!(check(&[], BODY, 1_614_265_330 + second), Ok(()), "{second}");
        }
        for second in [-301, 301, -1_000_000_000] {
            assert_eq!(check(&[], BODY, 1_614_265_330 + second), Err(WebhookError::Signature), "{second}");
        }
    }

    #[test]
    fn one_right_signature_among_several_is_enough() {
        let several = format!("v1a,AAAA v1,AAAA v2,{} {SIGNATURE}", &SIGNATURE[3..]);
        assert_eq!(check(&[("webhook-signature", Some(&several))], BODY, 1_614_265_330), Ok(()));
        let late = format!("{}{SIGNATURE}", "v1,AAAA ".repeat(SIGNATURES_MAX));
        let late = check(&[("webhook-signature", Some(&late))], BODY, 1_614_265_330);
        assert_eq!(late, Err(WebhookError::Signature), "only so many are looked at");
    }

    #[test]
    fn whatever_is_wrong_the_refusal_is_the_same() {
        let unsigned = SIGNATURE.strip_prefix("v1,");
        let cases: &[&[(&str, Option<&str>)]] = &[
            &[("webhook-id", None)],
            &[("webhook-timestamp", None)],
            &[("webhook-signature", None)],
            &[("webhook-id", Some("msg_other"))],
            &[("webhook-timestamp", Some("1614265331"))],
            &[("webhook-timestamp", Some(" 1614265330"))],
            &[("webhook-timestamp", Some("99999999999999999999"))],
            &[("webhook-signature", Some(""))],
            &[("webhook-signature", unsigned)],
            &[("webhook-signature", Some("v1,"))],
            &[("webhook-signature", Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1O0="))],
        ];
        for changes in cases {
            assert_eq!(check(changes, BODY, 1_614_265_330), Err(WebhookError::Signature), "{changes:?}");
        }
        for body in [&b""[..], br#"{"test":2432232314}"#, br#"{"test": 2432232314} "#] {
            assert_eq!(check(&[], body, 1_614_265_330), Err(WebhookError::Signature));
        }
    }

    #[test]
    fn a_secret_is_read_or_made_and_never_shown() {
        for wrong in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA", "whsec_***"] {
            assert!(WebhookSecret::parse(wrong).is_none(), "{wrong}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(WebhookSecret::read(&path).is_err());
        let made = WebhookSecret::read_or_make(&path).unwrap();
        let again = WebhookSecret::read_or_make(&path).unwrap();
        assert_eq!(made.sign("a", "b", b"c"), again.sign("a", "b", b"c"));
        assert_eq!(format!("{made:?}"), "WebhookSecret(redacted)");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
