//! How a workload meets the others: by mutual TLS of its own, or in clear with the Linkerd proxy beside it.
//! One or the other: there is no way to serve or call without an identity.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    identity::{self, SpiffeId},
    linkerd::{Linkerd, LinkerdConfig},
    service::StartError,
    tls::{Identity, IdentityConfig, TlsError},
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
    /// What the configuration of the workload `name` says; an error where neither way is open. Says of which
    /// mesh this process is, so it must come before any id is used.
    pub async fn open(
        name: &str,
        mode: TlsMode,
        identity: &IdentityConfig,
        linkerd: &LinkerdConfig,
    ) -> Result<Self, StartError> {
        if mode == TlsMode::Native {
            return Ok(Self::Native(Identity::open(identity).await?));
        }
        let IdentityConfig { ca, cert, key, workload_api, trust_domain, namespace } = identity;
        if ca.is_some() || cert.is_some() || key.is_some() || workload_api.is_some() {
            let text = "mesh.identity: with mesh.tls = \"linkerd\" leave out ca, cert, key and workload_api: the \
                        proxy has the certificates";
            return Err(StartError::Config(text.to_owned()));
        }
        identity::join(trust_domain, namespace).map_err(TlsError::from)?;
        let linkerd = Linkerd::beside_proxy(SpiffeId::of(name)?, namespace, linkerd).await;
        linkerd.map(Self::Linkerd).map_err(|error| StartError::Config(format!("mesh.{error}")))
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
        let files = IdentityConfig { cert: Some("svc-ledger.pem".into()), ..IdentityConfig::default() };
        for (mode, identity, told) in [
            (TlsMode::Native, files.clone(), "ca, cert and key"),
            (TlsMode::Linkerd, files, "leave out ca, cert, key"),
            (
                TlsMode::Linkerd,
                IdentityConfig::default(),
                "mesh.linkerd.proxy_admin: no Linkerd proxy is ready",
            ),
        ] {
            let error =
                Transport::open("svc-ledger", mode, &identity, &linkerd).await.unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
