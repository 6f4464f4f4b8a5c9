//! A hardware security module over PKCS#11: an AES key that never leaves its token wraps with AES-GCM, the key's place
//! as additional data.
//!
//! Specification: PKCS #11 3.1, sections 5 (functions) and 6.13.4 (`CKM_AES_GCM`). Everything that is asked blocks, so
//! it is asked by a thread of its own, which holds the one session; a session that is lost is opened again.
//!
//! Body of what is kept: the nonce, 12 random bytes of ours, then ciphertext and tag as the token made them. Of one
//! key at most 2³² may be made with random nonces (NIST SP 800-38D, section 8.3): here one for each tenant.

mod session;

use std::{path::PathBuf, thread};

use mesh::StartError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use self::session::{Place, Token};
use super::{Failure, RootOfTrust};
use crate::domain::{
    canonical,
    rooted::{self, RootName, Stamp},
    secret::KeyBytes,
};

/// How many requests may wait for the token; more are refused at once.
const WAITING_MAX: usize = 256;

/// An AES key in a token that is reached over PKCS#11, as root of trust.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pkcs11Config {
    /// The module, a shared library of the token's maker. It is loaded into the process.
    #[schemars(extend("x-required" = true, "x-file" = "public"), example = "/usr/lib/softhsm/libsofthsm2.so")]
    pub module: PathBuf,
    /// The token, by its label.
    #[schemars(extend("x-required" = true), example = &"paymesh")]
    pub token_label: String,
    /// The key, by its label: AES with 256 bits, sensitive and not extractable, which may encrypt and decrypt.
    #[schemars(extend("x-required" = true), example = &"root")]
    pub key_label: String,
    /// Which of several keys of this label wraps: its id (`CKA_ID`), in hexadecimal. All of them unwrap what they
    /// wrapped. Absent: there is one.
    #[schemars(example = "02")]
    pub key_id: Option<String>,
    /// What this root is called wherever something is kept that it wrapped, after `pkcs11:`. Default: the labels of
    /// token and key. Needed where another token has a key of the same labels, and one is to take the other's place;
    /// never changed while anything is wrapped under it.
    #[schemars(example = &"hsm-b/root")]
    pub name: Option<String>,
    /// A file with the user's PIN. One that the token refused is not tried again until the file holds another,
    /// as a token locks itself after some attempts.
    #[schemars(extend("x-required" = true), example = "secrets/hsm-pin")]
    pub pin_file: PathBuf,
}

/// What the token's thread is asked.
struct Job {
    work: Work,
    answer: oneshot::Sender<Result<Done, Failure>>,
}

enum Work {
    Wrap { context: Vec<u8>, key: KeyBytes },
    Unwrap { context: Vec<u8>, version: String, body: Vec<u8> },
}

enum Done {
    /// The version of the key, and the body.
    Wrapped(String, Vec<u8>),
    Unwrapped(KeyBytes),
}

/// The root. Cannot be printed.
pub struct Pkcs11Root {
    name: RootName,
    jobs: mpsc::Sender<Job>,
}

impl Pkcs11Root {
    /// Checks the configuration, whose path is `setting`, and starts the thread. The token is not asked yet.
    pub fn new(setting: &str, config: &Pkcs11Config) -> Result<Self, StartError> {
        let wrong = |what: &str| StartError::Config(format!("{setting}.{what}"));
        for (name, empty) in [
            ("module", config.module.as_os_str().is_empty()),
            ("token_label", config.token_label.is_empty()),
            ("key_label", config.key_label.is_empty()),
            ("pin_file", config.pin_file.as_os_str().is_empty()),
        ] {
            if empty {
                return Err(wrong(&format!("{name}: must be given")));
            }
        }
        let key_id = config.key_id.as_deref().map(unhex);
        if matches!(key_id, Some(None)) {
            return Err(wrong("key_id: must be 1 to 32 bytes in lower-case hexadecimal"));
        }
        let name = config
            .name
            .clone()
            .unwrap_or_else(|| format!("{}/{}", escaped(&config.token_label), escaped(&config.key_label)));
        let name = RootName::parse(&format!("pkcs11:{name}"))
            .map_err(|error| wrong(&format!("name: or the labels of token and key {error}")))?;
        let place = Place {
            module: config.module.clone(),
            token_label: config.token_label.clone(),
            key_label: config.key_label.clone(),
            key_id: key_id.flatten(),
            pin_file: config.pin_file.clone(),
        };
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        thread::Builder::new()
            .name("crypto-pkcs11".to_owned())
            .spawn(move || work(Token::new(place), waiting))
            .map_err(StartError::io("a thread for the PKCS#11 token"))?;
        Ok(Self { name, jobs })
    }

    async fn ask(&self, work: Work) -> Result<Done, Failure> {
        let (answer, answered) = oneshot::channel();
        let full = |_| Failure::Unreachable("too many requests wait for the token".into());
        self.jobs.try_send(Job { work, answer }).map_err(full)?;
        answered.await.map_err(|_| Failure::Unreachable("the token's thread ended".into()))?
    }
}

/// Until nobody can ask any more.
fn work(mut token: Token, mut waiting: mpsc::Receiver<Job>) {
    while let Some(Job { work, answer }) = waiting.blocking_recv() {
        // Whoever asked has given up meanwhile: the token is spared.
        if answer.is_closed() {
            continue;
        }
        let done = match work {
            Work::Wrap { context, key } => {
                token.wrap(&context, &key).map(|(version, body)| Done::Wrapped(version, body))
            }
            Work::Unwrap { context, version, body } => {
                token.unwrap(&context, &version, &body).map(Done::Unwrapped)
            }
        };
        let _ = answer.send(done);
    }
}

#[tonic::async_trait]
impl RootOfTrust for Pkcs11Root {
    fn name(&self) -> &RootName {
        &self.name
    }

    async fn wrap(&self, context: &[u8], key: &KeyBytes) -> Result<Vec<u8>, Failure> {
        match self.ask(Work::Wrap { context: context.to_vec(), key: key.clone() }).await? {
            Done::Wrapped(version, body) => {
                let stamp = Stamp::new(self.name.clone(), &version);
                let long = || Failure::Refused("the key's id is too long".into());
                Ok(rooted::encode(&stamp.ok_or_else(long)?, &body))
            }
            Done::Unwrapped(_) => Err(Failure::Tampered),
        }
    }

    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<KeyBytes, Failure> {
        let (stamp, body) = rooted::read(wrapped).ok_or(Failure::Tampered)?;
        let work = Work::Unwrap { context: context.to_vec(), version: stamp.version, body: body.to_vec() };
        match self.ask(work).await? {
            Done::Unwrapped(key) => Ok(key),
            Done::Wrapped(..) => Err(Failure::Tampered),
        }
    }
}

/// A label in a root's name: what is no letter, digit, `-`, `_` or `.` as `%` and its byte in hexadecimal.
fn escaped(label: &str) -> String {
    label
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02x}"),
        })
        .collect()
}

/// The bytes of an id in hexadecimal; `None` where it is none.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    bytes.filter(|bytes| (1..=32).contains(&bytes.len()) && canonical::hex(bytes) == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        let config = || Pkcs11Config {
            module: "/lib/none.so".into(),
            token_label: "a token".into(),
            key_label: "root".into(),
            key_id: Some("0a".into()),
            name: None,
            pin_file: "/none".into(),
        };
        let name = |config: &Pkcs11Config| {
            Pkcs11Root::new("root.pkcs11", config).unwrap().name().as_str().to_owned()
        };
        assert_eq!(name(&config()), "pkcs11:a%20token/root");
        assert_eq!(name(&Pkcs11Config { name: Some("b".into()), ..config() }), "pkcs11:b");
        for (config, expected) in [
            (Pkcs11Config { module: PathBuf::new(), ..config() }, "root.pkcs11.module"),
            (Pkcs11Config { token_label: String::new(), ..config() }, "root.pkcs11.token_label"),
            (Pkcs11Config { key_label: "x".repeat(200), ..config() }, "root.pkcs11.name"),
            (Pkcs11Config { name: Some("a b".into()), ..config() }, "root.pkcs11.name"),
            (Pkcs11Config { pin_file: PathBuf::new(), ..config() }, "root.pkcs11.pin_file"),
            (Pkcs11Config { key_id: Some("0A".into()), ..config() }, "root.pkcs11.key_id"),
            (Pkcs11Config { key_id: Some("012".into()), ..config() }, "root.pkcs11.key_id"),
            (Pkcs11Config { key_id: Some(String::new()), ..config() }, "root.pkcs11.key_id"),
        ] {
            let refused = Pkcs11Root::new("root.pkcs11", &config).err().unwrap().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_module_that_is_not_there_is_a_root_that_does_not_answer() {
        let dir = tempfile::tempdir().unwrap();
        let pin = dir.path().join("pin");
        std::fs::write(&pin, "1234").unwrap();
        let config = Pkcs11Config {
            module: dir.path().join("none.so"),
            token_label: "t".into(),
            key_label: "k".into(),
            key_id: None,
            name: None,
            pin_file: pin,
        };
        let root = Pkcs11Root::new("root.pkcs11", &config).unwrap();
        let failed = root.wrap(b"c", &KeyBytes::take(&mut [1; 32])).await.unwrap_err();
        assert!(matches!(failed, Failure::Unreachable(_)), "{failed}");
    }
}
