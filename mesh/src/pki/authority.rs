//! A CA whose key is at hand, and what it signs.

use std::{fs, path::Path, path::PathBuf};

use money::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{
    BUNDLE, CA_KEY, CertificateFiles, Lifetime, PkiError, Validity, certificates, file_error, spiffe_id,
    subject_name, write_file,
    x509::{host_names, public_key},
};
use crate::identity::SpiffeId;

/// A CA whose key is at hand.
pub struct CertificateAuthority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    lifetime: Lifetime,
    name: String,
}

/// A root that was just made, not yet written.
pub(super) struct Root {
    pub(super) key: KeyPair,
    pub(super) pem: String,
}

impl Root {
    /// A root with a key of its own.
    pub(super) fn new(now: Timestamp, validity: Validity) -> Result<Self, PkiError> {
        Self::of(KeyPair::generate()?, now, validity)
    }

    /// A root with this key. Its name is made from the key, so that no two roots have the same.
    pub(super) fn of(key: KeyPair, now: Timestamp, validity: Validity) -> Result<Self, PkiError> {
        let digest = ring::digest::digest(&ring::digest::SHA256, key.der_bytes());
        let tail = digest.as_ref().first_chunk().map_or(0, |tail| u32::from_be_bytes(*tail));
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name = common_name(&format!("paymesh CA {tail:08x}"));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, validity, i64::MAX);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { key, pem })
    }
}

impl CertificateAuthority {
    /// The CA in this directory, made if it is not there yet.
    pub fn open_or_create(dir: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let (key, bundle) = (dir.join(CA_KEY), dir.join(BUNDLE));
        if !key.exists() {
            return Self::replace(dir, &Root::new(now, Validity::CA)?);
        }
        if !bundle.exists() {
            return Self::replace(dir, &Root::of(read_key(&key)?, now, Validity::CA)?);
        }
        Self::open(dir)
    }

    /// Makes a CA in this directory, where there must be none.
    pub fn create(dir: &Path, now: Timestamp, validity: Validity) -> Result<Self, PkiError> {
        for file in [CA_KEY, BUNDLE] {
            let path = dir.join(file);
            if path.exists() {
                return Err(PkiError::Exists(path));
            }
        }
        Self::replace(dir, &Root::new(now, validity)?)
    }

    fn replace(dir: &Path, root: &Root) -> Result<Self, PkiError> {
        fs::create_dir_all(dir).map_err(|source| file_error(dir, source))?;
        write_file(&dir.join(CA_KEY), &root.key.serialize_pem(), 0o600)?;
        write_file(&dir.join(BUNDLE), &root.pem, 0o644)?;
        Self::open(dir)
    }

    /// The CA that is in this directory.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        Self::open_with(dir, CA_KEY)
    }

    /// The CA with the key in this file; its certificate is the one in the bundle that is of this key.
    pub(super) fn open_with(dir: &Path, key_file: &str) -> Result<Self, PkiError> {
        let (path, bundle) = (dir.join(key_file), dir.join(BUNDLE));
        let content = |reason| PkiError::Content { path: bundle.clone(), reason };
        let key = read_key(&path)?;
        let certificate = of_key(&certificates(&bundle)?, &key)
            .ok_or_else(|| content("holds no certificate of the CA's own key"))?;
        let lifetime =
            Lifetime::of(&certificate).ok_or_else(|| content("holds a certificate without dates"))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        let name = subject_name(&certificate).unwrap_or_default();
        Ok(Self { dir: dir.to_owned(), issuer, lifetime, name })
    }

    /// The common name of its certificate.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Makes a certificate for a workload and writes it beside the CA.
    pub fn issue(&self, name: &str, now: Timestamp) -> Result<CertificateFiles, PkiError> {
        self.issue_for(name, &SpiffeId::of(name)?, now, Validity::WORKLOAD)
    }

    /// As [`CertificateAuthority::issue`], where there must be none yet, with further DNS names or IP
    /// addresses for clients that check those.
    pub fn issue_new(
        &self,
        name: &str,
        hosts: &[String],
        now: Timestamp,
        validity: Validity,
    ) -> Result<CertificateFiles, PkiError> {
        let id = SpiffeId::of(name)?;
        let files = CertificateFiles::within(&self.dir, name);
        for path in [&files.cert, &files.key] {
            if path.exists() {
                return Err(PkiError::Exists(path.clone()));
            }
        }
        let mut all = usual_hosts(&id);
        all.extend(hosts.iter().filter(|host| !usual_hosts(&id).contains(host)).cloned());
        self.write(files, &id, all, now, validity)
    }

    /// Makes a certificate with a validity of its own and writes it as `<file>.pem` and `<file>.key`.
    pub fn issue_for(
        &self,
        file: &str,
        id: &SpiffeId,
        now: Timestamp,
        validity: Validity,
    ) -> Result<CertificateFiles, PkiError> {
        self.write(CertificateFiles::within(&self.dir, file), id, usual_hosts(id), now, validity)
    }

    /// Makes a workload's certificate again, with a new key: the same names, and the same validity unless
    /// another one is given.
    pub fn renew(
        &self,
        file: &str,
        now: Timestamp,
        validity: Option<Validity>,
    ) -> Result<CertificateFiles, PkiError> {
        let files = CertificateFiles::within(&self.dir, file);
        let content = || PkiError::Content {
            path: files.cert.clone(),
            reason: "is not the certificate of a workload of this mesh",
        };
        let chain = certificates(&files.cert)?;
        let old = chain.first().ok_or_else(content)?;
        let (id, lifetime) = spiffe_id(old).zip(Lifetime::of(old)).ok_or_else(content)?;
        let from_s = Validity::WORKLOAD.from_s;
        let same = Validity { from_s, until_s: lifetime.whole_s().saturating_add(from_s) };
        let hosts = host_names(old);
        self.write(files, &id, hosts, now, validity.unwrap_or(same))
    }

    fn write(
        &self,
        files: CertificateFiles,
        id: &SpiffeId,
        hosts: Vec<String>,
        now: Timestamp,
        validity: Validity,
    ) -> Result<CertificateFiles, PkiError> {
        let mut params = CertificateParams::new(hosts)?;
        params.subject_alt_names.push(SanType::URI(id.as_str().try_into()?));
        params.distinguished_name = common_name(id.name());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        // Beyond its issuer's life a certificate would not verify anyway.
        set_validity(&mut params, now, validity, self.lifetime.not_after.as_seconds());
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        // In this order: after a crash in between, the certificate is there to be renewed.
        write_file(&files.cert, &certificate.pem(), 0o644)?;
        write_file(&files.key, &key.serialize_pem(), 0o600)?;
        Ok(files)
    }
}

/// The certificate in the bundle that is of this key.
pub(super) fn of_key(bundle: &[CertificateDer<'static>], key: &KeyPair) -> Option<CertificateDer<'static>> {
    bundle.iter().find(|root| public_key(root).as_deref() == Some(key.der_bytes())).cloned()
}

pub(super) fn read_key(path: &Path) -> Result<KeyPair, PkiError> {
    let pem = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(|source| file_error(path, source))?);
    KeyPair::from_pem(&pem).map_err(|_| PkiError::Content {
        path: path.to_owned(),
        reason: "holds no private key in PEM (PKCS #8)",
    })
}

/// For tools that check host names; the mesh itself does not.
fn usual_hosts(id: &SpiffeId) -> Vec<String> {
    vec!["localhost".to_owned(), id.name().to_owned(), "127.0.0.1".to_owned()]
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, validity: Validity, until_max: i64) {
    let at =
        |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let now = now.as_seconds();
    params.not_before = at(now.saturating_add(validity.from_s));
    params.not_after = at(now.saturating_add(validity.until_s).min(until_max));
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

    #[test]
    fn a_renewed_certificate_keeps_its_names_and_its_length_and_gets_a_new_key() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_seconds(1_800_000_000);
        let authority = CertificateAuthority::create(dir.path(), now, Validity::CA).unwrap();
        let hosts = ["ledger.internal".to_owned(), "10.0.0.7".to_owned(), "fd00::7".to_owned()];
        let files = authority.issue_new("svc-ledger", &hosts, now, Validity::days(7)).unwrap();
        let read = || certificates(&files.cert).unwrap().remove(0);
        let key = || fs::read_to_string(&files.key).unwrap();
        let (before, key_before) = (read(), key());
        let later = now.checked_add_seconds(6 * 86_400).unwrap();
        authority.renew("svc-ledger", later, None).unwrap();
        assert_eq!(host_names(&read()), host_names(&before));
        assert!(hosts.iter().all(|host| host_names(&read()).contains(host)), "{:?}", host_names(&read()));
        assert_eq!(spiffe_id(&read()), Some(SpiffeId::of("svc-ledger").unwrap()));
        let (old, new) = (Lifetime::of(&before).unwrap(), Lifetime::of(&read()).unwrap());
        assert_eq!((new.whole_s(), new.left_s(later)), (old.whole_s(), 7 * 86_400));
        assert!(old.is_due(later) && !new.is_due(later));
        assert_ne!(key(), key_before);
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_outlives_its_issuer() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_seconds(1_800_000_000);
        let authority = CertificateAuthority::create(dir.path(), now, Validity::days(10)).unwrap();
        assert!(matches!(
            CertificateAuthority::create(dir.path(), now, Validity::CA),
            Err(PkiError::Exists(_))
        ));
        let issue = || authority.issue_new("svc-tax", &[], now, Validity::days(30));
        let files = issue().unwrap();
        assert!(matches!(issue(), Err(PkiError::Exists(_))));
        let lifetime = Lifetime::of(&certificates(&files.cert).unwrap()[0]).unwrap();
        assert_eq!(lifetime.left_s(now), 10 * 86_400);
    }
}
