//! `paymesh crypto`: what an operator asks of svc-crypto.

pub mod args;
pub mod root;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use mesh::{Fault, clock, config::Sources};
use paymesh_proto::crypto::v1::{
    AuditRecord, ListAuditRecordsRequest, VerifyAuditLogRequest, VerifyAuditLogResponse,
    audit_service_client::AuditServiceClient,
};
use svc_crypto::Crypto;
use tonic::Status;

use crate::{
    describe::Description,
    dev::DevOptions,
    operator::{self, OperatorError},
};
use args::{AuditCommand, ListArgs, VerifyArgs};

/// How long the check of all records may take.
const VERIFY_DEADLINE: std::time::Duration = std::time::Duration::from_secs(3_600);
/// How long a page of a list may take.
const LIST_DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// The service refused, or could not be reached.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The answer cannot be written, or what is asked for not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The root key was not split.
    #[error(transparent)]
    Split(#[from] svc_crypto::root::SplitKeyError),
}

impl From<mesh::StartError> for CryptoError {
    fn from(error: mesh::StartError) -> Self {
        OperatorError::from(error).into()
    }
}

fn refused(status: &Status) -> OperatorError {
    Fault::from_status(status).into()
}

/// Carries out a command. `progress` is told how many records were checked, and of how many where that is known;
/// the answer goes to `out`.
pub async fn run(
    command: &AuditCommand,
    out: &mut (impl Write + Send),
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<ExitCode, CryptoError> {
    match command {
        AuditCommand::Verify(args) => {
            let said = if args.offline {
                verify_stopped(args, &mut progress).await?
            } else {
                verify(args, &mut progress).await?
            };
            writeln!(out, "records    {}\nend        {}", said.records, said.end)?;
            if said.offence.is_empty() {
                writeln!(
                    out,
                    "The audit log is whole up to this end. Note it elsewhere: --known-end checks it later."
                )?;
                return Ok(ExitCode::SUCCESS);
            }
            writeln!(out, "offence    {}", said.offence)?;
            Ok(ExitCode::FAILURE)
        }
        AuditCommand::List(args) => list(args, out).await.map(|()| ExitCode::SUCCESS),
    }
}

fn client(mesh: &args::Mesh) -> Result<AuditServiceClient<mesh::Upstream>, OperatorError> {
    let path = mesh.data_dir.display().to_string();
    let mesh = Description::read(&mesh.data_dir).map_err(|source| OperatorError::NoMesh { path, source })?;
    Ok(AuditServiceClient::new(operator::upstream(&mesh, "svc-crypto")?))
}

async fn verify(
    args: &VerifyArgs,
    progress: &mut (impl FnMut(u64, u64) + Send),
) -> Result<VerifyAuditLogResponse, CryptoError> {
    let known_end = args.known_end.map(|link| link.to_string()).unwrap_or_default();
    let mut request = operator::call(None)?.request(VerifyAuditLogRequest { known_end });
    request.set_timeout(VERIFY_DEADLINE);
    let said = client(&args.mesh)?.verify_audit_log(request).await;
    let mut said = said.map_err(|status| refused(&status))?.into_inner();
    while let Some(report) = said.message().await.map_err(|status| refused(&status))? {
        if report.done {
            return Ok(report);
        }
        progress(report.records, report.records_total);
    }
    Err(OperatorError::Broken("svc-crypto").into())
}

async fn verify_stopped(
    args: &VerifyArgs,
    progress: &mut (impl FnMut(u64, u64) + Send),
) -> Result<VerifyAuditLogResponse, CryptoError> {
    let options = DevOptions {
        data_dir: args.mesh.data_dir.clone(),
        api_keys: Vec::new(),
        sources: Sources::of(&args.config),
    };
    let (mesh, config) = options.load()?.service::<Crypto>().map_err(mesh::StartError::from)?;
    let verified =
        svc_crypto::audit::verify_stopped(&mesh.settings.data_dir, &config, args.known_end, |end| {
            progress(end.sequence, 0);
            true
        });
    let (end, offence) = verified.await?;
    let offence = offence.map(|offence| offence.to_string()).unwrap_or_default();
    let (records, end) = (end.sequence, end.to_string());
    Ok(VerifyAuditLogResponse { records, records_total: records, done: true, offence, end })
}

async fn list(args: &ListArgs, out: &mut (impl Write + Send)) -> Result<(), CryptoError> {
    let mut client = client(&args.mesh)?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut request = ListAuditRecordsRequest {
        page_size: 0,
        page_token: String::new(),
        tenant: text(&args.tenant),
        key_name: text(&args.key),
        token: text(&args.token),
        verb: text(&args.verb),
        workload: text(&args.workload),
        refused: args.refused,
        from: args.from.map(|at| clock::to_proto(at.timestamp())),
        until: args.until.map(|at| clock::to_proto(at.timestamp())),
    };
    let mut left = args.limit;
    while left > 0 {
        request.page_size = i32::try_from(left).unwrap_or(i32::MAX);
        let mut page = operator::call(None)?.request(request.clone());
        page.set_timeout(LIST_DEADLINE);
        let page = client.list_audit_records(page).await.map_err(|status| refused(&status))?.into_inner();
        for record in &page.records {
            writeln!(out, "{}", line(record))?;
        }
        left = left.saturating_sub(page.records.len());
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    Ok(())
}

/// One record on one line; `-` for what there is none of.
fn line(record: &AuditRecord) -> String {
    let AuditRecord { sequence, workload, verb, reason, count, bytes, .. } = record;
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let at = record.at.as_ref().map(ToString::to_string).unwrap_or_default();
    let subject = or_none(if record.token.is_empty() { &record.key_name } else { &record.token });
    let key = match record.key_version {
        0 => "-".to_owned(),
        version => format!("{}/{version}", record.key_id),
    };
    let (tenant, outcome) = (or_none(&record.tenant), if reason.is_empty() { "DONE" } else { reason });
    format!("{sequence} {at} {workload} {tenant} {verb} {subject} {key} {outcome} {count}x {bytes}B")
}
