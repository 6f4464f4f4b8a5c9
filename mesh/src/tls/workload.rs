//! Certificates from the SPIFFE Workload API: an agent on this machine, such as SPIRE's, hands out the
//! workload's X.509-SVID and bundle over a Unix socket, and each renewal over the same stream.
//!
//! <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_API.md>

mod wire;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

use self::wire::{X509Svid, X509SvidRequest, X509SvidResponse};
use super::{TlsError, material::Material};
use crate::{
    clock::{Clock as _, SystemClock},
    drain::Drain,
    identity::SpiffeId,
    watched::Watched,
};

/// The variable that says where the agent listens (SPIFFE Workload Endpoint, section 4).
pub const ENDPOINT_VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// How long a workload waits at its start until the agent knows it.
const FIRST_DEADLINE: Duration = Duration::from_secs(60);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often an answer that could not be used is looked at again: it may become right with time, as one that
/// is not valid yet does, and the agent sends it only once.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// An agent's socket.
#[derive(Debug, Clone)]
pub(super) struct WorkloadApi {
    socket: PathBuf,
}

impl WorkloadApi {
    /// From the form that `SPIFFE_ENDPOINT_SOCKET` has. Unix sockets only: the answers hold private keys,
    /// and only there the system tells the agent who is asking.
    pub(super) fn at(endpoint: &str) -> Result<Self, TlsError> {
        let path = endpoint.strip_prefix("unix:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        match path.map(Path::new) {
            Some(path) if path.is_absolute() => Ok(Self { socket: path.to_owned() }),
            _ => Err(TlsError::Endpoint),
        }
    }

    /// The first SVID, asked for until the agent has one or the deadline passes.
    pub(super) async fn first(&self) -> Result<Material, TlsError> {
        let mut pause = PAUSE_MIN;
        let mut last = TlsError::WorkloadApi("no answer".to_owned());
        let asking = async {
            loop {
                match self.once().await {
                    Ok(material) => return Ok(material),
                    Err(Failure::Final(error)) => return Err(error),
                    Err(Failure::Passing(error)) => last = error,
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        };
        match tokio::time::timeout(FIRST_DEADLINE, asking).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(last),
        }
    }

    async fn once(&self) -> Result<Material, Failure> {
        let mut answers = self.ask().await?;
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("the agent ended the stream"))?;
        material(&answer, None).map_err(Failure::Passing)
    }

    /// Takes over what the agent sends, and asks again when the stream ends. Ends when the drain begins.
    pub(super) async fn follow(&self, current: &Watched<Material>, drain: &Drain) {
        drain.unless_started(self.follow_always(current)).await;
    }

    async fn follow_always(&self, current: &Watched<Material>) {
        let (mut pause, mut rejected) = (PAUSE_MIN, None::<Rejected>);
        loop {
            let failure = match self.ask().await {
                Ok(mut answers) => loop {
                    let again = rejected.is_some();
                    let next = tokio::select! {
                        next = answers.message() => next,
                        () = tokio::time::sleep(LOOK_AGAIN), if again => {
                            rejected = rejected.and_then(|rejected| rejected.look_again(current));
                            continue;
                        }
                    };
                    match next {
                        Ok(Some(answer)) => {
                            pause = PAUSE_MIN;
                            rejected = Rejected { answer, why: None }.look_again(current);
                        }
                        Ok(None) => break Failure::from(Status::unavailable("the agent ended the stream")),
                        Err(status) => break Failure::from(status),
                    }
                },
                Err(failure) => failure,
            };
            let (Failure::Final(error) | Failure::Passing(error)) = failure;
            tracing::warn!(%error, "the Workload API is asked again; the certificate stays");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn ask(&self) -> Result<Streaming<X509SvidResponse>, Failure> {
        let channel = self.connect().await.map_err(|error| {
            Failure::Passing(TlsError::WorkloadApi(format!("{}: {error}", self.socket.display())))
        })?;
        let mut request = Request::new(X509SvidRequest {});
        // Against confused deputies: a browser or proxy cannot be made to send it (section 4.1).
        request
            .metadata_mut()
            .insert("workload.spiffe.io", tonic::metadata::MetadataValue::from_static("true"));
        Ok(wire::fetch_x509_svid(channel, request).await?)
    }

    async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let socket = self.socket.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // The authority plays no part on a Unix socket.
        Endpoint::from_static("http://localhost")
            .connect_timeout(CONNECT_DEADLINE)
            .connect_with_connector(connector)
            .await
    }
}

/// Why there was no SVID.
enum Failure {
    /// Asking again will not help.
    Final(TlsError),
    /// It may pass: the agent is not there yet, or does not know the workload yet.
    Passing(TlsError),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = format!("the agent answers {:?}", status.code());
        match status.code() {
            // Section 6.1: a client must not ask again.
            Code::InvalidArgument | Code::Unimplemented => Self::Final(TlsError::WorkloadApi(text)),
            Code::PermissionDenied => {
                Self::Passing(TlsError::WorkloadApi(format!("{text}: is this workload registered?")))
            }
            _ => Self::Passing(TlsError::WorkloadApi(text)),
        }
    }
}

/// An answer that could not be used until now.
struct Rejected {
    answer: X509SvidResponse,
    /// What was said of it.
    why: Option<String>,
}

impl Rejected {
    /// Takes the answer over if it can be used; if not, it is given back.
    fn look_again(self, current: &Watched<Material>) -> Option<Self> {
        let id = current.current().id.clone();
        match material(&self.answer, Some(&id)) {
            // The first answer of each stream is often what is there already.
            Ok(material) if material.is_same(&current.current()) => None,
            Ok(material) => {
                let not_after = crate::clock::to_proto(material.lifetime.not_after);
                current.replace(material);
                tracing::info!(%id, %not_after, "the Workload API sent a new certificate or bundle");
                None
            }
            Err(error) => {
                let why = Some(error.to_string());
                if self.why != why {
                    tracing::error!(%error, "what the Workload API sent cannot be used: the old one stays");
                }
                Some(Self { why, ..self })
            }
        }
    }
}

/// The SVID of this workload, checked. An agent may send several: `expected` is taken, or else the first
/// that is of this mesh (section 5.3: the first is the default).
fn material(answer: &X509SvidResponse, expected: Option<&SpiffeId>) -> Result<Material, TlsError> {
    let is_ours = |svid: &X509Svid| {
        svid.spiffe_id.parse::<SpiffeId>().is_ok_and(|id| expected.is_none_or(|expected| *expected == id))
    };
    let svid = answer.svids.iter().find(|svid| is_ours(svid)).ok_or(TlsError::NoIdentity)?;
    let key = PrivatePkcs8KeyDer::from(svid.key.clone());
    let material = Material::of(split(&svid.chain)?, key.into(), split(&svid.bundle)?)?;
    if material.id.as_str() != svid.spiffe_id {
        return Err(TlsError::NoIdentity);
    }
    material.check(SystemClock.now())?;
    Ok(material)
}

/// Certificates in DER, one after the other.
fn split(mut rest: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (after, _) = x509_parser::parse_x509_certificate(rest)
            .map_err(|_| TlsError::WorkloadApi("a certificate cannot be parsed".to_owned()))?;
        let (certificate, _) = rest.split_at(rest.len() - after.len());
        found.push(CertificateDer::from(certificate.to_vec()));
        rest = after;
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
