//! TLS as outside clients get it: 1.2 and 1.3, only suites with an ephemeral key and authenticated
//! encryption (all that ring offers), the server's order, and certificates that change without a restart.

use std::{path::Path, sync::Arc};

use mesh::{StartError, Watched, pki::PkiError, tls::TlsError};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::ProducesTickets,
};

use super::config::TlsConfig;

/// Reads the certificate and its key, and again whenever they change.
pub(crate) fn load(config: &TlsConfig) -> Result<Watched<ServerConfig>, StartError> {
    // One for all certificates to come: sessions are resumed across a change. It rotates its keys.
    let tickets = ring::Ticketer::new().map_err(TlsError::from)?;
    let (cert, key) = (config.cert_file.clone(), config.key_file.clone());
    let files = vec![cert.clone(), key.clone()];
    Ok(Watched::load("the edge's certificate", files, move || read(&cert, &key, &tickets))?)
}

fn read(cert: &Path, key: &Path, tickets: &Arc<dyn ProducesTickets>) -> Result<ServerConfig, TlsError> {
    let content = |path: &Path, reason| PkiError::Content { path: path.to_owned(), reason };
    let pem = contents(cert)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| content(cert, "must hold certificates in PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(&contents(key)?)
        .map_err(|_| content(key, "must hold a private key in PEM"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        // Fails for a key that is not the certificate's: a rotation that is half done changes nothing.
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = Arc::clone(tickets);
    config.ignore_client_order = true;
    Ok(config)
}

fn contents(path: &Path) -> Result<Vec<u8>, PkiError> {
    std::fs::read(path).map_err(|source| PkiError::File { path: path.to_owned(), source })
}
