//! `paymesh crypto root`: the root of trust of svc-crypto.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use paymesh_proto::crypto::v1::{
    GetRootStatusRequest, RootStatus, RotateRootRequest, RotateRootResponse, UnsealRequest,
    root_service_client::RootServiceClient,
};

use super::{
    CryptoError, OperatorError,
    args::{Replica, RootCommand, SplitArgs},
    refused,
};
use crate::{describe::Description, operator};

/// How long wrapping all keys anew may take.
const ROTATE_DEADLINE: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);
/// How long anything else may take.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// Carries out a command. `share` is asked for one, `progress` is told how many keys are wrapped as they should be; the
/// answer goes to `out`.
pub async fn run(
    command: &RootCommand,
    out: &mut (impl Write + Send),
    share: impl FnOnce() -> io::Result<String>,
    progress: impl FnMut(&RotateRootResponse) + Send,
) -> Result<ExitCode, CryptoError> {
    match command {
        RootCommand::Status(replica) => status(replica, out).await,
        RootCommand::Rotate(replica) => rotate(replica, out, progress).await,
        RootCommand::Split(args) => split(args, out),
        RootCommand::Unseal(replica) => unseal(replica, &share()?, out).await,
    }
}

fn client(replica: &Replica) -> Result<RootServiceClient<mesh::Upstream>, OperatorError> {
    let data_dir = &replica.mesh.data_dir;
    let path = data_dir.display().to_string();
    let mut mesh = Description::read(data_dir).map_err(|source| OperatorError::NoMesh { path, source })?;
    if let Some(address) = &replica.address {
        mesh.services.insert("svc-crypto".to_owned(), address.clone());
    }
    Ok(RootServiceClient::new(operator::upstream(&mesh, "svc-crypto")?))
}

async fn status(replica: &Replica, out: &mut (impl Write + Send)) -> Result<ExitCode, CryptoError> {
    let mut request = operator::call(None)?.request(GetRootStatusRequest {});
    request.set_timeout(DEADLINE);
    let status = client(replica)?.get_root_status(request).await.map_err(|status| refused(&status))?;
    let RootStatus { sealed, current, previous, previous_needed, answers, wrapped } = status.into_inner();
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    writeln!(out, "current    {current}{}", if answers { "" } else { " (does not answer)" })?;
    writeln!(out, "previous   {}", or_none(&previous))?;
    for by in &wrapped {
        let version = if by.version.is_empty() { String::new() } else { format!("#{}", by.version) };
        writeln!(out, "keys       {} under {}{version}", by.keys, or_none(&by.root))?;
    }
    if sealed {
        writeln!(out, "The vault is sealed: its root has not answered since the start.")?;
        return Ok(ExitCode::FAILURE);
    }
    let said = if previous_needed {
        "Another root than the current one is still needed: `paymesh crypto root rotate`."
    } else {
        "The current root is the only one that is needed."
    };
    writeln!(out, "{said}")?;
    Ok(ExitCode::SUCCESS)
}

async fn rotate(
    replica: &Replica,
    out: &mut (impl Write + Send),
    mut progress: impl FnMut(&RotateRootResponse) + Send,
) -> Result<ExitCode, CryptoError> {
    let mut request = operator::call(None)?.request(RotateRootRequest {});
    request.set_timeout(ROTATE_DEADLINE);
    let said = client(replica)?.rotate_root(request).await;
    let mut said = said.map_err(|status| refused(&status))?.into_inner();
    while let Some(report) = said.message().await.map_err(|status| refused(&status))? {
        if report.done {
            writeln!(out, "keys       {}\nrewrapped  {}", report.keys, report.rewrapped)?;
            writeln!(out, "under      {}\nNo other root is needed any more.", report.under)?;
            return Ok(ExitCode::SUCCESS);
        }
        progress(&report);
    }
    Err(OperatorError::Broken("svc-crypto").into())
}

fn split(args: &SplitArgs, out: &mut impl Write) -> Result<ExitCode, CryptoError> {
    let (root, shares) =
        svc_crypto::root::split_key(args.root_key_file.as_deref(), args.threshold, args.shares)?;
    writeln!(out, "root_id    {root}")?;
    for share in shares {
        writeln!(out, "{}", share.expose())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn unseal(
    replica: &Replica,
    share: &str,
    out: &mut (impl Write + Send),
) -> Result<ExitCode, CryptoError> {
    let mut request = operator::call(None)?.request(UnsealRequest { share: share.trim().to_owned() });
    request.set_timeout(DEADLINE);
    let said = client(replica)?.unseal(request).await.map_err(|status| refused(&status))?.into_inner();
    writeln!(out, "{} of {} shares", said.given, said.needed)?;
    writeln!(out, "{}", if said.unsealed { "The root key is together." } else { "More shares are needed." })?;
    Ok(ExitCode::SUCCESS)
}
