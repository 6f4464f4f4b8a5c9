//! Who may call which RPC. What is not granted is denied.
//!
//! A policy is compiled when it is read: per workload one bit for each RPC of the contract, so that a
//! decision is one hash lookup. Knows nothing of connections, headers or files' whereabouts.

mod live;
mod rpcs;
mod table;

use std::{collections::HashMap, sync::Arc};

pub use live::PeerPolicy;
pub use rpcs::Rpc;

use crate::identity::SpiffeId;

/// Identity × RPC → allow. Deny by default.
#[derive(Debug)]
pub struct Policy {
    workloads: HashMap<Box<str>, Arc<Grants>>,
    /// Of workloads that the policy does not name.
    nothing: Arc<Grants>,
}

/// What one workload may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// By [`Rpc::index`].
    rules: Box<[Rule]>,
}

/// Whether one workload may call one RPC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rule {
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
    /// Whether the policy on trial (`mode = "dry_run"`) would let it go on. Without one, as `allowed`.
    pub trial: bool,
}

impl Verdict {
    /// The RPC's name in metrics and spans: one of the contract's, or `unknown`.
    pub fn name(self) -> &'static str {
        self.rpc.map_or("unknown", Rpc::name)
    }
}

impl Policy {
    /// The mesh's own table.
    pub fn standard() -> Self {
        Self::compile(table::GRANTS.iter().map(|(workload, rpcs)| (*workload, rpcs.iter().copied())))
    }

    /// Makes rules of grants, given as workload and patterns. A pattern that matches nothing grants nothing.
    fn compile<'a, R: IntoIterator<Item = &'a str>>(grants: impl IntoIterator<Item = (&'a str, R)>) -> Self {
        let mut workloads: HashMap<Box<str>, Grants> = HashMap::new();
        for (workload, patterns) in grants {
            let grants = workloads.entry(workload.into()).or_insert_with(Grants::nothing);
            for rpc in patterns.into_iter().flat_map(matching) {
                grants.rules[rpc.index()] = Rule { allowed: true, trial: true };
            }
        }
        let workloads = workloads.into_iter().map(|(name, grants)| (name, Arc::new(grants))).collect();
        Self { workloads, nothing: Arc::new(Grants::nothing()) }
    }

    /// What this workload may call.
    pub fn of(&self, peer: &SpiffeId) -> Arc<Grants> {
        Arc::clone(self.workloads.get(peer.name()).unwrap_or(&self.nothing))
    }
}

/// The RPCs that a pattern, `package.Service/Method` or `package.Service/*`, stands for.
fn matching(pattern: &str) -> impl Iterator<Item = Rpc> {
    let service = pattern.strip_suffix("/*");
    Rpc::all().filter(move |rpc| service.map_or(rpc.name() == pattern, |service| rpc.service() == service))
}

impl Grants {
    fn nothing() -> Self {
        Self { rules: vec![Rule::default(); Rpc::count()].into() }
    }

    /// Decides on a gRPC request's `:path`: one hash lookup, nothing allocated.
    pub fn decide(&self, path: &str) -> Verdict {
        let rpc = Rpc::of_path(path);
        let rule = rpc.and_then(|rpc| self.rules.get(rpc.index())).copied().unwrap_or_default();
        Verdict { rpc, allowed: rule.allowed, trial: rule.trial }
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

    /// A grant for an RPC that does not exist is a typing error; an annotated RPC that the edge may not
    /// call is a hole in the REST API.
    #[test]
    fn the_table_agrees_with_the_contract() {
        for (name, patterns) in table::GRANTS {
            for pattern in *patterns {
                assert!(
                    matching(pattern).next().is_some(),
                    "{name} is granted {pattern}, which does not exist"
                );
            }
        }
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
