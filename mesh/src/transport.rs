//! How a workload meets the others: by mutual TLS of its own, or in clear with the Linkerd proxy beside it.
//! One or the other: there is no way to serve or call without an identity.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    identity::{self, SpiffeId},
    linkerd::{Linkerd, LinkerdConfig, LinkerdError},
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
        check(mode, identity, linkerd, None)
            .map_err(|(setting, what)| StartError::Config(format!("mesh.{setting}: {what}")))?;
        identity::join(&identity.trust_domain, &identity.namespace).map_err(TlsError::from)?;
        let linkerd = Linkerd::beside_proxy(SpiffeId::of(name)?, &identity.namespace, linkerd).await;
        linkerd.map(Self::Linkerd).map_err(|error| {
            let (setting, what) = at(&error);
            StartError::Config(format!("mesh.{setting}: {what}"))
        })
    }

    /// Who this workload is.
    pub fn id(&self) -> &SpiffeId {
        match self {
            Self::Native(identity) => identity.id(),
            Self::Linkerd(linkerd) => linkerd.id(),
        }
    }
}

/// What is wrong with the settings, as the setting's name and a text: all that can be known without reading a
/// certificate and without a proxy. `environment` is the value of `SPIFFE_ENDPOINT_SOCKET`.
pub(crate) fn check(
    mode: TlsMode,
    config: &IdentityConfig,
    linkerd: &LinkerdConfig,
    environment: Option<String>,
) -> Result<(), (String, String)> {
    let IdentityConfig { ca, cert, key, workload_api, trust_domain, namespace } = config;
    let of_identity = |what: String| ("identity".to_owned(), what);
    identity::check(trust_domain, namespace).map_err(|error| of_identity(error.to_string()))?;
    match mode {
        TlsMode::Native => {
            config.source(environment).map(drop).map_err(|error| of_identity(error.to_string()))
        }
        TlsMode::Linkerd if ca.is_some() || cert.is_some() || key.is_some() || workload_api.is_some() => {
            let what = "with mesh.tls = \"linkerd\" leave out ca, cert, key and workload_api: the proxy has the \
                        certificates";
            Err(of_identity(what.to_owned()))
        }
        TlsMode::Linkerd => linkerd.check().map_err(|error| at(&error)),
    }
}

fn at(error: &LinkerdError) -> (String, String) {
    (format!("linkerd.{}", error.setting()), error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_does_not_start_where_nobody_does_mutual_tls() {
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let unsaid =
            LinkerdConfig { proxy_admin: gone, proxy_ready_timeout_ms: 1, ..LinkerdConfig::default() };
        let linkerd = LinkerdConfig { grpc_server_resource: true, ..unsaid.clone() };
        let files = IdentityConfig { cert: Some("svc-ledger.pem".into()), ..IdentityConfig::default() };
        let none = IdentityConfig::default();
        for (mode, identity, linkerd, told) in [
            (TlsMode::Native, &files, &linkerd, "ca, cert and key"),
            (
                TlsMode::Linkerd,
                &files,
                &linkerd,
                "mesh.identity: with mesh.tls = \"linkerd\" leave out ca, cert, key",
            ),
            (TlsMode::Linkerd, &none, &linkerd, "mesh.linkerd.proxy_admin: no Linkerd proxy is ready"),
            (TlsMode::Linkerd, &none, &unsaid, "mesh.linkerd.grpc_server_resource: must be true"),
        ] {
            let error = Transport::open("svc-ledger", mode, identity, linkerd).await.unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
