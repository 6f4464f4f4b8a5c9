//! The policy as one connection sees it: compiled for its peer once, and again when the policy changes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Grants, Policy, Verdict};
use crate::{identity::SpiffeId, watched::Watched};

/// What one peer may call, kept in step with the policy.
pub struct PeerPolicy {
    peer: SpiffeId,
    policy: Watched<Policy>,
    compiled: ArcSwap<Compiled>,
}

struct Compiled {
    grants: Arc<Grants>,
    /// Says when the policy is another one.
    version: watch::Receiver<u64>,
}

impl PeerPolicy {
    /// Looks up what the policy says of this peer.
    pub fn new(policy: &Watched<Policy>, peer: SpiffeId) -> Self {
        let compiled = ArcSwap::from_pointee(compile(policy, &peer));
        Self { peer, policy: policy.clone(), compiled }
    }

    /// Who the peer is.
    pub fn peer(&self) -> &SpiffeId {
        &self.peer
    }

    /// Decides on a gRPC request's `:path` by the policy as it is now.
    pub fn decide(&self, path: &str) -> Verdict {
        let compiled = self.compiled.load();
        // An error says that nobody can change the policy any more.
        if !compiled.version.has_changed().unwrap_or(false) {
            return compiled.grants.decide(path);
        }
        let fresh = Arc::new(compile(&self.policy, &self.peer));
        self.compiled.store(Arc::clone(&fresh));
        fresh.grants.decide(path)
    }
}

/// The version is taken first: a change in between is then seen as one, and not missed.
fn compile(policy: &Watched<Policy>, peer: &SpiffeId) -> Compiled {
    let version = policy.versions();
    Compiled { grants: policy.current().of(peer), version }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_policy_holds_for_connections_that_are_open() {
        let policy = Watched::fixed("a policy", Policy::standard());
        let peer = PeerPolicy::new(&policy, SpiffeId::of("svc-tax").unwrap());
        let path = "/paymesh.tax.v1.TaxService/Calculate";
        assert!(!peer.decide(path).allowed);
        policy.replace(Policy::compile([("svc-tax", ["paymesh.tax.v1.TaxService/*"])]));
        assert!(peer.decide(path).allowed);
        policy.replace(Policy::standard());
        assert!(!peer.decide(path).allowed);
    }
}
