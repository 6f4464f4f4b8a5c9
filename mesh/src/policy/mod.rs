//! Who may call which RPC. What is not granted is denied.
//!
//! A policy is compiled when it is read: per workload one bit for each RPC of the contract, so that a
//! decision is one hash lookup. Knows nothing of connections, headers or files' whereabouts.

mod file;
mod live;
mod rpcs;
mod rules;
mod table;
mod trial;

use std::{collections::HashMap, sync::Arc};

pub use file::{GrantEntry, PolicyError, PolicyFile};
pub use live::{PeerPolicy, Policies, PolicyConfig};
pub use rpcs::Rpc;
pub use rules::{Difference, Rules};

use crate::identity::SpiffeId;

/// Identity × RPC → allow. Deny by default.
#[derive(Debug)]
pub struct Policy {
    workloads: HashMap<Box<str>, Arc<Grants>>,
    /// Of workloads that the policy does not name.
    nothing: Arc<Grants>,
}

/// What one workload may call.
#[derive(Debug)]
pub struct Grants {
    /// By [`Rpc::index`].
    cells: Box<[Cell]>,
}

/// Whether one workload may call one RPC.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// What holds.
    allowed: bool,
    /// What the policy on trial says; without one, the same.
    trial: bool,
}

/// What is decided of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Which RPC it is for; `None` if the contract has none at that path, which is always denied.
    pub rpc: Option<Rpc>,
    /// Whether it may go on.
    pub allowed: bool,
    /// Whether the policy on trial (`dry_run_file`) would let it go on. Without one, as `allowed`.
    pub trial: bool,
}

impl Verdict {
    /// Of a request whose sender is not known.
    pub fn denied(path: &str) -> Self {
        Self { rpc: Rpc::of_path(path), allowed: false, trial: false }
    }

    /// The RPC's name in metrics and spans: one of the contract's, or `unknown`.
    pub fn name(self) -> &'static str {
        self.rpc.map_or("unknown", Rpc::name)
    }
}

impl Policy {
    /// The mesh's own table.
    pub fn standard() -> Self {
        Self::new(&Rules::standard(), None)
    }

    /// A policy that enforces these rules, and compares each decision with those on trial.
    pub fn new(enforced: &Rules, trial: Option<&Rules>) -> Self {
        let trial = trial.unwrap_or(enforced);
        let grants = |name: &str| {
            let cell = |rpc| Cell { allowed: enforced.allow(name, rpc), trial: trial.allow(name, rpc) };
            Arc::new(Grants { cells: Rpc::all().map(cell).collect() })
        };
        let names = enforced.0.keys().chain(trial.0.keys());
        let workloads = names.map(|name| (name.as_str().into(), grants(name))).collect();
        let nothing = Grants { cells: Rpc::all().map(|_| Cell::default()).collect() };
        Self { workloads, nothing: Arc::new(nothing) }
    }

    /// What this workload may call.
    pub fn of(&self, peer: &SpiffeId) -> Arc<Grants> {
        Arc::clone(self.workloads.get(peer.name()).unwrap_or(&self.nothing))
    }
}

impl Grants {
    /// Decides on a gRPC request's `:path`: one hash lookup, nothing allocated.
    pub fn decide(&self, path: &str) -> Verdict {
        let rpc = Rpc::of_path(path);
        let cell = rpc.and_then(|rpc| self.cells.get(rpc.index())).copied().unwrap_or_default();
        Verdict { rpc, allowed: cell.allowed, trial: cell.trial }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(policy: &Policy, name: &str, path: &str) -> bool {
        policy.of(&SpiffeId::of(name).unwrap()).decide(path).allowed
    }

    #[test]
    fn a_card_number_is_for_payments_only() {
        let policy = Policy::standard();
        for rpc in Rpc::all().filter(|rpc| rpc.reveals()) {
            let path = format!("/{rpc}");
            for (name, _) in table::GRANTS.iter().chain(&[("stranger", &[][..])]) {
                assert_eq!(allows(&policy, name, &path), *name == table::PAYMENTS, "{name} {path}");
            }
        }
    }

    #[test]
    fn what_is_not_granted_is_denied_and_a_grant_is_not_a_prefix() {
        let policy = Policy::standard();
        assert!(!allows(&policy, "stranger", "/grpc.health.v1.Health/Check"));
        assert!(allows(&policy, "operator", "/grpc.health.v1.Health/Check"));
        for path in [
            "",
            "/",
            "grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health/",
            "/grpc.health.v1.Health/*",
            "/grpc.health.v1.Health/*/x",
            "/grpc.health.v1.Health/Invented",
            "/grpc.health.v1.HealthX/Check",
            "//grpc.health.v1.Health/Check",
        ] {
            assert!(!allows(&policy, "operator", path), "{path}");
        }
    }

    #[test]
    fn what_is_on_trial_decides_nothing() {
        let mut trial = Rules::standard();
        trial.0.remove("operator");
        trial.0.insert("svc-new".into(), Rpc::all().collect());
        let policy = Policy::new(&Rules::standard(), Some(&trial));
        let path = "/grpc.health.v1.Health/Check";
        let decide = |name| policy.of(&SpiffeId::of(name).unwrap()).decide(path);
        let verdict = |allowed, trial| Verdict { rpc: Rpc::of_path(path), allowed, trial };
        assert_eq!(decide("operator"), verdict(true, false));
        assert_eq!(decide("svc-new"), verdict(false, true));
        assert_eq!(decide("svc-tax"), verdict(true, true));
        assert_eq!(decide("stranger"), verdict(false, false));
    }

    /// An annotated RPC that the edge may not call is a hole in the REST API.
    #[test]
    fn the_edge_may_call_what_is_annotated_and_no_more() {
        let policy = Policy::standard();
        let pool = paymesh_proto::descriptor_pool();
        let http = pool.get_extension_by_name("google.api.http").unwrap();
        for method in pool.services().flat_map(|s| s.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let annotated = method.options().has_extension(&http);
            assert_eq!(annotated, allows(&policy, "edge-gateway", &path), "{path}");
        }
    }
}
