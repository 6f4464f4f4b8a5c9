//! For tests: a real service behind real mTLS on a free port, with a CA of its own in a directory that
//! the test gives.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path, sync::Arc};

use crate::{
    call::Call,
    client::{Upstream, UpstreamSettings},
    clock::{Clock, Ids, RandomIds, SystemClock},
    drain::Drain,
    identity::SpiffeId,
    pki::{CertificateAuthority, CertificateFiles},
    server,
    service::{Launch, Running, Service, Settings, StartError, start},
    tls::{Identity, TlsError},
};

/// Starts services for a test.
pub struct Harness {
    dir: std::path::PathBuf,
    authority: CertificateAuthority,
    upstreams: BTreeMap<String, String>,
    clock: Arc<dyn Clock>,
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
        Ok(Self { dir: dir.to_owned(), authority, upstreams: BTreeMap::new(), clock })
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
        let launch = Launch {
            settings: Settings {
                data_dir: self.dir.join(S::NAME),
                upstreams: self.upstreams.clone(),
                reflection: true,
                client: UpstreamSettings::default(),
                clients: BTreeMap::new(),
                in_flight_max: 1_024,
                ..Settings::default()
            },
            identity: Identity::load(&self.certificate(S::NAME)?)?,
            rpc: free()?,
            admin: free()?,
            clock: Arc::clone(&self.clock),
            ids: Arc::new(RandomIds),
            drain: Drain::new(),
        };
        let running = start::<S>(config, launch).await?;
        self.upstreams.insert(S::NAME.to_owned(), running.address.to_string());
        Ok(running)
    }

    /// Says where a service is that was not started by this harness, or is a stand-in.
    pub fn add_upstream(&mut self, name: &str, address: &str) {
        self.upstreams.insert(name.to_owned(), address.to_owned());
    }

    /// A way to call a started service as the workload `caller`.
    pub fn upstream(&self, caller: &str, service: &Running) -> Result<Upstream, StartError> {
        let identity = Identity::load(&self.certificate(caller)?)?;
        Ok(Upstream::new(&identity, &SpiffeId::of(service.name)?, &service.address.to_string())?)
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
