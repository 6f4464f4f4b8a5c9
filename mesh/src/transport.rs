//! How a workload meets the others: by mutual TLS of its own, or in clear with the Linkerd proxy beside it.
//! One or the other: there is no way to serve or call without an identity.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    identity::SpiffeId,
    linkerd::{Linkerd, LinkerdConfig},
    pki::CertificateFiles,
    service::StartError,
    tls::Identity,
};

/// Who does mutual TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// We do, with the certificates of `mesh.identity`.
    #[default]
    Native,
    /// The Linkerd proxy beside us does; see `mesh.linkerd`.
    Linkerd,
}

/// How a workload meets the others. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Transport {
    /// By mutual TLS, with this certificate.
    Native(Identity),
    /// In clear, with the proxy beside it.
    Linkerd(Linkerd),
}

impl From<Identity> for Transport {
    fn from(identity: Identity) -> Self {
        Self::Native(identity)
    }
}

impl Transport {
    /// What the configuration of the workload `name` says; an error where neither way is open.
    pub async fn open(
        name: &str,
        mode: TlsMode,
        certificates: Option<&CertificateFiles>,
        linkerd: &LinkerdConfig,
    ) -> Result<Self, StartError> {
        match (mode, certificates) {
            (TlsMode::Native, Some(files)) => Ok(Self::Native(Identity::load(files)?)),
            (TlsMode::Native, None) => Err(StartError::Config(
                "mesh.identity is missing: with mesh.tls = \"native\" give ca, cert and key, or set mesh.tls = \
                 \"linkerd\" where a Linkerd proxy does mutual TLS"
                    .to_owned(),
            )),
            (TlsMode::Linkerd, None) => {
                let linkerd = Linkerd::beside_proxy(SpiffeId::of(name)?, linkerd).await;
                linkerd.map(Self::Linkerd).map_err(|error| StartError::Config(format!("mesh.{error}")))
            }
            (TlsMode::Linkerd, Some(_)) => Err(StartError::Config(
                "mesh.identity: leave it out with mesh.tls = \"linkerd\": the proxy has the certificates".to_owned(),
            )),
        }
    }

    /// Who this workload is.
    pub fn id(&self) -> &SpiffeId {
        match self {
            Self::Native(identity) => identity.id(),
            Self::Linkerd(linkerd) => linkerd.id(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_does_not_start_where_nobody_does_mutual_tls() {
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let linkerd =
            LinkerdConfig { proxy_admin: gone, proxy_ready_timeout_ms: 1, ..LinkerdConfig::default() };
        let files = CertificateFiles { ca: "a".into(), cert: "b".into(), key: "c".into() };
        for (mode, files, told) in [
            (TlsMode::Native, None, "mesh.identity is missing"),
            (TlsMode::Linkerd, Some(&files), "leave it out"),
            (TlsMode::Linkerd, None, "mesh.linkerd.proxy_admin: no Linkerd proxy is ready"),
        ] {
            let error = Transport::open("svc-ledger", mode, files, &linkerd).await.unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
