//! A certificate authority for those who have none: `paymesh dev` and the tests.
//!
//! The CA's key and certificate are files, made once; each workload gets an ECDSA P-256 certificate
//! with its SPIFFE id as URI SAN, and `localhost` for tools that check names.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use money::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use crate::identity::{SpiffeId, SpiffeIdError};

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
    /// The certificate could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The workload's name does not make a SPIFFE id.
    #[error(transparent)]
    Identity(#[from] SpiffeIdError),
}

/// Where a workload's certificate, key and CA are, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The CA's certificate (PEM): who is trusted.
    #[schemars(extend("x-file" = "public"), example = "pki/ca.pem")]
    pub ca: PathBuf,
    /// The workload's certificate chain (PEM); its SPIFFE id names the service.
    #[schemars(extend("x-file" = "public"), example = "pki/svc-ledger.pem")]
    pub cert: PathBuf,
    /// The workload's private key (PEM, PKCS #8), for the service's eyes only.
    #[schemars(extend("x-file" = "secret"), example = "pki/svc-ledger.key")]
    pub key: PathBuf,
}

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
    /// A workload's certificate of `paymesh dev`: made anew at each start, so a month is plenty.
    pub const WORKLOAD: Self = Self { from_s: -300, until_s: 30 * DAY_S };
    const CA: Self = Self { from_s: -300, until_s: 3_650 * DAY_S };
}

/// A CA whose key is at hand.
pub struct CertificateAuthority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl CertificateAuthority {
    /// The CA in this directory, made if it is not there yet.
    pub fn open_or_create(dir: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let (key_path, cert_path) = (dir.join("ca.key"), dir.join("ca.pem"));
        fs::create_dir_all(dir).map_err(|source| file_error(dir, source))?;
        let (key, is_new) = match fs::read_to_string(&key_path) {
            Ok(pem) => (KeyPair::from_pem(&pem)?, false),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = KeyPair::generate()?;
                write_file(&key_path, &key.serialize_pem(), 0o600)?;
                (key, true)
            }
            Err(source) => return Err(file_error(&key_path, source)),
        };
        let params = ca_params(now)?;
        // The issuer's name and key decide what it signs, so the certificate itself need not be read back.
        if is_new || !cert_path.exists() {
            write_file(&cert_path, &params.self_signed(&key)?.pem(), 0o644)?;
        }
        Ok(Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// Makes a certificate for a workload and writes it beside the CA.
    pub fn issue(&self, name: &str, now: Timestamp) -> Result<CertificateFiles, PkiError> {
        self.issue_for(name, &SpiffeId::of(name)?, now, Validity::WORKLOAD)
    }

    /// Makes a certificate with a validity of its own and writes it as `<file>.pem` and `<file>.key`.
    pub fn issue_for(
        &self,
        file: &str,
        id: &SpiffeId,
        now: Timestamp,
        validity: Validity,
    ) -> Result<CertificateFiles, PkiError> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), id.name().to_owned()])?;
        params.subject_alt_names.push(SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
        params.subject_alt_names.push(SanType::URI(id.as_str().try_into()?));
        params.distinguished_name = common_name(id.name());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, validity);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let files = CertificateFiles {
            ca: self.dir.join("ca.pem"),
            cert: self.dir.join(format!("{file}.pem")),
            key: self.dir.join(format!("{file}.key")),
        };
        write_file(&files.key, &key.serialize_pem(), 0o600)?;
        write_file(&files.cert, &certificate.pem(), 0o644)?;
        Ok(files)
    }
}

fn ca_params(now: Timestamp) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name = common_name("paymesh development CA");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, Validity::CA);
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, validity: Validity) {
    let at = |offset_s: i64| {
        OffsetDateTime::from_unix_timestamp(now.as_seconds().saturating_add(offset_s))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    params.not_before = at(validity.from_s);
    params.not_after = at(validity.until_s);
}

fn file_error(path: &Path, source: std::io::Error) -> PkiError {
    PkiError::File { path: path.to_owned(), source }
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
        fs::rename(&draft, path)
    };
    write().map_err(|source| file_error(path, source))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_its_owners_alone_whatever_a_crash_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        for draft in ["ca.key.draft", "svc-ledger.key.draft"] {
            fs::write(dir.path().join(draft), "left behind").unwrap();
        }
        let authority = CertificateAuthority::open_or_create(dir.path(), Timestamp::EPOCH).unwrap();
        let files = authority.issue("svc-ledger", Timestamp::EPOCH).unwrap();
        for key in [dir.path().join("ca.key"), files.key] {
            assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.display());
        }
    }

    #[test]
    fn a_new_key_never_goes_with_an_old_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let open = || CertificateAuthority::open_or_create(dir.path(), Timestamp::EPOCH).unwrap();
        let certificate = || fs::read_to_string(dir.path().join("ca.pem")).unwrap();
        open();
        let first = certificate();
        open();
        assert_eq!(certificate(), first, "found as it was");
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        open();
        assert_ne!(certificate(), first);
    }
}
