//! Mutual TLS 1.3 between workloads: rustls with ring, peers known by SPIFFE id and not by host name,
//! certificates that are replaced while the process runs.

mod config;
mod material;
mod peer;
mod verify;
mod workload;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, atomic::AtomicI64},
    time::Duration,
};

use money::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use rustls::{ClientConfig, ServerConfig, pki_types::CertificateDer};
use tokio::sync::watch;

pub use self::{
    config::{IdentityConfig, IdentitySource},
    peer::{Parting, Peer},
    workload::ENDPOINT_VARIABLE,
};
use self::{material::Material, workload::WorkloadApi};
use crate::{
    clock::{Clock as _, SystemClock},
    drain::Drain,
    identity::SpiffeId,
    pki::{self, CertificateFiles, Lifetime, PkiError},
    watched::Watched,
};

/// How often a service looks at its certificate files. A change is used at the second look that finds
/// it, so at the latest after twice this time; peers have hours, as certificates overlap.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often a certificate that should have been renewed is complained of.
const COMPLAIN_EVERY_S: i64 = 3_600;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls refused the certificate or key.
    #[error("TLS: {0}")]
    Config(#[from] rustls::Error),
    /// The CA cannot be used to check clients.
    #[error("TLS: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The workload's certificate carries no SPIFFE id of this mesh.
    #[error("the workload's certificate has no SPIFFE id of this mesh in its only URI SAN")]
    NoIdentity,
    /// Everybody on this machine could be this workload.
    #[error(
        "{} holds the workload's key and is open to everybody: chmod o= it (of a Kubernetes Secret: \
         `defaultMode: 0440` and an fsGroup)",
        .0.display()
    )]
    OpenKey(PathBuf),
    /// The workload's certificate is no longer valid.
    #[error("the workload's certificate has expired: renew it")]
    Expired,
    /// The workload's certificate is not valid yet.
    #[error("the workload's certificate is not valid yet: compare this machine's clock with its issuer's")]
    NotYetValid,
    /// The new certificate is another workload's.
    #[error("the certificate is that of {found}, and this workload is {expected}")]
    OtherIdentity {
        /// Who the process is.
        expected: SpiffeId,
        /// Whom the certificate names.
        found: SpiffeId,
    },
    /// Neither files nor a Workload API, or both.
    #[error(
        "identity: give either ca, cert and key, or workload_api (or {ENDPOINT_VARIABLE} in the environment)"
    )]
    NoSource,
    /// The trust domain or namespace cannot be this process's.
    #[error("identity: {0}")]
    Join(#[from] crate::identity::JoinError),
    /// The address of the Workload API is not one.
    #[error("the Workload API's endpoint must be unix:///<absolute path of the agent's socket>")]
    Endpoint,
    /// The Workload API gave no certificate.
    #[error("the Workload API: {0}")]
    WorkloadApi(String),
    /// Where the peer is said to be is no address.
    #[error("the peer's address {0}")]
    Address(String),
    /// A file is not what it should be.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// A workload's certificate, key, and whom it trusts, as they are now. Cheap to clone: all clones see a
/// renewal at once.
#[derive(Clone)]
pub struct Identity {
    id: SpiffeId,
    material: Watched<Material>,
    agent: Option<WorkloadApi>,
    expires_in_s: Gauge<i64, AtomicI64>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id)
            .field("lifetime", &self.lifetime())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the PEM files. They must go together: the key with the certificate, the certificate with
    /// the CA bundle, and all of it now. [`Identity::keep`] follows them from then on.
    pub fn load(files: &CertificateFiles) -> Result<Self, TlsError> {
        let (of, first) = (files.clone(), OnceLock::<SpiffeId>::new());
        let read = move || {
            if is_open(&of.key) {
                // A key that is renewed is better used than left to expire.
                if first.get().is_none() {
                    return Err(TlsError::OpenKey(of.key.clone()));
                }
                let file = of.key.display();
                tracing::error!(%file, "the key is open to everybody: chmod o= it");
            }
            let material = Material::read(&of)?;
            material.check(SystemClock.now())?;
            let expected = first.get_or_init(|| material.id.clone());
            if *expected != material.id {
                let (expected, found) = (expected.clone(), material.id);
                return Err(TlsError::OtherIdentity { expected, found });
            }
            Ok(material)
        };
        let paths = vec![files.ca.clone(), files.cert.clone(), files.key.clone()];
        Ok(Self::of(Watched::load("certificates", paths, read)?, None))
    }

    /// As [`Identity::load`], but takes what a peer would refuse: to test that peers do.
    pub fn load_unchecked(files: &CertificateFiles) -> Result<Self, TlsError> {
        Ok(Self::of(Watched::fixed("certificates", Material::read(files)?), None))
    }

    /// Asks the SPIFFE Workload API at `endpoint` (`unix:///run/spire/agent.sock`), for up to a minute
    /// until it knows this workload. [`Identity::keep`] follows what it sends from then on.
    pub async fn from_workload_api(endpoint: &str) -> Result<Self, TlsError> {
        let agent = WorkloadApi::at(endpoint)?;
        let material = agent.first().await?;
        Ok(Self::of(Watched::fixed("certificates", material), Some(agent)))
    }

    fn of(material: Watched<Material>, agent: Option<WorkloadApi>) -> Self {
        let id = material.current().id.clone();
        Self { id, material, agent, expires_in_s: Gauge::default() }
    }

    /// Who this workload is. The same for as long as the process runs.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// From when until when the certificate holds that is in use now.
    pub fn lifetime(&self) -> Lifetime {
        self.material.current().lifetime
    }

    /// For the accepting side, to be asked for each connection: TLS 1.3 only, a client certificate of
    /// our CA required, HTTP/2 only.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.material.current().server_config()
    }

    /// For the calling side, to be asked for each connection: TLS 1.3 only, and the peer must be exactly
    /// the workload expected.
    pub fn client_config(&self, peer: &SpiffeId) -> Result<Arc<ClientConfig>, TlsError> {
        self.material.current().client_config(peer)
    }

    /// Counts the renewals of certificate, key or CA bundle: whoever waits on it hears of each. New
    /// connections use the new ones by themselves.
    pub fn renewed(&self) -> watch::Receiver<u64> {
        self.material.versions()
    }

    /// Whether a client with this chain would be let in now, by the CA bundle in use now.
    pub fn trusts_client(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> bool {
        self.material.current().trusts_client(chain, now).is_ok()
    }

    /// Seconds until the certificate in use expires; kept up to date by [`Identity::keep`].
    pub fn expiry_gauge(&self) -> Gauge<i64, AtomicI64> {
        self.expires_in_s.clone()
    }

    /// The worker that keeps the certificates in step with their files, or with the Workload API, and says
    /// in time when nobody renews them. Looks `every` so often; ends when the drain begins.
    pub async fn keep(self, every: Duration, drain: Drain) {
        let following = async {
            match &self.agent {
                Some(agent) => agent.follow(&self.material, &drain).await,
                None => self.material.clone().keep(every, drain.clone()).await,
            }
        };
        tokio::join!(following, self.watch_expiry(every, drain.clone()));
    }

    async fn watch_expiry(&self, every: Duration, drain: Drain) {
        let mut complained_at = None;
        loop {
            let (now, lifetime) = (SystemClock.now(), self.lifetime());
            let left_s = lifetime.left_s(now);
            self.expires_in_s.set(left_s);
            if complains(lifetime, now, &mut complained_at) {
                let id = &self.id;
                if left_s < 0 {
                    tracing::error!(%id, "the certificate has expired: peers refuse this workload");
                } else {
                    tracing::warn!(%id, left_s, "less than a third of the certificate's life is left");
                }
            }
            if drain.unless_started(tokio::time::sleep(every)).await.is_none() {
                return;
            }
        }
    }
}

/// A file that is not there is told of by who reads it.
fn is_open(key: &Path) -> bool {
    std::fs::metadata(key).is_ok_and(|about| pki::is_open_to_everybody(&about))
}

/// Whether it is time to complain (again) that a certificate has not been renewed.
fn complains(lifetime: Lifetime, now: Timestamp, complained_at: &mut Option<Timestamp>) -> bool {
    if !lifetime.is_due(now) {
        *complained_at = None;
        return false;
    }
    let since_s = |at: Timestamp| now.as_seconds().saturating_sub(at.as_seconds());
    let is_time = complained_at.is_none_or(|at| since_s(at) >= COMPLAIN_EVERY_S);
    if is_time {
        *complained_at = Some(now);
    }
    is_time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_everybody_may_read_is_refused_at_the_start() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let files = pki::CertificateAuthority::open_or_create(dir.path(), now)
            .unwrap()
            .issue("svc-tax", now)
            .unwrap();
        for (mode, is_refused) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = matches!(Identity::load(&files), Err(TlsError::OpenKey(_)));
            assert_eq!(refused, is_refused, "{mode:o}");
        }
    }

    #[test]
    fn a_certificate_that_nobody_renews_is_complained_of_every_hour() {
        let at = Timestamp::from_seconds;
        let lifetime = Lifetime { not_before: at(0), not_after: at(90_000) };
        let mut state = None;
        let complained: Vec<i64> =
            (0..100_000).step_by(600).filter(|now| complains(lifetime, at(*now), &mut state)).collect();
        assert_eq!(complained[..3], [60_600, 64_200, 67_800]);
        assert!(complained.last() > Some(&90_000), "also when it has expired");
        let renewed = Lifetime { not_before: at(96_000), not_after: at(200_000) };
        assert!(!complains(renewed, at(96_600), &mut state));
        assert!(state.is_none());
    }
}
