//! Why a measurement was not made, or does not count.

/// What ended a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The arguments make no measurement.
    #[error("{0}")]
    Arguments(String),
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The mesh's own parts did not start.
    #[error(transparent)]
    Start(#[from] mesh::StartError),
    /// A certificate could not be used.
    #[error(transparent)]
    Tls(#[from] mesh::tls::TlsError),
    /// A workload's name is none.
    #[error(transparent)]
    Identity(#[from] mesh::identity::SpiffeIdError),
    /// An echo was refused, or came back changed.
    #[error("an echo failed: {0}")]
    Echo(String),
    /// The ledger did not do what it was asked.
    #[error("the ledger: {0}")]
    Ledger(String),
    /// svc-crypto did not do what it was asked.
    #[error("svc-crypto: {0}")]
    Crypto(String),
    /// PostgreSQL, or a program of it, did not do what it was asked.
    #[error("PostgreSQL: {0}")]
    Postgres(String),
    /// An RPC was refused.
    #[error("an RPC failed: {0}")]
    Rpc(Box<tonic::Status>),
    /// A goal of the run was not reached.
    #[error("missed: {0}")]
    Missed(String),
    /// The edge did not answer as it should.
    #[error("{0}")]
    Edge(String),
    /// The user, or whoever started this, asked for its end.
    #[error("ended by {name}; what was started here is stopped")]
    Interrupted {
        /// The signal's name.
        name: &'static str,
        /// Its number.
        number: u8,
    },
    /// A thread of the load generator panicked.
    #[error("a thread of the load generator panicked")]
    Panicked,
}

impl From<tonic::Status> for BenchError {
    fn from(status: tonic::Status) -> Self {
        Self::Rpc(Box::new(status))
    }
}

impl BenchError {
    /// For `map_err`: says what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
