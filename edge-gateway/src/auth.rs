//! Who calls: bearer API keys (RFC 6750). The tenant comes from here and from nowhere else.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use mesh::{Fault, Reason, StartError};
use money::TenantId;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::config::ApiKeyConfig;

/// Keys longer than this are not looked at.
const KEY_LENGTH_MAX: usize = 512;

/// Who a request speaks for, once its credential was checked.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    /// The tenant whose data it may touch.
    pub(crate) tenant: TenantId,
    /// What the credential is called; shown in logs.
    pub(crate) credential: Arc<str>,
}

/// Every way to say who one is.
#[derive(Debug)]
pub(crate) struct Authenticator {
    keys: ApiKeys,
}

impl Authenticator {
    pub(crate) fn load(keys: &[ApiKeyConfig]) -> Result<Self, StartError> {
        Ok(Self { keys: ApiKeys::load(keys)? })
    }

    /// Who the request from `address` speaks for.
    #[allow(clippy::unused_async)] // other credentials have to be looked up elsewhere
    pub(crate) async fn authenticate(&self, parts: &Parts, _address: IpAddr) -> Result<Principal, Fault> {
        let key = self.keys.authenticate(&parts.headers)?;
        Ok(Principal { tenant: key.tenant.clone(), credential: Arc::clone(&key.name) })
    }
}

/// The keys that are known, as hashes.
#[derive(Debug)]
pub(crate) struct ApiKeys {
    keys: Vec<ApiKey>,
}

/// A known caller.
pub(crate) struct ApiKey {
    hash: [u8; SHA256_OUTPUT_LEN],
    pub(crate) tenant: TenantId,
    pub(crate) name: Arc<str>,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey")
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ApiKeys {
    /// Reads the keys' hashes, or the keys themselves from their files.
    pub(crate) fn load(configs: &[ApiKeyConfig]) -> Result<Self, StartError> {
        let mut keys: Vec<ApiKey> = Vec::new();
        for config in configs {
            let wrong = |what: &str| StartError::Config(format!("api_keys: the key {} {what}", config.name));
            let hash = match (&config.sha256, &config.key_file) {
                (Some(hex), None) => {
                    from_hex(hex).ok_or_else(|| wrong("needs a sha256 of 64 hexadecimal digits"))?
                }
                (None, Some(path)) => {
                    let what = format!("the key file {}", path.display());
                    let key = std::fs::read_to_string(path).map_err(StartError::io(what))?;
                    hash(key.trim()).ok_or_else(|| wrong("must be 1 to 512 visible ASCII characters"))?
                }
                _ => return Err(wrong("needs either sha256 or key_file")),
            };
            if let Some(other) = keys.iter().find(|key| key.hash == hash) {
                return Err(wrong(&format!("is the same as the key {}", other.name)));
            }
            keys.push(ApiKey { hash, tenant: config.tenant.clone(), name: config.name.as_str().into() });
        }
        Ok(Self { keys })
    }

    /// The key that the request carries.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<&ApiKey, Fault> {
        let refused = |message: &'static str| Fault::new(Reason::Unauthenticated, message);
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else {
            return Err(refused("Give an API key in the header `Authorization: Bearer <key>`."));
        };
        let key = value.to_str().ok().and_then(bearer).ok_or_else(|| {
            refused("The Authorization header must be `Bearer` and an API key, separated by a space.")
        })?;
        let hash = hash(key).ok_or_else(|| refused("The API key is not known."))?;
        // Every key is compared, each in constant time: the time taken says nothing about them.
        let found =
            self.keys.iter().fold(None, |found, key| if same(&key.hash, &hash) { Some(key) } else { found });
        found.ok_or_else(|| refused("The API key is not known."))
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim_start_matches(' '))
}

fn hash(key: &str) -> Option<[u8; SHA256_OUTPUT_LEN]> {
    let legal = (1..=KEY_LENGTH_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if legal { digest(&SHA256, key.as_bytes()).as_ref().try_into().ok() } else { None }
}

/// Constant time: every byte is looked at whatever the others were.
fn same(left: &[u8; SHA256_OUTPUT_LEN], right: &[u8; SHA256_OUTPUT_LEN]) -> bool {
    let difference = left.iter().zip(right).fold(0_u8, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    difference == 0
}

fn from_hex(text: &str) -> Option<[u8; SHA256_OUTPUT_LEN]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if text.len() != 2 * SHA256_OUTPUT_LEN {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        text.as_bytes().chunks_exact(2).map(|pair| Some((digit(pair[0])? << 4) | digit(pair[1])?)).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn keys() -> ApiKeys {
        let of =
            |tenant: &str, key| ApiKeyConfig::of_key(tenant.parse().unwrap(), format!("{tenant} key"), key);
        ApiKeys::load(&[of("acme", "sk_test_1"), of("globex", "sk_test_2")]).unwrap()
    }

    fn tenant(value: &[u8]) -> Result<String, Reason> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        keys().authenticate(&headers).map(|key| key.tenant.to_string()).map_err(|fault| fault.reason())
    }

    #[test]
    fn the_key_says_the_tenant() {
        assert_eq!(tenant(b"Bearer sk_test_1"), Ok("acme".into()));
        assert_eq!(tenant(b"bearer  sk_test_2"), Ok("globex".into()));
    }

    #[test]
    fn anything_else_is_unauthenticated() {
        let long = format!("Bearer {}", "x".repeat(600));
        for value in [
            &b"Bearer sk_test_3"[..],
            b"Bearer ",
            b"Bearer",
            b"Basic sk_test_1",
            b"sk_test_1",
            b"Bearer \xff",
            long.as_bytes(),
        ] {
            assert_eq!(tenant(value), Err(Reason::Unauthenticated));
        }
        assert!(keys().authenticate(&HeaderMap::new()).is_err());
        let mut twice = HeaderMap::new();
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer sk_test_1"));
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer sk_test_2"));
        assert!(keys().authenticate(&twice).is_err(), "two credentials are none");
    }

    #[test]
    fn keys_come_from_files_or_hashes_and_mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "sk_file\n").unwrap();
        let tenant: TenantId = "acme".parse().unwrap();
        let config = |sha256: Option<&str>, key_file: Option<&std::path::Path>| ApiKeyConfig {
            tenant: tenant.clone(),
            name: "k".into(),
            sha256: sha256.map(str::to_owned),
            key_file: key_file.map(Into::into),
        };
        let loaded = ApiKeys::load(&[config(None, Some(&file))]).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer sk_file"));
        assert!(loaded.authenticate(&headers).is_ok());
        let hash = ApiKeyConfig::of_key(tenant.clone(), "same", "sk_file");
        for wrong in [
            vec![config(None, None)],
            vec![config(Some("12"), None)],
            vec![config(Some(&"g".repeat(64)), None)],
            vec![config(None, Some(&dir.path().join("none")))],
            vec![config(None, Some(&file)), hash],
        ] {
            assert!(ApiKeys::load(&wrong).is_err(), "{wrong:?}");
        }
        assert!(!format!("{loaded:?}").contains("hash"));
    }
}
