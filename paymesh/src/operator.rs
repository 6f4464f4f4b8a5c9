//! What an operator asks a running mesh, over mTLS with the operator's certificate.

use std::{path::Path, time::Duration};

use mesh::{
    Call, Clock as _, Fault, Ids as _, RandomIds, SpiffeId, StartError, SystemClock, Upstream,
    pki::CertificateFiles, tls::Identity,
};
use money::TenantId;
use paymesh_proto::ledger::v1::{AuditRequest, AuditResponse, ledger_service_client::LedgerServiceClient};

use crate::describe::Description;

/// How long the ledger may take to replay everything.
const AUDIT_DEADLINE: Duration = Duration::from_secs(3_600);

/// Why a running mesh could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The answer ended before it was whole.
    #[error("{0} stopped before it was done; start it and try again")]
    Broken(&'static str),
    /// There is no running mesh, or not here.
    #[error(
        "{path}/dev.json: {source}; start the mesh with `paymesh dev`, or name its directory with --data-dir"
    )]
    NoMesh {
        /// The data directory.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The service refused or could not be reached.
    #[error("{0}")]
    Refused(#[from] Fault),
}

/// A way to call a service of the mesh as the operator.
pub fn upstream(mesh: &Description, service: &str) -> Result<Upstream, StartError> {
    let files = CertificateFiles {
        ca: mesh.pki.ca.clone(),
        cert: mesh.pki.operator_cert.clone(),
        key: mesh.pki.operator_key.clone(),
    };
    let address = mesh.services.get(service).map(String::as_str).unwrap_or_default();
    Ok(Upstream::new(&Identity::load(&files)?, &SpiffeId::of(service)?, address)?)
}

/// A call that an operator begins.
pub fn call(tenant: Option<TenantId>) -> Result<Call, StartError> {
    let fresh = RandomIds.uuid_v7(SystemClock.now());
    Ok(Call::begin(SpiffeId::of("operator")?, tenant, fresh))
}

/// Has the ledger replay everything and compare; `progress` is told how far it has come.
pub async fn audit(
    data_dir: &Path,
    mut progress: impl FnMut(&AuditResponse),
) -> Result<AuditResponse, OperatorError> {
    let path = data_dir.display().to_string();
    let mesh = Description::read(data_dir).map_err(|source| OperatorError::NoMesh { path, source })?;
    let mut ledger = LedgerServiceClient::new(upstream(&mesh, "svc-ledger")?);
    let mut request = call(None)?.request(AuditRequest {});
    request.set_timeout(AUDIT_DEADLINE);
    let failed = |status: tonic::Status| Fault::from_status(&status);
    let mut said = ledger.audit(request).await.map_err(failed)?.into_inner();
    while let Some(report) = said.message().await.map_err(failed)? {
        if report.done {
            return Ok(report);
        }
        progress(&report);
    }
    Err(OperatorError::Broken("the ledger"))
}
