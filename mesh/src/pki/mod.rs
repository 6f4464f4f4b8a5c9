//! A certificate authority for those who have none: `paymesh dev`, `paymesh certs` and the tests.
//!
//! One directory holds all of it: `ca.pem`, every root that is trusted, and `ca.key`, the key of the one
//! that signs; for each workload an ECDSA P-256 certificate `<name>.pem` with its SPIFFE id as URI SAN,
//! and `<name>.key`. Knows nothing of TLS.

mod authority;
mod rotation;
mod x509;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

pub use self::{
    authority::CertificateAuthority,
    rotation::{RotationError, add_root, drop_old_roots, reissue},
    x509::{Lifetime, certificates, issuer_name, spiffe_id, subject_name},
};
use crate::identity::SpiffeIdError;

/// Why a certificate could not be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        reason: &'static str,
    },
    /// What was to be made is there already.
    #[error("{0} is there already: nothing was overwritten")]
    Exists(PathBuf),
    /// The certificate could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The workload's name does not make a SPIFFE id.
    #[error(transparent)]
    Identity(#[from] SpiffeIdError),
}

/// Where a workload's certificate, key and CA are, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The CA's certificates: who is trusted. Several while a CA is replaced.
    pub ca: PathBuf,
    /// The workload's certificate chain, its own certificate first.
    pub cert: PathBuf,
    /// The workload's private key (PKCS #8).
    pub key: PathBuf,
}

impl CertificateFiles {
    /// The files of a workload in a directory of [`CertificateAuthority`].
    pub fn within(dir: &Path, name: &str) -> Self {
        Self {
            ca: dir.join(BUNDLE),
            cert: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        }
    }
}

/// Every root that is trusted.
pub const BUNDLE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
/// The key of the root that signs next, while a CA is replaced.
const NEXT_CA_KEY: &str = "ca.next.key";

/// From when until when a certificate holds, in seconds relative to now.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    /// Seconds from now; negative for the past.
    pub from_s: i64,
    /// Seconds from now.
    pub until_s: i64,
}

const DAY_S: i64 = 86_400;

impl Validity {
    /// A workload's certificate unless said otherwise: 30 days, renewed when a third is left.
    pub const WORKLOAD: Self = Self::days(30);
    /// A root's certificate unless said otherwise: ten years.
    pub const CA: Self = Self::days(3_650);

    /// From now on for so many days. Begins five minutes ago, as clocks differ.
    pub const fn days(days: u32) -> Self {
        // A u32 of days is below 2^49 seconds.
        Self { from_s: -300, until_s: days as i64 * DAY_S }
    }
}

fn file_error(path: &Path, source: std::io::Error) -> PkiError {
    PkiError::File { path: path.to_owned(), source }
}

/// The workloads that have a certificate in this directory, by file name, in order.
pub fn workloads(dir: &Path) -> Result<Vec<String>, PkiError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| file_error(dir, source))? {
        let name = entry.map_err(|source| file_error(dir, source))?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".pem")) else { continue };
        if name != "ca" {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Whether everybody on this machine may read or change the file, which nobody may with a secret.
pub fn is_open_to_everybody(file: &fs::Metadata) -> bool {
    file.permissions().mode() & 0o007 != 0
}

/// Replaces the file in one step, so that no reader ever sees half of it. The draft is always a new file:
/// one left behind by a crash could have other permissions.
pub fn write_file(path: &Path, content: &str, mode: u32) -> Result<(), PkiError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    let draft = path.with_file_name(format!("{name}.draft"));
    let write = || -> std::io::Result<()> {
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        // Only then is the new name sure to outlive a power cut.
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| file_error(path, source))
}
