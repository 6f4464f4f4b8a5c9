//! A workload's certificate, key and CA bundle, read together and checked against each other: what a
//! handshake would refuse is refused here first, before it is used.
//!
//! Knows nothing of where the parts come from, beyond PEM files.

use std::{fs, sync::Arc};

use money::Timestamp;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, verify_server_cert_signed_by_trust_anchor},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use zeroize::Zeroizing;

use super::{TlsError, verify::PeerVerifier};
use crate::{
    identity::SpiffeId,
    pki::{CertificateFiles, Lifetime, PkiError, certificates, spiffe_id},
};

/// Everything a handshake needs, checked as one.
pub(super) struct Material {
    pub(super) id: SpiffeId,
    pub(super) lifetime: Lifetime,
    own: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    server: Arc<ServerConfig>,
}

impl Material {
    /// Reads the PEM files; whether they go together is not yet checked, except for the key.
    pub(super) fn read(files: &CertificateFiles) -> Result<Self, TlsError> {
        let chain = certificates(&files.cert)?;
        let path = || files.key.clone();
        let pem = fs::read(&files.key).map_err(|source| PkiError::File { path: path(), source })?;
        // Which part of a key is wrong is nobody's business.
        let reason = "holds no private key in PEM (PKCS #8)";
        let key = PrivateKeyDer::from_pem_slice(&Zeroizing::new(pem))
            .map_err(|_| PkiError::Content { path: path(), reason })?;
        Self::of(chain, key, certificates(&files.ca)?)
    }

    /// Puts the parts together.
    pub(super) fn of(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        bundle: Vec<CertificateDer<'static>>,
    ) -> Result<Self, TlsError> {
        let leaf = chain.first().ok_or(TlsError::NoIdentity)?;
        let id = spiffe_id(leaf).ok_or(TlsError::NoIdentity)?;
        let lifetime = Lifetime::of(leaf).ok_or(TlsError::NoIdentity)?;
        let provider = provider();
        let mut roots = RootCertStore::empty();
        for certificate in bundle {
            roots.add(certificate)?;
        }
        let roots = Arc::new(roots);
        let own = Arc::new(CertifiedKey::from_der(chain, key, &provider)?);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build()?;
        let server = server_config(provider, Arc::clone(&clients), Arc::clone(&own))?;
        Ok(Self { id, lifetime, own, roots, clients, server })
    }

    /// Checks that a peer which trusts the same bundle would accept this certificate now, as a server's
    /// and as a client's.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), TlsError> {
        if now < self.lifetime.not_before {
            return Err(TlsError::NotYetValid);
        }
        if now > self.lifetime.not_after {
            return Err(TlsError::Expired);
        }
        let (leaf, intermediates) = self.own.cert.split_first().ok_or(TlsError::NoIdentity)?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            &self.roots,
            intermediates,
            unix(now),
            provider().signature_verification_algorithms.all,
        )?;
        self.trusts_client(&self.own.cert, now)
    }

    /// Whether a client with this chain would be let in now.
    pub(super) fn trusts_client(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), TlsError> {
        let (leaf, intermediates) = chain.split_first().ok_or(TlsError::NoIdentity)?;
        self.clients.verify_client_cert(leaf, intermediates, unix(now))?;
        Ok(())
    }

    /// Whether a handshake would send and trust the same with either.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.own.cert == other.own.cert && self.roots.roots == other.roots.roots
    }

    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    pub(super) fn client_config(&self, peer: &SpiffeId) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = provider();
        let verifier = PeerVerifier {
            peer: peer.clone(),
            roots: Arc::clone(&self.roots),
            algorithms: provider.signature_verification_algorithms,
        };
        let own = SingleCertAndKey::from(Arc::clone(&self.own));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(own));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn server_config(
    provider: Arc<CryptoProvider>,
    clients: Arc<dyn ClientCertVerifier>,
    own: Arc<CertifiedKey>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session takes the certificate of an earlier handshake on trust, also when it has
    // expired since. Connections live long, so a full handshake each time costs little.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn unix(now: Timestamp) -> UnixTime {
    let seconds = u64::try_from(now.as_seconds()).unwrap_or_default();
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}
