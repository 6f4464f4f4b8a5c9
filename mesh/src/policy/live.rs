//! The policy that is in use: read from its file, read again when the file changes, and seen by each
//! connection as what its own peer may call.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Grants, Mode, Policy, PolicyError, PolicyFile, Rules, Verdict, trial::Differences};
use crate::{drain::Drain, identity::SpiffeId, metrics::Metrics, watched::Watched};

/// Where the policy comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// A policy file (TOML); see `paymesh policy --help`. Default: none, and the built-in table decides.
    pub file: Option<PathBuf>,
    /// How often the file is looked at, in milliseconds. Default: 5000. A change is in use after that time
    /// at most; a file that cannot be used is logged, and the policy stays as it was.
    pub reload_ms: u64,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self { file: None, reload_ms: 5_000 }
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
        let policy = match config.file.clone() {
            None => Watched::fixed("the policy", Policy::standard()),
            Some(file) => {
                let enforced = Mutex::new(Rules::standard());
                let read = move || read(&file, &enforced);
                Watched::load("the policy", config.file.iter().cloned().collect(), read)?
            }
        };
        Ok(Self { policy, differences: Differences::new(metrics) })
    }

    /// Follows the file until the drain begins.
    pub async fn keep(self, every: Duration, drain: Drain) {
        self.policy.keep(every, drain).await;
    }

    /// What this peer may call.
    pub fn peer(&self, peer: SpiffeId) -> PeerPolicy {
        let compiled = ArcSwap::from_pointee(compile(&self.policy, &peer));
        PeerPolicy { peer, policies: self.clone(), compiled }
    }
}

/// Reads the file. `enforced` are the rules that decide while a file is on trial.
fn read(file: &Path, enforced: &Mutex<Rules>) -> Result<Policy, PolicyError> {
    let fault = |text: String| PolicyError(vec![format!("{}: {text}", file.display())]);
    let text = fs::read_to_string(file).map_err(|error| fault(error.to_string()))?;
    let (mode, rules) = PolicyFile::parse(&text).map_err(|error| fault(error.to_string()))?;
    let mut enforced = enforced.lock().map_err(|_| fault("an earlier reading panicked".to_owned()))?;
    if mode == Mode::DryRun {
        return Ok(Policy::new(&enforced, Some(&rules)));
    }
    *enforced = rules;
    Ok(Policy::new(&enforced, None))
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
    use super::*;

    const PATH: &str = "/paymesh.tax.v1.TaxService/Calculate";

    fn text(mode: &str, workload: &str) -> String {
        let rpcs = r#"rpcs = ["paymesh.tax.v1.TaxService/*"]"#;
        format!("mode = \"{mode}\"\n[[grant]]\nworkload = \"{workload}\"\n{rpcs}\n")
    }

    struct Ground {
        _dir: tempfile::TempDir,
        file: PathBuf,
        metrics: Metrics,
        policies: Policies,
    }

    impl Ground {
        fn new(text: &str) -> Result<Self, PolicyError> {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("policy.toml");
            fs::write(&file, text).unwrap();
            let metrics = Metrics::new("svc-test");
            let config = PolicyConfig { file: Some(file.clone()), ..PolicyConfig::default() };
            let policies = Policies::load(&config, &metrics)?;
            Ok(Self { _dir: dir, file, metrics, policies })
        }

        fn peer(&self, name: &str) -> PeerPolicy {
            self.policies.peer(SpiffeId::of(name).unwrap())
        }

        /// Replaces the file in one step and waits until it is in use.
        async fn replace(&self, text: &str) {
            let mut versions = self.policies.policy.versions();
            let drain = Drain::new();
            let keeping = tokio::spawn(self.policies.clone().keep(Duration::from_millis(1), drain.clone()));
            let new = self.file.with_extension("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, &self.file).unwrap();
            tokio::time::timeout(Duration::from_secs(10), versions.changed()).await.unwrap().unwrap();
            drain.start();
            keeping.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_changed_file_holds_for_connections_that_are_open() {
        let ground = Ground::new(&text("enforce", "svc-a")).unwrap();
        let (a, b) = (ground.peer("svc-a"), ground.peer("svc-b"));
        assert!(a.decide(PATH).allowed && !b.decide(PATH).allowed);
        ground.replace(&text("enforce", "svc-b")).await;
        assert!(!a.decide(PATH).allowed && b.decide(PATH).allowed);
    }

    #[tokio::test]
    async fn on_trial_the_last_enforced_file_decides_and_what_would_differ_is_counted() {
        let ground = Ground::new(&text("enforce", "svc-a")).unwrap();
        let (a, b) = (ground.peer("svc-a"), ground.peer("svc-b"));
        ground.replace(&text("dry_run", "svc-b")).await;
        assert!(a.decide(PATH).allowed && !b.decide(PATH).allowed);
        let counted = ground.metrics.text();
        for (workload, would) in [("svc-a", "deny"), ("svc-b", "allow")] {
            let labels = format!(r#"workload="{workload}",rpc="{}",would="{would}"}} 1"#, &PATH[1..]);
            assert!(counted.contains(&labels), "{counted}");
        }
    }

    #[test]
    fn a_first_file_on_trial_leaves_the_built_in_table_in_force() {
        let ground = Ground::new(&text("dry_run", "svc-a")).unwrap();
        assert!(!ground.peer("svc-a").decide(PATH).allowed);
        assert!(ground.peer("svc-payments").decide(PATH).allowed);
    }

    /// What keeps the old policy in use is an error here; see `watched`.
    #[test]
    fn a_file_that_cannot_be_used_is_an_error_that_names_it_and_changes_nothing() {
        let ground = Ground::new(&text("enforce", "svc-a")).unwrap();
        let enforced = Mutex::new(Rules::standard());
        for bad in ["", "[[grant]]\nworkload = \"svc-b\"\nrpcs = [\"no.Such/Rpc\"]"] {
            fs::write(&ground.file, bad).unwrap();
            let error = read(&ground.file, &enforced).unwrap_err().to_string();
            assert!(error.contains("policy.toml: grant"), "{error}");
        }
        assert_eq!(*enforced.lock().unwrap(), Rules::standard());
    }
}
