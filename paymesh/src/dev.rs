//! Starts and stops the whole mesh within this process.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use edge_gateway::{ApiKeyConfig, Edge, EdgeConfig};
use mesh::{
    Clock as _, Drain, Ids as _, Launch, RandomIds, Running, Service, StartError, SystemClock,
    config::{Loaded, Sources},
    pki::{CertificateAuthority, write_file},
    server,
    tls::{Identity, TlsError},
};
use schemars::JsonSchema;
use tokio::net::TcpListener;

use crate::{
    args::{ApiKey, DEV_TENANT},
    certs, config,
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
    /// Who may call the edge, beside those that are configured. None: a key is made and kept.
    pub api_keys: Vec<ApiKey>,
    /// What is configured, over what `dev` starts from.
    pub sources: Sources,
}

/// What is shown as the origin of what `dev` starts from.
const BY: &str = "paymesh dev";

impl DevOptions {
    /// A mesh in this directory on free ports.
    pub fn on_free_ports(data_dir: &Path) -> Self {
        let mut sources = Sources::default();
        sources.flag("--edge-addr", &["edge-gateway", "listen"], "127.0.0.1:0");
        Self { data_dir: data_dir.to_owned(), api_keys: Vec::new(), sources }
    }

    /// Reads the configuration, laid over what `dev` starts from: addresses on the loopback, certificates
    /// of its own CA, and directories below its own. These are each service's own, hence over `[mesh]`: one
    /// machine cannot give all services the same.
    pub fn load(&self) -> Result<Loaded, StartError> {
        let dir = std::path::absolute(&self.data_dir).map_err(StartError::io("the data directory"))?;
        let path = |parts: &[&str]| {
            parts.iter().fold(dir.clone(), |path, part| path.join(part)).to_string_lossy().into_owned()
        };
        let mut sources = self.sources.clone();
        for name in SERVICES {
            let mut say = |path: &[&str], value: String| sources.supply(BY, &[&[name], path].concat(), value);
            say(&["rpc_listen"], "127.0.0.1:0".to_owned());
            say(&["admin_listen"], "127.0.0.1:0".to_owned());
            say(&["identity", "ca"], path(&["pki", "ca.pem"]));
            say(&["identity", "cert"], path(&["pki", &format!("{name}.pem")]));
            say(&["identity", "key"], path(&["pki", &format!("{name}.key")]));
            say(&["settings", "data_dir"], path(&[name]));
        }
        sources.supply(BY, &["mesh", "settings", "reflection"], true);
        sources.supply(BY, &["mesh", "telemetry", "log"], "warn");
        sources.supply(BY, &["edge-gateway", "listen"], "127.0.0.1:8080");
        let asked: Vec<&str> = SERVICES.into_iter().filter(|name| name.starts_with("svc-")).collect();
        sources.supply(BY, &["edge-gateway", "ready_services"], asked);
        Ok(config::tree().load(&sources)?)
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

/// Where the edge takes HTTP without TLS. The readiness check and the commands beside `dev` speak that alone.
fn plain_address(edge: &EdgeConfig, listening: SocketAddr) -> Result<SocketAddr, StartError> {
    match &edge.https {
        None => Ok(listening),
        Some(tls) => tls.plain_listen.filter(|address| address.port() != 0).ok_or_else(|| {
            StartError::Config(
                "edge-gateway.https.plain_listen: `paymesh dev` needs an address with a port, as it speaks \
                 HTTP without TLS to its own edge"
                    .to_owned(),
            )
        }),
    }
}

/// What all services of a mesh are started with.
struct Ground {
    loaded: Loaded,
    upstreams: Addresses,
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

        let keys = keys(&options, &data_dir)?;
        let authority = CertificateAuthority::open_or_create(&data_dir.join("pki"), SystemClock.now())
            .map_err(TlsError::from)?;
        let operator = authority.issue("operator", SystemClock.now()).map_err(TlsError::from)?;

        for name in SERVICES {
            authority.issue(name, SystemClock.now()).map_err(TlsError::from)?;
        }

        let mut ground = Ground {
            loaded: options.load()?,
            upstreams: Addresses::new(),
            sockets: BTreeMap::new(),
            running: Vec::new(),
        };
        let (_, edge) = ground.loaded.service::<Edge>().map_err(StartError::from)?;
        let listener = server::bind(edge.listen)
            .map_err(|source| DevError::EdgeAddress { address: edge.listen, source })?;
        let edge_address =
            plain_address(&edge, listener.local_addr().map_err(io("the edge's address for"))?)?;
        ground.bind::<svc_crypto::Crypto>()?;
        ground.bind::<svc_ledger::Ledger>()?;
        ground.bind::<svc_fraud::Fraud>()?;
        ground.bind::<svc_tax::Tax>()?;
        ground.bind::<svc_payments::Payments>()?;
        ground.bind::<Edge>()?;
        let (services, admin) = addresses(&ground.sockets)?;
        ground.upstreams.clone_from(&services);

        ground.start::<svc_crypto::Crypto>(|_| Ok(())).await?;
        ground.start::<svc_ledger::Ledger>(|_| Ok(())).await?;
        let development = |config: &mut svc_fraud::Config| {
            if config.rules.is_none() {
                config.rules = svc_fraud::Config::development()?.rules;
            }
            Ok(())
        };
        ground.start::<svc_fraud::Fraud>(development).await?;
        ground.start::<svc_tax::Tax>(|_| Ok(())).await?;
        ground.start::<svc_payments::Payments>(|_| Ok(())).await?;
        let of_key = |(at, ApiKey { tenant, key }): (usize, &ApiKey)| {
            // By its tenant; from the second one on, with a number.
            let name = match keys[..at].iter().filter(|other| other.tenant == *tenant).count() {
                0 => tenant.to_string(),
                before => format!("{tenant} {}", before + 1),
            };
            ApiKeyConfig::of_key(tenant.clone(), name, key)
        };
        let with_keys = |config: &mut EdgeConfig| {
            config.listener = Some(listener);
            config.api_keys.extend(keys.iter().enumerate().map(of_key));
            Ok(())
        };
        ground.start::<Edge>(with_keys).await?;

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

impl Ground {
    /// Takes a service's ports, so that all of them are known before the first service starts.
    fn bind<S: Service<Config: JsonSchema>>(&mut self) -> Result<(), DevError> {
        let (mesh, _) = self.loaded.service::<S>().map_err(StartError::from)?;
        let bind = |address: SocketAddr| {
            server::bind(address).map_err(StartError::io(format!("{address} for {}", S::NAME)))
        };
        let sockets = Sockets { rpc: bind(mesh.rpc_listen)?, admin: bind(mesh.admin_listen)? };
        self.sockets.insert(S::NAME, sockets);
        Ok(())
    }

    /// Starts a service as it is configured, but for what `dev` puts in place.
    async fn start<S: Service<Config: JsonSchema>>(
        &mut self,
        put: impl FnOnce(&mut S::Config) -> Result<(), String>,
    ) -> Result<(), DevError> {
        let Some(sockets) = self.sockets.remove(S::NAME) else {
            return Err(StartError::Config(format!("no address was set aside for {}", S::NAME)).into());
        };
        let (mut mesh, mut config) = self.loaded.service::<S>().map_err(StartError::from)?;
        put(&mut config).map_err(StartError::Config)?;
        for (name, address) in &self.upstreams {
            mesh.settings.upstreams.entry(name.clone()).or_insert_with(|| address.clone());
        }
        let launch = Launch {
            settings: mesh.settings,
            transport: Identity::open(&mesh.identity).await?.into(),
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

    #[test]
    fn an_edge_with_tls_is_reached_without_it() {
        let listening = SocketAddr::from(([127, 0, 0, 1], 8443));
        let with = |https: serde_json::Value| serde_json::from_value(serde_json::json!({ "https": https }));
        let plain = |edge: EdgeConfig| plain_address(&edge, listening);
        assert_eq!(plain(EdgeConfig::default()).unwrap(), listening);
        for wrong in [serde_json::Value::Null, "127.0.0.1:0".into()] {
            let https = serde_json::json!({"cert_file": "c", "key_file": "k", "plain_listen": wrong});
            let refused = plain(with(https).unwrap()).unwrap_err().to_string();
            assert!(refused.contains("edge-gateway.https.plain_listen"), "{refused}");
        }
        let https = serde_json::json!({"cert_file": "c", "key_file": "k", "plain_listen": "127.0.0.1:81"});
        assert_eq!(plain(with(https).unwrap()).unwrap().port(), 81);
    }

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
