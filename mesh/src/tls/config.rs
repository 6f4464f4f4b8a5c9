//! How an operator says where a workload's certificate comes from.

use std::path::PathBuf;

use super::{ENDPOINT_VARIABLE, Identity, TlsError};
use crate::{
    identity::{self, NAMESPACE, TRUST_DOMAIN},
    pki::CertificateFiles,
};

/// Who a service is: a certificate from three PEM files, or from a SPIFFE Workload API. Either is followed
/// while the service runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// The CA's certificates (PEM): who is trusted. Several while a CA is replaced.
    #[schemars(extend("x-file" = "public"), example = "pki/ca.pem")]
    pub ca: Option<PathBuf>,
    /// The workload's certificate chain (PEM), its own certificate first; its SPIFFE id names the service.
    #[schemars(extend("x-file" = "public"), example = "pki/svc-ledger.pem")]
    pub cert: Option<PathBuf>,
    /// The workload's private key (PEM, PKCS #8), for the service's eyes only.
    #[schemars(extend("x-file" = "secret"), example = "pki/svc-ledger.key")]
    pub key: Option<PathBuf>,
    /// The socket of a SPIFFE agent, instead of files: `unix:///run/spire/agent.sock`. With neither this
    /// nor files, the environment's `SPIFFE_ENDPOINT_SOCKET` is taken.
    pub workload_api: Option<String>,
    /// The trust domain of the mesh: the same for all of its services. Default `paymesh.local`.
    pub trust_domain: String,
    /// The namespace of the mesh's workloads: the same for all of its services. Default `paymesh`.
    pub namespace: String,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self {
            ca: None,
            cert: None,
            key: None,
            workload_api: None,
            trust_domain: TRUST_DOMAIN.to_owned(),
            namespace: NAMESPACE.to_owned(),
        }
    }
}

/// Files that are the whole identity, in the mesh of the default name.
impl From<CertificateFiles> for IdentityConfig {
    fn from(files: CertificateFiles) -> Self {
        let CertificateFiles { ca, cert, key } = files;
        Self { ca: Some(ca), cert: Some(cert), key: Some(key), ..Self::default() }
    }
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// PEM files.
    Files(CertificateFiles),
    /// The endpoint of a Workload API.
    WorkloadApi(String),
}

impl IdentityConfig {
    /// Which of both it is. `environment` is the value of `SPIFFE_ENDPOINT_SOCKET`.
    pub fn source(&self, environment: Option<String>) -> Result<IdentitySource, TlsError> {
        let workload_api = self.workload_api.clone().filter(|endpoint| !endpoint.is_empty());
        match (&self.ca, &self.cert, &self.key, workload_api) {
            (Some(ca), Some(cert), Some(key), None) => Ok(IdentitySource::Files(CertificateFiles {
                ca: ca.clone(),
                cert: cert.clone(),
                key: key.clone(),
            })),
            (None, None, None, Some(endpoint)) => Ok(IdentitySource::WorkloadApi(endpoint)),
            (None, None, None, None) => {
                environment.map(IdentitySource::WorkloadApi).ok_or(TlsError::NoSource)
            }
            _ => Err(TlsError::NoSource),
        }
    }
}

impl Identity {
    /// The identity that is configured. Says of which mesh this process is, so it must come first.
    pub async fn open(config: &IdentityConfig) -> Result<Self, TlsError> {
        identity::join(&config.trust_domain, &config.namespace)?;
        match config.source(std::env::var(ENDPOINT_VARIABLE).ok())? {
            IdentitySource::Files(files) => Self::load(&files),
            IdentitySource::WorkloadApi(endpoint) => Self::from_workload_api(&endpoint).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str, environment: Option<&str>) -> Result<IdentitySource, TlsError> {
        toml::from_str::<IdentityConfig>(text).unwrap().source(environment.map(str::to_owned))
    }

    #[test]
    fn a_certificate_has_one_source() {
        let files = "ca = 'a'\ncert = 'b'\nkey = 'c'\n";
        let api = "workload_api = 'unix:///agent.sock'\n";
        assert!(matches!(source(files, Some("unix:///env.sock")), Ok(IdentitySource::Files(_))));
        let of = |endpoint: &str| IdentitySource::WorkloadApi(endpoint.to_owned());
        assert_eq!(source(api, Some("unix:///env.sock")).unwrap(), of("unix:///agent.sock"));
        assert_eq!(source("", Some("unix:///env.sock")).unwrap(), of("unix:///env.sock"));
        for wrong in ["", "ca = 'a'", &format!("{files}{api}"), &format!("ca = 'a'\n{api}")] {
            assert!(matches!(source(wrong, None), Err(TlsError::NoSource)), "{wrong}");
        }
        assert!(matches!(source("ca = 'a'", Some("unix:///env.sock")), Err(TlsError::NoSource)));
    }
}
