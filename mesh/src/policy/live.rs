//! The policy that is in use: read from its files, read again when they change, and seen by each
//! connection as what its own peer may call.

use std::{
    fs::File,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Grants, Policy, PolicyError, PolicyFile, Rules, Verdict, trial::Differences};
use crate::{drain::Drain, identity::SpiffeId, metrics::Metrics, watched::Watched};

/// Where the policy comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// A policy file (TOML); see `paymesh policy --help`. Default: none, and the built-in table decides.
    #[schemars(extend("x-file" = "public"), example = "policy.toml")]
    pub file: Option<PathBuf>,
    /// A policy file that decides nothing: what it would decide otherwise than `file`, or the built-in table
    /// without one, is logged and counted. Default: none.
    #[schemars(extend("x-file" = "public"), example = "policy.next.toml")]
    pub dry_run_file: Option<PathBuf>,
    /// How often the files are looked at, in milliseconds. Default: 5000. A change is in use once two looks in
    /// a row found it, so after twice that time at most; a file that cannot be used is logged, and the policy
    /// stays as it was.
    #[schemars(range(min = 1))]
    pub reload_ms: u64,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self { file: None, dry_run_file: None, reload_ms: 5_000 }
    }
}

impl PolicyConfig {
    /// Reads the files as a service does at its start: the rules that decide, and those on trial. An error
    /// names the setting.
    pub fn read(&self) -> Result<(Rules, Option<Rules>), (&'static str, PolicyError)> {
        let enforced = self.file.as_deref().map(PolicyFile::read).transpose();
        let trial = self.dry_run_file.as_deref().map(PolicyFile::read).transpose();
        let enforced = enforced.map_err(|error| ("file", error))?.unwrap_or_else(Rules::standard);
        Ok((enforced, trial.map_err(|error| ("dry_run_file", error))?))
    }

    /// Whether the files that are named are there to be read.
    pub(crate) fn are_there(&self) -> bool {
        [&self.file, &self.dry_run_file].into_iter().flatten().all(|file| File::open(file).is_ok())
    }

    /// As [`PolicyConfig::read`] while the service runs. A fault in what is on trial must not keep what decides
    /// as it was: somebody may be taking a grant away.
    fn read_again(&self) -> Result<Policy, PolicyError> {
        let (enforced, trial) = match self.read() {
            Err(("dry_run_file", error)) => {
                let error = error.to_string();
                tracing::error!(error, "the policy on trial cannot be used: nothing is tried");
                (Self { dry_run_file: None, ..self.clone() }.read().map_err(|(_, error)| error)?.0, None)
            }
            read => read.map_err(|(_, error)| error)?,
        };
        Ok(Policy::new(&enforced, trial.as_ref()))
    }
}

/// The policy in use and where its trials are told. Cheap to clone; all clones see the same policy.
#[derive(Clone)]
pub struct Policies {
    policy: Watched<Policy>,
    differences: Differences,
}

impl Policies {
    /// The policy of a service that counts in `metrics`.
    pub fn load(config: &PolicyConfig, metrics: &Metrics) -> Result<Self, PolicyError> {
        config.read().map_err(|(_, error)| error)?;
        let files: Vec<PathBuf> =
            [&config.file, &config.dry_run_file].into_iter().flatten().cloned().collect();
        let policy = if files.is_empty() {
            Watched::fixed("the policy", Policy::standard())
        } else {
            let config = config.clone();
            Watched::load("the policy", files, move || config.read_again())?
        };
        Ok(Self { policy, differences: Differences::new(metrics) })
    }

    /// Follows the files until the drain begins.
    pub async fn keep(self, every: Duration, drain: Drain) {
        self.policy.keep(every, drain).await;
    }

    /// What this peer may call.
    pub fn peer(&self, peer: SpiffeId) -> PeerPolicy {
        let compiled = ArcSwap::from_pointee(compile(&self.policy, &peer));
        PeerPolicy { peer, policies: self.clone(), compiled }
    }
}

/// What one peer may call, kept in step with the policy.
pub struct PeerPolicy {
    peer: SpiffeId,
    policies: Policies,
    compiled: ArcSwap<Compiled>,
}

struct Compiled {
    grants: Arc<Grants>,
    /// Says when the policy is another one.
    version: watch::Receiver<u64>,
}

impl PeerPolicy {
    /// Who the peer is.
    pub fn peer(&self) -> &SpiffeId {
        &self.peer
    }

    /// Decides on a gRPC request's `:path` by the policy as it is now.
    pub fn decide(&self, path: &str) -> Verdict {
        let compiled = self.compiled.load();
        // An error says that nobody can change the policy any more.
        let verdict = if compiled.version.has_changed().unwrap_or(false) {
            let fresh = Arc::new(compile(&self.policies.policy, &self.peer));
            self.compiled.store(Arc::clone(&fresh));
            fresh.grants.decide(path)
        } else {
            compiled.grants.decide(path)
        };
        if verdict.allowed != verdict.trial {
            self.policies.differences.note(&self.peer, verdict, Instant::now());
        }
        verdict
    }
}

/// The version is taken first: a change in between is then seen as one, and not missed.
fn compile(policy: &Watched<Policy>, peer: &SpiffeId) -> Compiled {
    let version = policy.versions();
    Compiled { grants: policy.current().of(peer), version }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PATH: &str = "/paymesh.tax.v1.TaxService/Calculate";

    fn text(workload: &str) -> String {
        let rpcs = r#"rpcs = ["paymesh.tax.v1.TaxService/*"]"#;
        format!("[[grant]]\nworkload = \"{workload}\"\n{rpcs}\n")
    }

    struct Ground {
        dir: tempfile::TempDir,
        config: PolicyConfig,
        metrics: Metrics,
        policies: Policies,
    }

    impl Ground {
        /// `file` is enforced, `trial` is tried.
        fn new(file: Option<&str>, trial: Option<&str>) -> Result<Self, PolicyError> {
            let dir = tempfile::tempdir().unwrap();
            let write = |name: &str, text: Option<&str>| {
                let path = dir.path().join(name);
                fs::write(&path, text?).unwrap();
                Some(path)
            };
            let (file, dry_run_file) = (write("policy.toml", file), write("next.toml", trial));
            let config = PolicyConfig { file, dry_run_file, ..PolicyConfig::default() };
            let metrics = Metrics::new("svc-test");
            let policies = Policies::load(&config, &metrics)?;
            Ok(Self { dir, config, metrics, policies })
        }

        fn peer(&self, name: &str) -> PeerPolicy {
            self.policies.peer(SpiffeId::of(name).unwrap())
        }

        /// Replaces a file in one step and waits until it is in use.
        async fn replace(&self, name: &str, text: &str) {
            let mut versions = self.policies.policy.versions();
            let drain = Drain::new();
            let keeping = tokio::spawn(self.policies.clone().keep(Duration::from_millis(1), drain.clone()));
            let new = self.dir.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, self.dir.path().join(name)).unwrap();
            tokio::time::timeout(Duration::from_secs(10), versions.changed()).await.unwrap().unwrap();
            drain.start();
            keeping.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_changed_file_holds_for_connections_that_are_open() {
        let ground = Ground::new(Some(&text("svc-a")), None).unwrap();
        let (a, b) = (ground.peer("svc-a"), ground.peer("svc-b"));
        assert!(a.decide(PATH).allowed && !b.decide(PATH).allowed);
        ground.replace("policy.toml", &text("svc-b")).await;
        assert!(!a.decide(PATH).allowed && b.decide(PATH).allowed);
    }

    #[tokio::test]
    async fn what_is_on_trial_is_counted_and_decides_nothing_also_after_a_restart() {
        let ground = Ground::new(Some(&text("svc-a")), Some(&text("svc-a"))).unwrap();
        ground.replace("next.toml", &text("svc-b")).await;
        let restarted = Policies::load(&ground.config, &Metrics::new("svc-test")).unwrap();
        for policies in [&ground.policies, &restarted] {
            let decide = |name| policies.peer(SpiffeId::of(name).unwrap()).decide(PATH).allowed;
            assert!(decide("svc-a") && !decide("svc-b"));
            assert!(!decide("svc-payments"), "the built-in table does not come back");
        }
        let counted = ground.metrics.text();
        for (workload, would) in [("svc-a", "deny"), ("svc-b", "allow")] {
            let labels = format!(r#"workload="{workload}",rpc="{}",would="{would}"}} 1"#, &PATH[1..]);
            assert!(counted.contains(&labels), "{counted}");
        }
    }

    #[test]
    fn a_file_on_trial_alone_leaves_the_built_in_table_in_force() {
        let ground = Ground::new(None, Some(&text("svc-a"))).unwrap();
        assert!(!ground.peer("svc-a").decide(PATH).allowed);
        assert!(ground.peer("svc-payments").decide(PATH).allowed);
    }

    #[tokio::test]
    async fn a_fault_in_what_is_on_trial_does_not_hold_up_what_decides() {
        let ground = Ground::new(Some(&text("svc-a")), Some(&text("svc-a"))).unwrap();
        ground.replace("next.toml", "none").await;
        ground.replace("policy.toml", &text("svc-b")).await;
        assert!(!ground.peer("svc-a").decide(PATH).allowed && ground.peer("svc-b").decide(PATH).allowed);
    }

    /// What keeps the old policy in use is an error here; see `watched`.
    #[test]
    fn a_file_that_cannot_be_used_is_an_error_that_names_it() {
        let ground = Ground::new(Some(&text("svc-a")), Some(&text("svc-a"))).unwrap();
        for bad in ["", "[[grant]]\nworkload = \"svc-b\"\nrpcs = [\"no.Such/Rpc\"]"] {
            fs::write(ground.dir.path().join("policy.toml"), bad).unwrap();
            let error = ground.config.read_again().unwrap_err().to_string();
            assert!(error.contains("policy.toml: grant"), "{error}");
            let error = Ground::new(None, Some(bad)).err().unwrap().to_string();
            assert!(error.contains("next.toml: grant"), "{error}");
        }
    }
}
