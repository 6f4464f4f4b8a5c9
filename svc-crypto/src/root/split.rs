//! A root key that lies nowhere: it is put together in memory from shares that people hold, at each start.

use std::{
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use mesh::StartError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Failure, FileError, FileRoot, RootOfTrust, read};
use crate::{
    domain::{
        keys,
        rooted::RootName,
        secret::{KeyBytes, SecretText},
        shares::{self, Gathered, Share, ShareError, SplitError, Taken},
    },
    random::{Random, RandomError},
};

/// How long shares are held, counted from the last one, before all begin anew.
const HELD_FOR: Duration = Duration::from_secs(15 * 60);

/// A root key in shares (`paymesh crypto root split`), put together at each start (`paymesh crypto root unseal`).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SharesConfig {
    /// The id of the root key, which `paymesh crypto root split` told: a UUID. It says nothing of the key.
    #[schemars(extend("x-required" = true), example = "0c3fd2a8-8a60-43f4-8f9c-2d35ee0ff2c5")]
    pub root_id: String,
}

/// What came of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// How many different ones there are.
    pub given: usize,
    /// How many are needed.
    pub needed: usize,
    /// Whether the key was put together.
    pub unsealed: bool,
}

/// The root. Cannot be printed.
pub struct SplitRoot {
    name: RootName,
    id: Uuid,
    root: OnceLock<FileRoot>,
    gathered: Mutex<(Gathered, Option<Instant>)>,
}

impl SplitRoot {
    /// Has no share yet. `setting` is the configuration's path.
    pub fn new(setting: &str, config: &SharesConfig) -> Result<Arc<Self>, StartError> {
        let id = Uuid::try_parse(&config.root_id).map_err(|_| {
            StartError::Config(format!("{setting}.root_id: must be the UUID that splitting the key told"))
        })?;
        let (root, gathered) = (OnceLock::new(), Mutex::default());
        Ok(Arc::new(Self { name: RootName::of_file(id), id, root, gathered }))
    }

    /// Which root key it is.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Takes a share.
    pub fn give(&self, share: Share) -> Result<Given, ShareError> {
        let needed = usize::from(share.threshold());
        let mut guard = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        if self.root.get().is_some() {
            return Ok(Given { given: needed, needed, unsealed: true });
        }
        let (gathered, since) = &mut *guard;
        if since.is_some_and(|since| since.elapsed() > HELD_FOR) {
            *gathered = Gathered::new();
        }
        let taken = gathered.add(share, self.id)?;
        // Only now: what is refused does not keep the others.
        *since = Some(Instant::now());
        match taken {
            Taken::One { of_its_set } => Ok(Given { given: of_its_set, needed, unsealed: false }),
            Taken::Last(key) => {
                // Nobody else is here: the lock is held.
                let _ = self.root.set(FileRoot::new(&key));
                Ok(Given { given: needed, needed, unsealed: true })
            }
        }
    }

    /// Lets go of shares that nobody added to for too long.
    pub fn forget_old(&self) {
        let mut guard = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.1.is_some_and(|since| since.elapsed() > HELD_FOR) {
            *guard = (Gathered::new(), None);
        }
    }

    fn unsealed(&self) -> Result<&FileRoot, Failure> {
        self.root.get().ok_or(Failure::Unreachable("it waits for shares of its key".into()))
    }
}

/// Why a root key was not split.
#[derive(Debug, thiserror::Error)]
pub enum SplitKeyError {
    /// Its file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not into so many.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Splits the root key in a file, or a new one, and gives its id and the shares' texts.
pub fn split_key(
    file: Option<&Path>,
    threshold: u8,
    count: u8,
) -> Result<(Uuid, Vec<SecretText>), SplitKeyError> {
    let random = Random::default();
    let key = match file {
        Some(file) => read(file)?,
        None => random.key()?,
    };
    let shares =
        shares::split(&key, threshold, count, |bytes| random.fill(bytes).map_err(SplitKeyError::from))?;
    let texts = shares.iter().map(|share| SecretText::new(share.to_text().to_string())).collect();
    Ok((keys::root(&key).id, texts))
}

#[tonic::async_trait]
impl RootOfTrust for SplitRoot {
    fn name(&self) -> &RootName {
        &self.name
    }

    async fn wrap(&self, context: &[u8], key: &KeyBytes) -> Result<Vec<u8>, Failure> {
        self.unsealed()?.wrap(context, key).await
    }

    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<KeyBytes, Failure> {
        self.unsealed()?.unwrap(context, wrapped).await
    }

    fn derived_chain_key(&self) -> Result<Option<KeyBytes>, Failure> {
        self.unsealed()?.derived_chain_key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        keys,
        shares::{SplitError, split},
    };

    fn shares() -> (KeyBytes, Vec<Share>) {
        let key = KeyBytes::take(&mut [7; 32]);
        let mut next = 0u8;
        let random = |bytes: &mut [u8]| {
            for byte in bytes {
                next = next.wrapping_add(1);
                *byte = next;
            }
            Ok::<(), SplitError>(())
        };
        let shares = split(&key, 2, 3, random).unwrap();
        (key, shares)
    }

    #[tokio::test(start_paused = true)]
    async fn it_wraps_once_there_are_enough_shares_in_time() {
        let (key, shares) = shares();
        let config = SharesConfig { root_id: keys::root(&key).id.to_string() };
        let root = SplitRoot::new("root.shares", &config).unwrap();
        assert!(matches!(root.wrap(b"c", &key).await, Err(Failure::Unreachable(_))));
        assert_eq!(root.give(shares[0].clone()).unwrap(), Given { given: 1, needed: 2, unsealed: false });
        tokio::time::advance(HELD_FOR + Duration::from_secs(1)).await;
        root.forget_old();
        assert_eq!(root.give(shares[1].clone()).unwrap(), Given { given: 1, needed: 2, unsealed: false });
        assert_eq!(root.give(shares[0].clone()).unwrap(), Given { given: 2, needed: 2, unsealed: true });
        assert_eq!(root.give(shares[2].clone()).unwrap(), Given { given: 2, needed: 2, unsealed: true });
        let file = FileRoot::new(&key);
        let wrapped = root.wrap(b"c", &key).await.unwrap();
        assert_eq!(file.unwrap(b"c", &wrapped).await.unwrap().expose(), key.expose());
        assert_eq!(root.name(), file.name(), "it is the same root, wherever its key comes from");
        let wrong = SharesConfig { root_id: "root".into() };
        assert!(SplitRoot::new("root.shares", &wrong).is_err());
    }
}
