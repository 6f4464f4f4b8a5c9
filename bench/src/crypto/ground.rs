//! svc-crypto within this process, with a CA, a directory and keys of its own.

use std::path::Path;
use std::sync::Arc;

use http::Uri;
use mesh::tls::Identity;
use mesh::{Harness, Running, SpiffeId, Upstream};
use paymesh_proto::crypto::v1::crypto_service_client::CryptoServiceClient;
use paymesh_proto::crypto::v1::key_service_client::KeyServiceClient;
use paymesh_proto::crypto::v1::{Algorithm, CreateKeyRequest};
use svc_crypto::Crypto;
use svc_crypto::config::Config;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_rustls::rustls::ClientConfig;

use super::{DEADLINE, KEY, caller};
use crate::disk;
use crate::echo::{Connection, connection, with_metadata};
use crate::error::BenchError;

/// Who may use the keys that are measured, and who makes them.
const USER: &str = "svc-payments";
const OPERATOR: &str = "operator";

/// A running service. Its data goes when it is dropped.
pub(super) struct Ground {
    /// The service's own.
    runtime: Runtime,
    running: Running,
    service: SpiffeId,
    user: Identity,
    operator: Identity,
    tls: Arc<ClientConfig>,
    _directory: TempDir,
}

impl Ground {
    /// Starts it in a directory below `parent`, with the key that is measured.
    pub(super) fn start(parent: &Path) -> Result<Self, BenchError> {
        let ground = Self::start_without_keys(parent, Config::default())?;
        caller()?.block_on(async { make_key(&mut ground.keys()?, KEY).await })?;
        Ok(ground)
    }

    /// The same without any key.
    pub(super) fn start_without_keys(parent: &Path, config: Config) -> Result<Self, BenchError> {
        let directory = disk::directory_in(parent)?;
        let mut harness = Harness::new(directory.path())?;
        let runtime = mesh::run::runtime()?;
        let running = runtime.block_on(harness.start::<Crypto>(config))?;
        let service = SpiffeId::of("svc-crypto")?;
        let user = Identity::load(&harness.certificate(USER)?)?;
        let operator = Identity::load(&harness.certificate(OPERATOR)?)?;
        let tls = user.client_config(&service)?;
        Ok(Self { runtime, running, service, user, operator, tls, _directory: directory })
    }

    /// A way to use keys, as services have it. Within the runtime that is to own its connections.
    pub(super) fn upstream(&self) -> Result<Upstream, BenchError> {
        Ok(Upstream::new(&self.user, &self.service, &self.running.address.to_string())?)
    }

    /// A way to make keys.
    pub(super) fn keys(&self) -> Result<KeyServiceClient<Upstream>, BenchError> {
        let upstream = Upstream::new(&self.operator, &self.service, &self.running.address.to_string())?;
        Ok(KeyServiceClient::new(upstream))
    }

    /// One connection, made as the echo's are, so that what is compared has the same client.
    pub(super) async fn connect(&self) -> Result<CryptoServiceClient<Connection>, BenchError> {
        let connection = connection(self.running.address, &self.tls).await?;
        Ok(CryptoServiceClient::with_origin(connection, Uri::from_static("http://crypto")))
    }

    /// Stops it in order.
    pub(super) fn stop(self) {
        self.runtime.block_on(self.running.stop());
    }
}

/// Makes a key for encryption.
pub(super) async fn make_key(keys: &mut KeyServiceClient<Upstream>, name: &str) -> Result<(), BenchError> {
    let algorithm = Algorithm::Aes256Gcm.into();
    let request = CreateKeyRequest { name: name.to_owned(), algorithm, rotation_period: None };
    keys.create_key(with_metadata(request, DEADLINE)?).await?;
    Ok(())
}
