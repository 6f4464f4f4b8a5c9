//! TLS as outside clients get it: 1.2 and 1.3, only suites with an ephemeral key and authenticated
//! encryption (all that ring offers), the server's order, and certificates that change without a restart.

use std::{path::Path, sync::Arc};

use mesh::{
    Clock, StartError, Watched,
    pki::{Lifetime, PkiError, certificates},
    tls::TlsError,
};
use money::Timestamp;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    server::ProducesTickets,
};
use zeroize::Zeroizing;

use super::config::TlsConfig;

/// Reads the certificate and its key, and again whenever they change.
///
/// Sessions are taken up again by tickets that only this process can read, for up to 12 hours and across a
/// change of the certificate; never with early data, which could be sent twice by somebody else.
pub(crate) fn load(config: &TlsConfig, clock: Arc<dyn Clock>) -> Result<Watched<ServerConfig>, StartError> {
    // One for all certificates to come. It rotates its keys.
    let tickets = ring::Ticketer::new().map_err(TlsError::from)?;
    let (cert, key) = (config.cert_file.clone(), config.key_file.clone());
    let files = vec![cert.clone(), key.clone()];
    let read = move || read(&cert, &key, &tickets, clock.now());
    Ok(Watched::load("the edge's certificate", files, read)?)
}

fn read(
    cert: &Path,
    key: &Path,
    tickets: &Arc<dyn ProducesTickets>,
    now: Timestamp,
) -> Result<ServerConfig, TlsError> {
    let content = |path: &Path, reason| PkiError::Content { path: path.to_owned(), reason };
    let chain = certificates(cert)?;
    // One that no client takes replaces none that they do.
    let lifetime = chain.first().and_then(Lifetime::of);
    let lifetime = lifetime.ok_or_else(|| content(cert, "holds a certificate that cannot be read"))?;
    if now < lifetime.not_before {
        return Err(content(cert, "holds a certificate that is not valid yet").into());
    }
    if now > lifetime.not_after {
        return Err(content(cert, "holds a certificate that has expired").into());
    }
    let pem = std::fs::read(key).map_err(|source| PkiError::File { path: key.to_owned(), source })?;
    let key = PrivateKeyDer::from_pem_slice(&Zeroizing::new(pem))
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
