//! Starts and stops the whole mesh within this process.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use edge_gateway::{ApiKeyConfig, Edge, EdgeConfig};
use mesh::{
    Clock as _, Drain, Ids as _, Launch, RandomIds, Running, Service, Settings, StartError, SystemClock,
    pki::{CertificateAuthority, write_file},
    server,
    tls::{Identity, TlsError},
};
use tokio::net::TcpListener;

use crate::{
    args::{ApiKey, DEV_TENANT},
    certs,
    describe::{Description, Pki},
    rest::Rest,
};

/// Every service, in the order in which they are started. They are stopped in the opposite order, so
/// that nobody loses a service that it still needs.
pub const SERVICES: [&str; 6] =
    ["svc-crypto", "svc-ledger", "svc-fraud", "svc-tax", "svc-payments", "edge-gateway"];

/// How long the mesh may take until every service says SERVING.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// How often it is looked whether a certificate is due: a third of its 30 days is left to try again in.
const RENEW_EVERY: Duration = Duration::from_secs(3_600);

/// What a mesh is started with.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// Where certificates, state and dev.json are kept.
    pub data_dir: PathBuf,
    /// Where the edge listens.
    pub edge_addr: SocketAddr,
    /// Who may call the edge. None: a key is made and kept.
    pub api_keys: Vec<ApiKey>,
    /// Ports of services that should not be free ones.
    pub ports: BTreeMap<String, u16>,
    /// How long a processor call may take, in milliseconds; `None` for the service's default.
    pub processor_timeout_ms: Option<u64>,
}

impl DevOptions {
    /// A mesh in this directory on free ports.
    pub fn on_free_ports(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            edge_addr: (Ipv4Addr::LOCALHOST, 0).into(),
            api_keys: Vec::new(),
            ports: BTreeMap::new(),
            processor_timeout_ms: None,
        }
    }
}

/// Why the mesh did not start.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A service did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Another mesh has this data directory.
    #[error("another paymesh is running on {0}: stop it, or choose another directory with --data-dir")]
    InUse(String),
    /// The edge's address cannot be had.
    #[error("the edge's address {address}: {source}; choose another one with --edge-addr")]
    EdgeAddress {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not every service said SERVING in time.
    #[error("the mesh did not become ready in {seconds} s: {0}", seconds = READY_DEADLINE.as_secs())]
    NotReady(String),
}

impl From<TlsError> for DevError {
    fn from(error: TlsError) -> Self {
        Self::Start(error.into())
    }
}

/// A running mesh.
pub struct Dev {
    description: Description,
    running: Vec<Running>,
    /// Told to the duties that are no service's.
    drain: Drain,
    /// Held as long as the mesh runs.
    _lock: fs::File,
}

struct Sockets {
    rpc: TcpListener,
    admin: TcpListener,
}

/// What all services of a mesh are started with.
struct Ground<'a> {
    data_dir: &'a Path,
    authority: CertificateAuthority,
    upstreams: BTreeMap<String, String>,
    sockets: BTreeMap<&'static str, Sockets>,
    running: Vec<Running>,
}

impl Dev {
    /// Starts every service and waits until all of them are serving.
    pub async fn start(options: DevOptions) -> Result<Self, DevError> {
        let io = |what: &str| StartError::io(format!("{what} {}", options.data_dir.display()));
        // Its owner's alone: keys are in it.
        let mut directory = fs::DirBuilder::new();
        directory.recursive(true).mode(0o700).create(&options.data_dir).map_err(io("the data directory"))?;
        let data_dir = fs::canonicalize(&options.data_dir).map_err(io("the data directory"))?;
        let lock = mesh::service::lock(&data_dir).map_err(|error| match error {
            StartError::InUse(path) => DevError::InUse(path.display().to_string()),
            other => other.into(),
        })?;

        let edge = server::bind(options.edge_addr)
            .map_err(|source| DevError::EdgeAddress { address: options.edge_addr, source })?;
        let edge_address = edge.local_addr().map_err(io("the edge's address for"))?;
        let keys = keys(&options, &data_dir)?;
        let authority = CertificateAuthority::open_or_create(&data_dir.join("pki"), SystemClock.now())
            .map_err(TlsError::from)?;
        let operator = authority.issue("operator", SystemClock.now()).map_err(TlsError::from)?;

        let sockets = bind_all(&options.ports)?;
        let (services, admin) = addresses(&sockets)?;
        let mut ground = Ground {
            data_dir: &data_dir,
            authority,
            upstreams: services.clone(),
            sockets,
            running: Vec::new(),
        };
        ground.start::<svc_crypto::Crypto>(svc_crypto::config::Config::default()).await?;
        ground.start::<svc_ledger::Ledger>(svc_ledger::Config::default()).await?;
        let fraud = svc_fraud::Config::development().map_err(StartError::Config)?;
        ground.start::<svc_fraud::Fraud>(fraud).await?;
        ground.start::<svc_tax::Tax>(svc_tax::Config::default()).await?;
        let mut payments = svc_payments::config::Config::default();
        if let Some(timeout) = options.processor_timeout_ms {
            payments.processor_timeout_ms = timeout;
        }
        ground.start::<svc_payments::Payments>(payments).await?;
        let edge_config = EdgeConfig {
            listener: Some(edge),
            api_keys: keys
                .iter()
                .map(|k| ApiKeyConfig::of_key(k.tenant.clone(), k.tenant.as_str(), &k.key))
                .collect(),
            ready_services: SERVICES
                .iter()
                .filter(|name| name.starts_with("svc-"))
                .map(ToString::to_string)
                .collect(),
            ..EdgeConfig::default()
        };
        ground.start::<Edge>(edge_config).await?;

        let description = Description {
            edge_url: format!("http://{edge_address}"),
            api_key: keys.first().map(|key| key.key.clone()).unwrap_or_default(),
            services,
            admin,
            pki: Pki { ca: operator.ca, operator_cert: operator.cert, operator_key: operator.key },
        };
        let drain = Drain::new();
        tokio::spawn(keep_renewed(data_dir.join("pki"), drain.clone()));
        let mesh = Self { description, running: ground.running, drain, _lock: lock };
        mesh.wait_until_ready().await?;
        mesh.description.write(&data_dir).map_err(io("dev.json in"))?;
        Ok(mesh)
    }

    /// What `dev.json` says.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Waits until a service has failed, and says which.
    pub async fn failed(&self) -> &'static str {
        let mut watched = tokio::task::JoinSet::new();
        for service in &self.running {
            let (name, failed) = (service.name, service.failed());
            watched.spawn(async move {
                failed.await;
                name
            });
        }
        match watched.join_next().await {
            Some(Ok(name)) => name,
            _ => std::future::pending().await,
        }
    }

    async fn wait_until_ready(&self) -> Result<(), DevError> {
        let rest = Rest::new(&self.description);
        let ready = async {
            while !rest.get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(READY_DEADLINE, ready).await.is_ok() {
            return Ok(());
        }
        let answer = rest.get("/readyz").await.map(|answer| answer.body.to_string());
        Err(DevError::NotReady(answer.unwrap_or_else(|error| error.to_string())))
    }

    /// Stops every service: the edge first, then whatever it needed.
    pub async fn stop(self) {
        self.drain.start();
        for service in self.running.into_iter().rev() {
            service.stop().await;
        }
    }
}

/// Makes certificates anew before they expire, for as long as the mesh runs; the services follow the files.
async fn keep_renewed(pki: PathBuf, drain: Drain) {
    loop {
        let dir = pki.clone();
        let renewed = tokio::task::spawn_blocking(move || certs::renew_due(&dir, SystemClock.now())).await;
        match renewed {
            Ok(Ok(names)) if names.is_empty() => {}
            Ok(Ok(names)) => tracing::info!(?names, "certificates were renewed"),
            Ok(Err(error)) => tracing::warn!(%error, "certificates could not be renewed; trying again"),
            Err(error) => tracing::error!(%error, "the renewal of certificates failed; trying again"),
        }
        if drain.unless_started(tokio::time::sleep(RENEW_EVERY)).await.is_none() {
            return;
        }
    }
}

impl Ground<'_> {
    async fn start<S: Service>(&mut self, config: S::Config) -> Result<(), DevError> {
        let Some(sockets) = self.sockets.remove(S::NAME) else {
            return Err(StartError::Config(format!("no address was set aside for {}", S::NAME)).into());
        };
        let files = self.authority.issue(S::NAME, SystemClock.now()).map_err(TlsError::from)?;
        let launch = Launch {
            settings: Settings {
                data_dir: self.data_dir.join(S::NAME),
                upstreams: self.upstreams.clone(),
                reflection: true,
                ..Settings::default()
            },
            transport: Identity::load(&files)?.into(),
            rpc: sockets.rpc,
            admin: sockets.admin,
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            drain: Drain::new(),
        };
        self.running.push(mesh::start::<S>(config, launch).await?);
        Ok(())
    }
}

/// The keys given; else the one that was made at the first start, in a file of its own.
fn keys(options: &DevOptions, data_dir: &Path) -> Result<Vec<ApiKey>, DevError> {
    if !options.api_keys.is_empty() {
        return Ok(options.api_keys.clone());
    }
    let path = data_dir.join("api-key");
    let key = match fs::read_to_string(&path) {
        Ok(key) => key.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // The random tails of two ids: 124 bits.
            let tail = || RandomIds.uuid_v7(SystemClock.now()).as_u64_pair().1;
            let key = format!("pk_dev_{:016x}{:016x}", tail(), tail());
            write_file(&path, &format!("{key}\n"), 0o600).map_err(TlsError::from)?;
            key
        }
        Err(source) => return Err(StartError::io(path.display().to_string())(source).into()),
    };
    let tenant = DEV_TENANT.parse().map_err(|error| StartError::Config(format!("the tenant {error}")))?;
    Ok(vec![ApiKey { tenant, key }])
}

fn bind_all(ports: &BTreeMap<String, u16>) -> Result<BTreeMap<&'static str, Sockets>, DevError> {
    let bind = |name: &str, port: u16| {
        server::bind((Ipv4Addr::LOCALHOST, port).into())
            .map_err(StartError::io(format!("port {port} for {name}")))
    };
    let mut sockets = BTreeMap::new();
    for name in SERVICES {
        let port = ports.get(name).copied().unwrap_or(0);
        sockets.insert(name, Sockets { rpc: bind(name, port)?, admin: bind(name, 0)? });
    }
    Ok(sockets)
}

type Addresses = BTreeMap<String, String>;

fn addresses(sockets: &BTreeMap<&'static str, Sockets>) -> Result<(Addresses, Addresses), DevError> {
    let (mut rpc, mut admin) = (Addresses::new(), Addresses::new());
    let address =
        |listener: &TcpListener| listener.local_addr().map_err(StartError::io("a listener's address"));
    for (name, sockets) in sockets {
        rpc.insert((*name).to_owned(), address(&sockets.rpc)?.to_string());
        admin.insert((*name).to_owned(), address(&sockets.admin)?.to_string());
    }
    Ok((rpc, admin))
}

#[cfg(test)]
mod tests {
    use mesh::{SpiffeId, pki::Validity};

    use super::*;

    #[tokio::test]
    async fn what_is_due_is_renewed_without_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::open_or_create(dir.path(), SystemClock.now()).unwrap();
        let id = SpiffeId::of("svc-tax").unwrap();
        let due = Validity { from_s: -86_400, until_s: 3_600 };
        let files = authority.issue_for("svc-tax", &id, SystemClock.now(), due).unwrap();
        let identity = Identity::load(&files).unwrap();
        let (mut renewed, drain) = (identity.renewed(), Drain::new());
        let keeping = tokio::spawn(identity.clone().keep(Duration::from_millis(2), drain.clone()));
        let renewing = tokio::spawn(keep_renewed(dir.path().to_owned(), drain.clone()));
        tokio::time::timeout(READY_DEADLINE, renewed.changed()).await.unwrap().unwrap();
        assert!(!identity.lifetime().is_due(SystemClock.now()));
        drain.start();
        keeping.await.unwrap();
        renewing.await.unwrap();
    }
}
