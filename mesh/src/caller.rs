//! Who is at the other end of a connection, for each of its requests: the same workload for all of them
//! where the handshake was ours, and whom the proxy names where it was the proxy's.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue};

use crate::{
    fault::Fault,
    identity::SpiffeId,
    linkerd::Linkerd,
    policy::{PeerPolicy, Policies},
};

/// The other end of one connection.
pub(crate) enum Caller {
    /// One workload, known since the handshake.
    Known(Arc<PeerPolicy>),
    /// A proxy, with calls of any workload.
    Proxied(Proxied),
}

/// What is known of the calls that come through a proxy.
pub(crate) struct Proxied {
    linkerd: Linkerd,
    policies: Policies,
    /// Whom the last request was from: mostly the next one is from the same.
    last: ArcSwapOption<(HeaderValue, Arc<PeerPolicy>)>,
}

impl Caller {
    /// A peer whose certificate was checked here.
    pub(crate) fn known(policies: &Policies, peer: SpiffeId) -> Self {
        Self::Known(Arc::new(policies.peer(peer)))
    }

    /// The proxy beside us. The connection must be known to come from it.
    pub(crate) fn proxied(policies: &Policies, linkerd: &Linkerd) -> Self {
        let (linkerd, policies) = (linkerd.clone(), policies.clone());
        Self::Proxied(Proxied { linkerd, policies, last: ArcSwapOption::empty() })
    }

    /// Who sent this request, and what it may call.
    pub(crate) fn of(&self, headers: &HeaderMap) -> Result<Arc<PeerPolicy>, Fault> {
        match self {
            Self::Known(peer) => Ok(Arc::clone(peer)),
            Self::Proxied(proxied) => proxied.of(headers),
        }
    }
}

impl Proxied {
    fn of(&self, headers: &HeaderMap) -> Result<Arc<PeerPolicy>, Fault> {
        let value = Linkerd::client_id(headers)?;
        if let Some(last) = &*self.last.load()
            && last.0 == value
        {
            return Ok(Arc::clone(&last.1));
        }
        let peer = Arc::new(self.policies.peer(self.linkerd.workload(value)?));
        self.last.store(Some(Arc::new((value.clone(), Arc::clone(&peer)))));
        Ok(peer)
    }
}
