//! Makes roots of trust of what is configured.

use std::{path::Path, sync::Arc, time::Duration};

use mesh::StartError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Azure, AzureConfig, FileError, FileRoot, Pkcs11Config, Pkcs11Root, RootOfTrust, Roots, SharesConfig,
    SplitRoot, Transit, TransitConfig, read, read_or_make,
};
use crate::{config::Config, domain::secret::KeyBytes, random::Random};

/// A root of trust that is no file. At most one of these may be given (docs/crypto-roots.md).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RootConfig {
    /// A key of the transit engine of HashiCorp Vault or OpenBao.
    pub transit: Option<TransitConfig>,
    /// A key in a hardware security module, over PKCS#11.
    pub pkcs11: Option<Pkcs11Config>,
    /// Two RSA keys of Azure Key Vault.
    pub azure: Option<AzureConfig>,
    /// A key that is put together from shares at each start.
    pub shares: Option<SharesConfig>,
}

/// A root that was made, and what it is to be given shares through.
type Made = (Arc<dyn RootOfTrust>, Option<Arc<SplitRoot>>);

impl RootConfig {
    /// Whether it names one.
    pub fn is_given(&self) -> bool {
        self.count() > 0
    }

    /// How many roots it names.
    fn count(&self) -> usize {
        usize::from(self.transit.is_some())
            + usize::from(self.pkcs11.is_some())
            + usize::from(self.azure.is_some())
            + usize::from(self.shares.is_some())
    }

    /// Checks that there is at most one, the file `key_file` included. `setting` is this table's path.
    pub fn check(&self, setting: &str, key_file: Option<&Path>) -> Result<(), String> {
        if self.count() + usize::from(key_file.is_some()) <= 1 {
            return Ok(());
        }
        Err(format!(
            "{setting}: there is one root: give {setting}_key_file, or one of the tables in {setting}"
        ))
    }

    /// `None` where it names none.
    fn make(&self, setting: &str, timeout: Duration) -> Result<Option<Made>, StartError> {
        if let Some(transit) = &self.transit {
            let root = Transit::new(&format!("{setting}.transit"), transit, timeout)?;
            return Ok(Some((Arc::new(root), None)));
        }
        if let Some(pkcs11) = &self.pkcs11 {
            let root = Pkcs11Root::new(&format!("{setting}.pkcs11"), pkcs11)?;
            return Ok(Some((Arc::new(root), None)));
        }
        if let Some(azure) = &self.azure {
            let root = Azure::new(&format!("{setting}.azure"), azure, timeout)?;
            return Ok(Some((Arc::new(root), None)));
        }
        let Some(shares) = &self.shares else { return Ok(None) };
        let root = SplitRoot::new(&format!("{setting}.shares"), shares)?;
        Ok(Some((Arc::clone(&root) as Arc<dyn RootOfTrust>, Some(root))))
    }
}

impl Roots {
    /// As configured. `data_dir` may have a root key of its own, which is made there where no root is configured,
    /// unless keys are on record already (`expected`).
    ///
    /// # Errors
    /// What is wrong with the configuration, or with a file that it names. No root is asked for anything yet.
    pub fn open(config: &Config, data_dir: &Path, expected: bool) -> Result<Self, StartError> {
        config.check_roots().map_err(StartError::Config)?;
        let timeout = Duration::from_millis(config.root_timeout_ms.into());
        let file = |key: Result<KeyBytes, FileError>| -> Result<Made, StartError> {
            let key = key.map_err(|error| StartError::Config(error.to_string()))?;
            Ok((Arc::new(FileRoot::new(&key)), None))
        };
        let current = match (config.root.make("root", timeout)?, &config.root_key_file) {
            (Some(made), _) => made,
            (None, Some(path)) => file(read(path))?,
            (None, None) => file(read_or_make(data_dir, expected, &Random::default()))?,
        };
        let previous =
            match (config.previous_root.make("previous_root", timeout)?, &config.previous_root_key_file) {
                (Some(made), _) => Some(made),
                (None, path) => path.as_deref().map(|path| file(read(path))).transpose()?,
            };
        let (previous, split) = match previous {
            Some((root, split)) => (Some(root), split),
            None => (None, None),
        };
        if previous.as_ref().is_some_and(|previous| previous.name() == current.0.name()) {
            return Err(StartError::Config(format!(
                "previous_root: it has the name of the root in use, {}: it is the same key, and nothing is to be wrapped \
                 anew; or one of another server, which needs a name of its own (root.transit.name, root.pkcs11.name)",
                current.0.name()
            )));
        }
        let split = current.1.into_iter().chain(split).collect();
        Ok(Self::new(current.0, previous, timeout).with_split(split))
    }
}
