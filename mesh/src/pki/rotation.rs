//! Replacing a CA without an interruption, in three steps that are each taken only when the one before
//! has reached everybody: trust the new root too, sign with it, no longer trust the old one.
//!
//! Each step can be taken again after a crash: it goes on where it was.

use std::{fs, path::Path};

use money::Timestamp;
use rustls::{
    RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, UnixTime},
    server::ParsedCertificate,
};

use super::{
    BUNDLE, CA_KEY, CertificateAuthority, NEXT_CA_KEY, PkiError, Validity,
    authority::{Root, of_key, read_key},
    certificates, file_error, workloads, write_file,
};

/// Why a step cannot be taken now.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// A file or certificate is not as it should be.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// There is no root that could sign next.
    #[error("no new root has been added: take the step `add` first, and let the bundle reach every workload")]
    NothingAdded,
    /// The new root is trusted but does not sign yet.
    #[error("the new root does not sign yet: take the step `reissue` first")]
    NotReissued,
    /// Somebody would be locked out.
    #[error("{0} has a certificate that the current CA did not sign, or an expired one: renew it first")]
    StillNeeded(String),
}

/// Makes a new root and trusts it beside the others; it does not sign yet. Whether it was new: with a
/// rotation under way nothing is made.
pub fn add_root(dir: &Path, now: Timestamp, validity: Validity) -> Result<bool, RotationError> {
    let (path, bundle_path) = (dir.join(NEXT_CA_KEY), dir.join(BUNDLE));
    // The CA that signs must be whole before another one comes into question.
    CertificateAuthority::open(dir)?;
    let root = if path.exists() {
        let key = read_key(&path)?;
        if of_key(&certificates(&bundle_path)?, &key).is_some() {
            return Ok(false);
        }
        Root::of(key, now, validity)?
    } else {
        let root = Root::new(now, validity)?;
        write_file(&path, &root.key.serialize_pem(), 0o600)?;
        root
    };
    let bundle = fs::read_to_string(&bundle_path).map_err(|source| file_error(&bundle_path, source))?;
    write_file(&bundle_path, &format!("{}\n{}", bundle.trim_end(), root.pem), 0o644)?;
    Ok(true)
}

/// Signs every workload's certificate anew with the root that was added, which from then on is the CA.
/// The names of the workloads.
pub fn reissue(dir: &Path, now: Timestamp, validity: Option<Validity>) -> Result<Vec<String>, RotationError> {
    let next = dir.join(NEXT_CA_KEY);
    if !next.exists() {
        return Err(RotationError::NothingAdded);
    }
    let authority = CertificateAuthority::open_with(dir, NEXT_CA_KEY)?;
    let names = workloads(dir)?;
    for name in &names {
        authority.renew(name, now, validity)?;
    }
    // Last: until then a repeated step finds the new key where it was.
    fs::rename(&next, dir.join(CA_KEY)).map_err(|source| file_error(&next, source))?;
    Ok(names)
}

/// Trusts the current CA alone. Refused while a workload's certificate in this directory is of another.
/// How many roots were dropped.
pub fn drop_old_roots(dir: &Path, now: Timestamp) -> Result<usize, RotationError> {
    if dir.join(NEXT_CA_KEY).exists() {
        return Err(RotationError::NotReissued);
    }
    let path = dir.join(BUNDLE);
    let bundle = certificates(&path)?;
    let current = of_key(&bundle, &read_key(&dir.join(CA_KEY))?).ok_or(PkiError::Content {
        path: path.clone(),
        reason: "holds no certificate of the CA's own key",
    })?;
    for name in workloads(dir)? {
        let chain = certificates(&dir.join(format!("{name}.pem")))?;
        if !verifies(&chain, &current, now) {
            return Err(RotationError::StillNeeded(name));
        }
    }
    if bundle.len() > 1 {
        write_file(&path, &pem(&current), 0o644)?;
    }
    Ok(bundle.len() - 1)
}

fn verifies(chain: &[CertificateDer<'_>], root: &CertificateDer<'static>, now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    let Some((leaf, intermediates)) = chain.split_first() else { return false };
    let Ok(leaf) = ParsedCertificate::try_from(leaf) else { return false };
    let seconds = u64::try_from(now.as_seconds()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    roots.add(root.clone()).is_ok()
        && verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, now, algorithms).is_ok()
}

/// RFC 7468: base64 in lines of 64 characters.
fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let body: String = lines.flat_map(|line| [line.into_owned(), "\n".to_owned()]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};
    use crate::tls::Identity;

    #[test]
    fn a_step_is_only_taken_after_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, now) = (dir.path(), SystemClock.now());
        let authority = CertificateAuthority::create(dir, now, Validity::CA).unwrap();
        let files = authority.issue("svc-tax", now).unwrap();
        let roots = || certificates(&dir.join(BUNDLE)).unwrap().len();
        let usable = || Identity::load(&files).unwrap();

        assert!(matches!(reissue(dir, now, None), Err(RotationError::NothingAdded)));
        assert_eq!(drop_old_roots(dir, now).unwrap(), 0);
        assert!(add_root(dir, now, Validity::CA).unwrap());
        assert!(!add_root(dir, now, Validity::CA).unwrap(), "a rotation is under way");
        assert_eq!(roots(), 2);
        usable();
        assert!(matches!(drop_old_roots(dir, now), Err(RotationError::NotReissued)));
        assert_eq!(reissue(dir, now, None).unwrap(), ["svc-tax"]);
        usable();
        assert!(matches!(reissue(dir, now, None), Err(RotationError::NothingAdded)));
        assert_eq!(drop_old_roots(dir, now).unwrap(), 1);
        assert_eq!(roots(), 1);
        usable();
        // The CA that was opened before all this no longer counts.
        authority.issue("svc-tax", now).unwrap();
        assert!(Identity::load(&files).is_err());
    }

    #[test]
    fn what_the_new_root_did_not_sign_keeps_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, now) = (dir.path(), SystemClock.now());
        let old = CertificateAuthority::create(dir, now, Validity::CA).unwrap();
        old.issue("svc-tax", now).unwrap();
        add_root(dir, now, Validity::CA).unwrap();
        reissue(dir, now, None).unwrap();
        old.issue("svc-fraud", now).unwrap();
        let refused = drop_old_roots(dir, now).unwrap_err();
        assert!(matches!(refused, RotationError::StillNeeded(name) if name == "svc-fraud"));
        assert_eq!(certificates(&dir.join(BUNDLE)).unwrap().len(), 2);
    }

    #[test]
    fn a_step_that_a_crash_cut_off_is_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, now) = (dir.path(), SystemClock.now());
        CertificateAuthority::create(dir, now, Validity::CA).unwrap().issue("svc-tax", now).unwrap();
        let before = fs::read_to_string(dir.join(BUNDLE)).unwrap();
        add_root(dir, now, Validity::CA).unwrap();
        // As if the process had ended between the key and the bundle.
        fs::write(dir.join(BUNDLE), before).unwrap();
        let key = fs::read_to_string(dir.join(NEXT_CA_KEY)).unwrap();
        assert!(add_root(dir, now, Validity::CA).unwrap());
        assert_eq!(fs::read_to_string(dir.join(NEXT_CA_KEY)).unwrap(), key);
        reissue(dir, now, None).unwrap();
        assert_eq!(drop_old_roots(dir, now).unwrap(), 1);
    }
}
