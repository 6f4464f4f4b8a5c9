//! What the log says of requests that were refused for who sends them: each kind once a minute. How many there
//! were is counted by the RPC and its code.

use std::time::Instant;

use crate::{identity::SpiffeId, policy::Rpc, seldom::Seldom};

/// What was said already.
#[derive(Default)]
pub(crate) struct Refusals {
    denied: Seldom<(SpiffeId, Option<Rpc>)>,
    nameless: Seldom<Option<Rpc>>,
}

impl Refusals {
    /// Policy does not let this peer call this RPC.
    #[cold]
    pub(crate) fn denied(&self, service: &'static str, peer: &SpiffeId, rpc: Option<Rpc>) {
        if let Some(unsaid) = self.denied.note((peer.clone(), rpc), Instant::now()) {
            tracing::warn!(service, %peer, rpc = name(rpc), unsaid, "an RPC was denied by policy");
        }
    }

    /// The Linkerd proxy does not say who sends this, or names nobody of this mesh. What was claimed is not
    /// told: it may be anything.
    #[cold]
    pub(crate) fn nameless(&self, service: &'static str, rpc: Option<Rpc>) {
        if let Some(unsaid) = self.nameless.note(rpc, Instant::now()) {
            tracing::warn!(
                service,
                rpc = name(rpc),
                unsaid,
                "a request was refused: l5d-client-id names no workload of this mesh, or more than one"
            );
        }
    }
}

fn name(rpc: Option<Rpc>) -> &'static str {
    rpc.map_or("unknown", Rpc::name)
}
