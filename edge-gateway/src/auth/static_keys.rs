//! The plain API keys of the configuration: any text, known by its SHA-256. For development, and for whoever
//! manages keys elsewhere; `paymesh keys` makes the others.

use std::sync::Arc;

use mesh::StartError;
use money::TenantId;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use super::{
    config::ApiKeyConfig,
    keys::{hex, pepper::same},
    scope::Scope,
};

/// Keys longer than this are not looked at.
const KEY_LENGTH_MAX: usize = 512;

/// The keys that are known, as hashes.
#[derive(Debug)]
pub(crate) struct StaticKeys {
    keys: Vec<StaticKey>,
}

/// A known caller.
pub(crate) struct StaticKey {
    hash: [u8; SHA256_OUTPUT_LEN],
    pub(crate) tenant: TenantId,
    pub(crate) name: Arc<str>,
    pub(crate) scopes: Arc<[Scope]>,
}

impl std::fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticKey")
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl StaticKeys {
    /// Reads the keys' hashes, or the keys themselves from their files.
    pub(crate) fn load(configs: &[ApiKeyConfig]) -> Result<Self, StartError> {
        let mut keys: Vec<StaticKey> = Vec::new();
        for config in configs {
            let wrong = |what: &str| StartError::Config(format!("api_keys: the key {} {what}", config.name));
            let hash = match (&config.sha256, &config.key_file) {
                (Some(text), None) => {
                    hex::decode(text).ok_or_else(|| wrong("needs a sha256 of 64 hexadecimal digits"))?
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
            if keys.iter().any(|key| key.tenant == config.tenant && *key.name == *config.name) {
                return Err(wrong("has the name of another one of its tenant"));
            }
            keys.push(StaticKey {
                hash,
                tenant: config.tenant.clone(),
                name: config.name.as_str().into(),
                scopes: config.scopes.as_slice().into(),
            });
        }
        Ok(Self { keys })
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key that was presented.
    pub(crate) fn find(&self, presented: &str) -> Option<&StaticKey> {
        if self.is_empty() {
            return None;
        }
        let hash = hash(presented)?;
        // Every key is compared, each in constant time: the time taken says nothing about them.
        self.keys.iter().fold(None, |found, key| if same(&key.hash, &hash) { Some(key) } else { found })
    }
}

fn hash(key: &str) -> Option<[u8; SHA256_OUTPUT_LEN]> {
    let legal = (1..=KEY_LENGTH_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if legal { digest(&SHA256, key.as_bytes()).as_ref().try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_says_the_tenant_and_nothing_else_is_one() {
        let of =
            |tenant: &str, key| ApiKeyConfig::of_key(tenant.parse().unwrap(), format!("{tenant} key"), key);
        let keys = StaticKeys::load(&[of("acme", "sk_test_1"), of("globex", "sk_test_2")]).unwrap();
        let tenant = |key: &str| keys.find(key).map(|key| key.tenant.to_string());
        assert_eq!(tenant("sk_test_1"), Some("acme".into()));
        assert_eq!(tenant("sk_test_2"), Some("globex".into()));
        for wrong in ["sk_test_3", "", " sk_test_1", &"x".repeat(600)] {
            assert_eq!(tenant(wrong), None);
        }
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
            scopes: vec![Scope::all()],
        };
        let loaded = StaticKeys::load(&[config(None, Some(&file))]).unwrap();
        assert!(loaded.find("sk_file").is_some());
        let hash = ApiKeyConfig::of_key(tenant.clone(), "same", "sk_file");
        for wrong in [
            vec![config(None, None)],
            vec![config(Some("12"), None)],
            vec![config(Some(&"g".repeat(64)), None)],
            vec![config(None, Some(&dir.path().join("none")))],
            vec![config(None, Some(&file)), hash],
            ["one", "other"].map(|key| ApiKeyConfig::of_key(tenant.clone(), "k", key)).to_vec(),
        ] {
            assert!(StaticKeys::load(&wrong).is_err(), "{wrong:?}");
        }
        assert!(!format!("{loaded:?}").contains("hash"));
    }
}
