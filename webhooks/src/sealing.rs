//! Secrets at rest: a store has them sealed, and how that is done is the service's affair.

use std::{fmt, future::Future};

use money::{TenantId, WebhookEndpointId};
use serde::{Deserialize, Serialize};

use crate::WebhookSecret;

/// A sealed secret, as a store keeps it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Whose a secret is: what is sealed for one endpoint opens for no other.
#[derive(Debug, Clone, Copy)]
pub struct SealedFor<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The endpoint.
    pub endpoint: WebhookEndpointId,
}

/// Why a secret is not at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Whoever seals cannot be reached: to be asked again later.
    #[error("the secret cannot be opened or sealed now")]
    Unavailable,
    /// What was sealed is not what it should be, or was sealed for another endpoint.
    #[error("the sealed secret is not this endpoint's")]
    Invalid,
}

/// Seals secrets and opens them. It may ask another service; what it keeps of opened secrets is its own affair.
pub trait Sealer: Send + Sync + 'static {
    /// Seals a secret.
    fn seal(
        &self,
        whose: SealedFor<'_>,
        secret: &WebhookSecret,
    ) -> impl Future<Output = Result<Sealed, SealError>> + Send;

    /// Opens what was sealed for the same endpoint.
    fn open(
        &self,
        whose: SealedFor<'_>,
        sealed: &Sealed,
    ) -> impl Future<Output = Result<WebhookSecret, SealError>> + Send;
}
