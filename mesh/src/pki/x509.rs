//! What can be read from a certificate (RFC 5280). Nothing here says whether it is to be believed.

use std::{fs, net::IpAddr, path::Path};

use money::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate, x509::X509Name,
};

use super::{PkiError, file_error};
use crate::identity::SpiffeId;

/// From when until when a certificate holds (RFC 5280, section 4.1.2.5; both ends are within).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// The first second.
    pub not_before: Timestamp,
    /// The last second.
    pub not_after: Timestamp,
}

impl Lifetime {
    /// That of a certificate; `None` if it cannot be parsed.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = parse(certificate)?;
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_seconds(time.timestamp());
        let validity = parsed.validity();
        Some(Self { not_before: at(validity.not_before), not_after: at(validity.not_after) })
    }

    /// Seconds until the certificate no longer holds; negative once it does not.
    pub fn left_s(&self, now: Timestamp) -> i64 {
        self.not_after.as_seconds().saturating_sub(now.as_seconds())
    }

    /// Seconds from the first to the last.
    pub fn whole_s(&self) -> i64 {
        self.not_after.as_seconds().saturating_sub(self.not_before.as_seconds())
    }

    /// Whether less than a third of the lifetime is left: time to renew.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.left_s(now) < self.whole_s() / 3
    }
}

/// The certificates of a PEM file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let content = |reason| PkiError::Content { path: path.to_owned(), reason };
    let pem = fs::read(path).map_err(|source| file_error(path, source))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|_| content("is not a whole PEM file"))?;
    if found.is_empty() { Err(content("holds no certificate in PEM")) } else { Ok(found) }
}

/// The SPIFFE id of a certificate. An X.509-SVID has exactly one URI SAN: more than one is none.
pub fn spiffe_id(certificate: &CertificateDer<'_>) -> Option<SpiffeId> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate.valid_uri_names();
    let first = names.next()?;
    if names.next().is_some() {
        return None;
    }
    first.parse().ok()
}

/// The common name of who signed it, or the whole name where there is none.
pub fn issuer_name(certificate: &CertificateDer<'_>) -> Option<String> {
    parse(certificate).map(|parsed| name(parsed.issuer()))
}

/// The common name of whom it is for, or the whole name where there is none.
pub fn subject_name(certificate: &CertificateDer<'_>) -> Option<String> {
    parse(certificate).map(|parsed| name(parsed.subject()))
}

fn name(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    common.map_or_else(|| name.to_string(), str::to_owned)
}

/// The DNS names and addresses in its SAN.
pub(super) fn host_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Some(parsed) = parse(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    });
    names.collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// The bits of its public key.
pub(super) fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    parse(certificate).map(|parsed| parsed.public_key().subject_public_key.data.to_vec())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    parse_x509_certificate(certificate).ok().map(|(_, parsed)| parsed)
}
