//! `paymesh certs`: a CA and workloads' certificates for those who have no PKI. A running workload takes
//! over what changes in its files, so nothing here needs a restart.

mod status;

use std::{
    fs,
    io::Write,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use mesh::{
    Clock as _, StartError, SystemClock,
    identity::{JoinError, NAMESPACE, TRUST_DOMAIN, join},
    pki::{
        CertificateAuthority, CertificateFiles, Lifetime, PkiError, RotationError, Validity, add_root,
        certificates, drop_old_roots, reissue, workloads,
    },
};
use money::Timestamp;

const EXAMPLES: &str = "A mesh's certificates, from nothing:
  paymesh certs init                            make a CA in ./pki
  paymesh certs issue svc-ledger svc-payments   pki/svc-ledger.pem, pki/svc-ledger.key, ...
  paymesh certs status                          who has what, and until when

Give each workload its own .pem and .key and everybody's ca.pem, and name them in its configuration, here [svc-ledger.identity]:
  ca = \"pki/ca.pem\"   cert = \"pki/svc-ledger.pem\"   key = \"pki/svc-ledger.key\"
Keep ca.key where no workload can read it.

From time to time (a cron job is fine):
  paymesh certs renew --due                     make anew what has less than a third of its life left

To replace the CA, let each step reach every workload before you take the next:
  paymesh certs rotate-ca add                   ca.pem holds both roots: distribute it
  paymesh certs rotate-ca reissue               the new root signs: distribute certificates and keys
  paymesh certs rotate-ca drop                  ca.pem holds the new root alone: distribute it";

/// Options of `paymesh certs`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CertsArgs {
    /// The directory of the CA and the certificates.
    #[arg(long, global = true, default_value = "pki", env = "PAYMESH_PKI_DIR")]
    pub dir: PathBuf,
    /// The trust domain in the workloads' SPIFFE ids; services need the same.
    #[arg(long, global = true, default_value = TRUST_DOMAIN)]
    pub trust_domain: String,
    /// The namespace in the workloads' SPIFFE ids; services need the same.
    #[arg(long, global = true, default_value = NAMESPACE)]
    pub namespace: String,
    /// What to do.
    #[command(subcommand)]
    pub command: CertsCommand,
}

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make a CA: ca.key, which signs, and ca.pem, which everybody trusts.
    Init {
        /// How long the CA's certificate holds, in days.
        #[arg(long, default_value_t = 3_650, value_parser = days_range())]
        days: u32,
    },
    /// Make certificates and keys for workloads that have none yet.
    Issue {
        /// The workloads, such as svc-ledger; `operator` is a person with tools.
        #[arg(required = true, value_name = "WORKLOAD")]
        workloads: Vec<String>,
        /// How long the certificates hold, in days.
        #[arg(long, default_value_t = 30, value_parser = days_range())]
        days: u32,
        /// A further DNS name or IP address, for clients that check those; may be given several times.
        #[arg(long = "host", value_name = "NAME")]
        hosts: Vec<String>,
    },
    /// Make certificates again, with the same names and new keys.
    Renew {
        /// The workloads; without one, all that have a certificate in the directory.
        #[arg(value_name = "WORKLOAD")]
        workloads: Vec<String>,
        /// Only those with less than a third of their life left.
        #[arg(long)]
        due: bool,
        /// How long the new ones hold, in days; as long as the old ones unless given.
        #[arg(long, value_parser = days_range())]
        days: Option<u32>,
    },
    /// Replace the CA in three steps, without an interruption.
    #[command(after_help = EXAMPLES)]
    RotateCa {
        /// The step to take; each can be taken again after an interruption.
        #[command(subcommand)]
        step: RotationStep,
    },
    /// Who has which certificate, of whom, and until when. Fails when one has expired or is not usable.
    Status {
        /// For programs: one JSON array.
        #[arg(long)]
        json: bool,
    },
}

/// A step of replacing the CA.
#[derive(Debug, Subcommand)]
pub enum RotationStep {
    /// Make a new root and trust it beside the old one. It does not sign yet.
    Add {
        /// How long the new root holds, in days.
        #[arg(long, default_value_t = 3_650, value_parser = days_range())]
        days: u32,
    },
    /// Sign every workload's certificate with the new root.
    Reissue {
        /// How long the certificates hold, in days; as long as the old ones unless given.
        #[arg(long, value_parser = days_range())]
        days: Option<u32>,
    },
    /// No longer trust the old root. Refused while a workload here still needs it.
    Drop,
}

fn days_range() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=36_500)
}

/// Why nothing, or not all, was done.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A certificate or file.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The trust domain or namespace.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A step of a rotation.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// There is no CA.
    #[error("{0} holds no CA: make one with `paymesh certs init`, or name its directory with --dir")]
    NoCa(String),
    /// A workload has no certificate that could be renewed.
    #[error("{0} has no certificate here: make one with `paymesh certs issue {0}`")]
    NotIssued(String),
    /// Somebody else is at work.
    #[error("another paymesh is changing {0}: try again when it has ended")]
    InUse(String),
    /// The output or the directory.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Does what was asked and says so on `out`.
pub fn run(args: &CertsArgs, out: &mut impl Write) -> Result<ExitCode, CertsError> {
    let (dir, now) = (args.dir.as_path(), SystemClock.now());
    join(&args.trust_domain, &args.namespace)?;
    if let CertsCommand::Status { json } = args.command {
        return status(dir, now, json, out);
    }
    if matches!(args.command, CertsCommand::Init { .. }) {
        // Its owner's alone: keys will be in it.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    } else if !dir.join("ca.key").exists() {
        return Err(CertsError::NoCa(dir.display().to_string()));
    }
    let _alone = lock(dir)?;
    change(&args.command, dir, now, out)?;
    Ok(ExitCode::SUCCESS)
}

fn change(
    command: &CertsCommand,
    dir: &Path,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<(), CertsError> {
    let shown = dir.display();
    match command {
        CertsCommand::Init { days } => {
            CertificateAuthority::create(dir, now, Validity::days(*days))?;
            writeln!(out, "made {shown}/ca.pem and {shown}/ca.key")?;
        }
        CertsCommand::Issue { workloads, days, hosts } => {
            let authority = CertificateAuthority::open(dir)?;
            for name in workloads {
                let files = authority.issue_new(name, hosts, now, Validity::days(*days))?;
                writeln!(out, "made {} and {}", files.cert.display(), files.key.display())?;
            }
        }
        CertsCommand::Renew { workloads: named, due, days } => {
            for name in renew(dir, named, *due, days.map(Validity::days), now)? {
                writeln!(out, "renewed {name}")?;
            }
        }
        CertsCommand::RotateCa { step: RotationStep::Add { days } } => {
            let is_new = add_root(dir, now, Validity::days(*days))?;
            let what = if is_new { "now holds the new root too" } else { "holds the new root already" };
            writeln!(out, "{shown}/ca.pem {what}: let it reach every workload, then `rotate-ca reissue`")?;
        }
        CertsCommand::RotateCa { step: RotationStep::Reissue { days } } => {
            for name in reissue(dir, now, days.map(Validity::days))? {
                writeln!(out, "reissued {name}")?;
            }
            writeln!(out, "let certificates and keys reach every workload, then `rotate-ca drop`")?;
        }
        CertsCommand::RotateCa { step: RotationStep::Drop } => {
            let dropped = drop_old_roots(dir, now)?;
            writeln!(out, "{shown}/ca.pem holds the CA's own root alone; dropped: {dropped}")?;
        }
        CertsCommand::Status { .. } => {}
    }
    Ok(())
}

fn status(dir: &Path, now: Timestamp, json: bool, out: &mut impl Write) -> Result<ExitCode, CertsError> {
    if !dir.join("ca.pem").exists() {
        return Err(CertsError::NoCa(dir.display().to_string()));
    }
    let rows = status::rows(dir, now)?;
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&rows).map_err(std::io::Error::other)?)?;
    } else {
        status::write_table(&rows, out)?;
    }
    Ok(if rows.iter().all(status::Row::is_usable) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes certificates again: those named, or all; of these the due ones only, if asked for. Who got one.
pub fn renew(
    dir: &Path,
    named: &[String],
    due_only: bool,
    validity: Option<Validity>,
    now: Timestamp,
) -> Result<Vec<String>, CertsError> {
    let authority = CertificateAuthority::open(dir)?;
    let all = workloads(dir)?;
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        return Err(CertsError::NotIssued(unknown.clone()));
    }
    let mut renewed = Vec::new();
    for name in if named.is_empty() { all } else { named.to_vec() } {
        let files = CertificateFiles::within(dir, &name);
        let lifetime = certificates(&files.cert)?.first().and_then(Lifetime::of);
        if !due_only || lifetime.is_none_or(|lifetime| lifetime.is_due(now)) {
            authority.renew(&name, now, validity)?;
            renewed.push(name);
        }
    }
    Ok(renewed)
}

/// Renews what is due in this directory, unless somebody else is changing it just now.
pub fn renew_due(dir: &Path, now: Timestamp) -> Result<Vec<String>, CertsError> {
    let _alone = lock(dir)?;
    renew(dir, &[], true, None, now)
}

fn lock(dir: &Path) -> Result<fs::File, CertsError> {
    mesh::service::lock(dir).map_err(|error| match error {
        StartError::InUse(path) => CertsError::InUse(path.display().to_string()),
        other => CertsError::Io(std::io::Error::other(other)),
    })
}
