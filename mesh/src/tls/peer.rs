//! The workload at the other end of an accepted connection, and how long it may stay.

use std::time::Duration;

use rustls::{ServerConnection, pki_types::CertificateDer};
use tokio::sync::watch;

use super::Identity;
use crate::{
    clock::{Clock as _, SystemClock},
    identity::SpiffeId,
    pki::{Lifetime, spiffe_id},
};

/// The longest sleep before the wall clock is looked at again: it may be set while a connection lives.
const SLEEP_MAX: Duration = Duration::from_secs(600);

/// Who is at the other end, as its certificate says.
#[derive(Debug)]
pub struct Peer {
    id: SpiffeId,
    lifetime: Lifetime,
    chain: Vec<CertificateDer<'static>>,
}

/// Why a connection is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// The peer's certificate has expired since the handshake.
    Expired,
    /// The CA bundle has changed, and the peer's certificate no longer verifies.
    Untrusted,
}

impl Parting {
    /// For the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "the peer's certificate has expired",
            Self::Untrusted => "the peer's certificate is not of a CA that is trusted now",
        }
    }
}

impl Peer {
    /// The peer of a finished handshake; `None` without a SPIFFE id of this mesh.
    pub fn of(session: &ServerConnection) -> Option<Self> {
        let chain = session.peer_certificates()?;
        let leaf = chain.first()?;
        let (id, lifetime) = (spiffe_id(leaf)?, Lifetime::of(leaf)?);
        Some(Self { id, lifetime, chain: chain.iter().map(|c| c.clone().into_owned()).collect() })
    }

    /// Who it is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Waits until the peer may no longer stay: a handshake says who it is for one moment only. `renewed`
    /// must be of before the handshake, so that no change in between is missed.
    pub async fn until_parting(&self, identity: &Identity, mut renewed: watch::Receiver<u64>) -> Parting {
        loop {
            // The last second is within the lifetime.
            let left_s = self.lifetime.left_s(SystemClock.now()).saturating_add(1);
            if left_s <= 0 {
                return Parting::Expired;
            }
            let nap = Duration::from_secs(u64::try_from(left_s).unwrap_or_default()).min(SLEEP_MAX);
            let is_renewed = tokio::time::timeout(nap, renewed.changed()).await.is_ok();
            if is_renewed && !identity.trusts_client(&self.chain, SystemClock.now()) {
                return Parting::Untrusted;
            }
        }
    }
}
