//! For tests: a real service behind real mTLS on a free port, with a CA of its own in a directory that
//! the test gives; or behind stand-ins for the Linkerd proxy.

pub mod linkerd;
pub mod log;
pub mod postgres;
pub mod way;
pub mod writes;

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path, sync::Arc};

use crate::{
    call::Call,
    client::{Upstream, UpstreamSettings},
    clock::{Clock, Ids, RandomIds, SystemClock},
    drain::Drain,
    identity::{NAMESPACE, SpiffeId},
    linkerd::{Linkerd, LinkerdConfig},
    pki::{CertificateAuthority, CertificateFiles},
    policy::PolicyConfig,
    server,
    service::{Launch, Running, Service, Settings, StartError, start},
    tls::{Identity, TlsError},
    transport::Transport,
};

/// Starts services for a test.
pub struct Harness {
    dir: std::path::PathBuf,
    authority: CertificateAuthority,
    upstreams: BTreeMap<String, String>,
    clock: Arc<dyn Clock>,
    policy: PolicyConfig,
    behind_linkerd: bool,
    distrusts_loopback: bool,
}

impl Harness {
    /// A harness that keeps certificates and data below `dir`.
    pub fn new(dir: &Path) -> Result<Self, StartError> {
        Self::with_clock(dir, Arc::new(SystemClock))
    }

    /// A harness whose services are told the time by `clock`. Certificates follow the machine's.
    pub fn with_clock(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let authority = CertificateAuthority::open_or_create(&dir.join("pki"), SystemClock.now())
            .map_err(TlsError::from)?;
        let (policy, upstreams) = (PolicyConfig::default(), BTreeMap::new());
        Ok(Self {
            dir: dir.to_owned(),
            authority,
            upstreams,
            clock,
            policy,
            behind_linkerd: false,
            distrusts_loopback: false,
        })
    }

    /// From now on services are started in the mode `linkerd`, each beside stand-ins for its proxy: one for
    /// what comes in, and one for each service that it calls.
    #[must_use]
    pub fn behind_linkerd(mut self) -> Self {
        self.behind_linkerd = true;
        self
    }

    /// From now on services do not take who comes from loopback for the proxy, which is the default outside
    /// tests.
    #[must_use]
    pub fn distrusting_loopback(mut self) -> Self {
        self.distrusts_loopback = true;
        self
    }

    /// From now on services are started with this policy.
    #[must_use]
    pub fn with_policy(mut self, policy: PolicyConfig) -> Self {
        self.policy = policy;
        self
    }

    /// The CA, to make certificates that should not work.
    pub fn authority(&self) -> &CertificateAuthority {
        &self.authority
    }

    /// A certificate for a workload.
    pub fn certificate(&self, name: &str) -> Result<CertificateFiles, StartError> {
        Ok(self.authority.issue(name, SystemClock.now()).map_err(TlsError::from)?)
    }

    /// Starts a service on free ports; those started before are its upstreams.
    pub async fn start<S: Service>(&mut self, config: S::Config) -> Result<Running, StartError> {
        let free = || server::bind((Ipv4Addr::LOCALHOST, 0).into()).map_err(StartError::io("a free port"));
        let identity = Identity::load(&self.certificate(S::NAME)?)?;
        let mut upstreams = self.upstreams.clone();
        if self.behind_linkerd {
            for (name, address) in &mut upstreams {
                let to = address.parse().map_err(|_| StartError::Config(format!("upstreams.{name}")))?;
                let proxy = linkerd::outbound(identity.clone(), SpiffeId::of(name)?, to).await;
                *address = proxy.map_err(StartError::io("a stand-in for the Linkerd proxy"))?.to_string();
            }
        }
        let transport = if self.behind_linkerd {
            // The stand-in takes what comes for HTTP/2 only, and is on loopback as everything in a test.
            let config = LinkerdConfig {
                grpc_server_resource: true,
                trust_loopback: !self.distrusts_loopback,
                ..LinkerdConfig::default()
            };
            let mode = Linkerd::new(identity.id().clone(), NAMESPACE, &config);
            Transport::Linkerd(mode.map_err(|error| StartError::Config(error.to_string()))?)
        } else {
            identity.clone().into()
        };
        let launch = Launch {
            settings: Settings {
                data_dir: self.dir.join(S::NAME),
                upstreams,
                policy: self.policy.clone(),
                reflection: true,
                client: UpstreamSettings::default(),
                clients: BTreeMap::new(),
                in_flight_max: 1_024,
                ..Settings::default()
            },
            transport,
            rpc: free()?,
            admin: free()?,
            clock: Arc::clone(&self.clock),
            ids: Arc::new(RandomIds),
            drain: Drain::new(),
        };
        let running = start::<S>(config, launch).await?;
        let address = if self.behind_linkerd {
            linkerd::inbound(Some(identity), running.address)
                .await
                .map_err(StartError::io("a stand-in for the Linkerd proxy"))?
        } else {
            running.address
        };
        self.upstreams.insert(S::NAME.to_owned(), address.to_string());
        Ok(running)
    }

    /// Says where a service is that was not started by this harness, or is a stand-in.
    pub fn add_upstream(&mut self, name: &str, address: &str) {
        self.upstreams.insert(name.to_owned(), address.to_owned());
    }

    /// A way to call a started service as the workload `caller`.
    pub fn upstream(&self, caller: &str, service: &Running) -> Result<Upstream, StartError> {
        let identity = Identity::load(&self.certificate(caller)?)?;
        let address = service.address.to_string();
        let address = self.upstreams.get(service.name).filter(|_| self.behind_linkerd).unwrap_or(&address);
        Ok(Upstream::new(&identity, &SpiffeId::of(service.name)?, address)?)
    }
}

/// A call that a test starts for a tenant; `call.request(message)` carries its metadata.
///
/// # Panics
/// If the tenant's name is not one.
#[allow(clippy::expect_used)]
pub fn call_of(tenant: &str) -> Call {
    let fresh = RandomIds.uuid_v7(SystemClock.now());
    Call::begin(
        SpiffeId::of("operator").expect("a legal name"),
        Some(tenant.parse().expect("a tenant's name")),
        fresh,
    )
}
