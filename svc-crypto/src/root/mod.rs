//! Roots of trust: what wraps tenants' key-encryption keys, and the key of the audit log's chain. One trait, and
//! one module for each kind. What is wrapped is kept as [`crate::domain::rooted`] says.

mod api;
mod azure;
mod file;
mod open;
mod pkcs11;
mod roots;
mod split;
mod transit;

use std::borrow::Cow;

pub use azure::{Azure, AzureConfig};
pub use file::{FileError, FileRoot, own_file, read, read_or_make};
pub use open::RootConfig;
pub use pkcs11::{Pkcs11Config, Pkcs11Root};
pub use roots::{RootError, Roots};
pub use split::{Given, SharesConfig, SplitKeyError, SplitRoot, split_key};
pub use transit::{KubernetesConfig, Transit, TransitConfig};

use crate::domain::{rooted::RootName, secret::KeyBytes};

/// What wraps keys. Each call is cut off by a time limit, and may be made again.
#[tonic::async_trait]
pub trait RootOfTrust: Send + Sync + 'static {
    /// What it is called, wherever something that it wrapped is kept.
    fn name(&self) -> &RootName;

    /// Wraps a key for a place: `context` must be given again to unwrap it. What is returned is what is kept, with
    /// the root's name and the version of its key.
    async fn wrap(&self, context: &[u8], key: &KeyBytes) -> Result<Vec<u8>, Failure>;

    /// Unwraps what [`RootOfTrust::wrap`] returned.
    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<KeyBytes, Failure>;

    /// The key of an audit log that was begun under this root before such keys were random; `None` where no such
    /// log can be.
    ///
    /// # Errors
    /// It cannot be said as yet: whoever took that for none would begin another log's chain over this one.
    fn derived_chain_key(&self) -> Result<Option<KeyBytes>, Failure> {
        Ok(None)
    }
}

/// Why a root did not wrap or unwrap. What is said names no key and quotes nothing that came from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It did not answer, or only that it cannot now. The same again may well do.
    #[error("it does not answer: {0}")]
    Unreachable(Cow<'static, str>),
    /// It answered, and does not do it for us: a credential, a policy or its key must be seen to.
    #[error("it refuses: {0}")]
    Refused(Cow<'static, str>),
    /// What is on record is not what it wrapped, or not for this place.
    #[error("what is on record is not what it wrapped for this place")]
    Tampered,
}
