//! Connections to the server, and what each is for.

use std::{fmt::Write as _, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use mesh::{StartError, StoreError};
use tokio::time::timeout;
use tokio_postgres::{
    Client, Config,
    config::TargetSessionAttrs,
    error::{Error, Severity},
};

use super::{
    Epoch,
    config::{PostgresConfig, read_file},
    tls::Tls,
    url::{self, Protection},
};

/// After so long without a sign of life a peer is asked for one, and given up when it stays silent. Said
/// for both ends: a session of a machine that is gone must not hold its locks for hours.
const KEEPALIVE_S: u32 = 5;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Makes and changes tables.
    Migrate,
    /// Decides who leads.
    Lead,
    /// Writes as the leader of an epoch. Whoever takes over can tell these sessions by their name.
    Write(Epoch),
    /// Looks things up.
    Read,
    /// Reads all there is, which waits for nobody who looks things up, and takes as long as it takes.
    Load,
}

/// The server, as it is configured.
#[derive(Clone)]
pub(super) struct Server {
    config: Config,
    tls: Tls,
    schema: String,
    lease: Duration,
    pub(super) connect_timeout: Duration,
    query_timeout: Duration,
    allow_unsynced_commits: bool,
}

impl Server {
    /// Reads the files that the configuration names. Does not connect.
    pub(super) fn new(config: &PostgresConfig) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        let url = url::parse(&config.url).map_err(StartError::Config)?;
        let tls = match (&config.ca_file, url.protection) {
            (Some(path), _) => Tls::trusting(&read_file("ca_file", path)?)?,
            // A server that has TLS nevertheless is not trusted, and the connection fails.
            (None, Protection::Disable | Protection::Prefer) => Tls::none()?,
            (None, Protection::Verify) => {
                return Err(StartError::Config(
                    "postgres.ca_file is needed for TLS; sslmode=disable in postgres.url does without"
                        .to_owned(),
                ));
            }
        };
        let mut server = url.config;
        server
            .connect_timeout(config.connect_timeout())
            .tcp_user_timeout(config.lease())
            .keepalives_idle(Duration::from_secs(KEEPALIVE_S.into()))
            .keepalives_interval(Duration::from_secs(KEEPALIVE_S.into()))
            .keepalives_retries(2)
            // Never a standby, which may lag, whichever of several hosts answers first.
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        if let Some(path) = &config.password_file {
            let password = read_file("password_file", path)?;
            server.password(password.trim_ascii_end());
        }
        Ok(Self {
            config: server,
            tls,
            schema: config.schema.clone(),
            lease: config.lease(),
            connect_timeout: config.connect_timeout(),
            query_timeout: config.query_timeout(),
            allow_unsynced_commits: config.allow_unsynced_commits,
        })
    }

    /// The schema that holds this ledger.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// How long a leader that is not heard of keeps its place.
    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    /// The name of the sessions that write in an epoch.
    pub(super) fn writers(&self, epoch: Epoch) -> String {
        format!("paymesh-ledger {} {epoch}", self.schema)
    }

    /// Makes a connection. The session ends when the client is dropped.
    pub(super) async fn connect(&self, purpose: Purpose) -> Result<Client, StoreError> {
        let config = self.config_for(purpose);
        // Of the handshake and the login, too, which have no limit of their own.
        // Boxed, as a login is a large future.
        let connecting = Box::pin(config.connect(self.tls.clone()));
        let connected = timeout(self.connect_timeout, connecting).await;
        let connected = connected.map_err(|_| StoreError::Server("it does not answer".to_owned()))?;
        let (client, connection) = connected.map_err(failed)?;
        tokio::spawn(async move {
            // Who waits for an answer is told by the client.
            if let Err(error) = connection.await {
                tracing::debug!(error = %said(&error), "a connection to PostgreSQL ended");
            }
        });
        Ok(client)
    }

    /// A connection that commits for the leader: what it says is committed is on the disk.
    pub(super) async fn connect_writer(&self, epoch: Epoch) -> Result<Client, StoreError> {
        let client = self.connect(Purpose::Write(epoch)).await?;
        self.pin_durability(&client).await?;
        Ok(client)
    }

    /// Refuses a server that may lose what it committed. The session keeps what was found, also when the
    /// server's own setting changes later.
    pub(super) async fn pin_durability(&self, client: &Client) -> Result<(), StoreError> {
        let row = client
            .query_one("SELECT current_setting('fsync'), current_setting('synchronous_commit')", &[])
            .await
            .map_err(failed)?;
        let (fsync, commit): (String, String) = (row.get(0), row.get(1));
        if !self.allow_unsynced_commits {
            refuse_unsynced(&fsync, &commit).map_err(StoreError::Server)?;
        }
        client
            .execute("SELECT set_config('synchronous_commit', $1, false)", &[&commit])
            .await
            .map(drop)
            .map_err(failed)
    }

    /// Connections for lookups, made as they are needed.
    pub(super) fn pool(&self, size: usize) -> Result<Pool, StartError> {
        let fast = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.config_for(Purpose::Read), self.tls.clone(), fast);
        Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(self.query_timeout))
            .create_timeout(Some(self.query_timeout))
            .build()
            .map_err(|error| StartError::Config(format!("postgres.pool_max: {error}")))
    }

    fn config_for(&self, purpose: Purpose) -> Config {
        let lease_ms = self.lease.as_millis();
        // READ COMMITTED by name: what waits for a lock must then see what the other one committed.
        let mut options = format!(
            "-c search_path={} -c default_transaction_isolation=read\\ committed -c statement_timeout=0 \
             -c tcp_keepalives_idle={KEEPALIVE_S} -c tcp_keepalives_interval={KEEPALIVE_S} -c tcp_keepalives_count=2 \
             -c client_min_messages=warning",
            self.schema
        );
        // Writing to a String cannot fail.
        let _ = match purpose {
            Purpose::Migrate | Purpose::Load => Ok(()),
            Purpose::Lead => write!(options, " -c lock_timeout={}", lease_ms / 5),
            Purpose::Write(_) => write!(options, " -c idle_in_transaction_session_timeout={lease_ms}"),
            Purpose::Read => write!(options, " -c statement_timeout={}", self.query_timeout.as_millis()),
        };
        let mut config = self.config.clone();
        config.options(options).application_name(match purpose {
            Purpose::Write(epoch) => self.writers(epoch),
            Purpose::Migrate | Purpose::Lead | Purpose::Read | Purpose::Load => {
                format!("paymesh-ledger {}", self.schema)
            }
        });
        config
    }
}

/// A connection for lookups.
pub(super) async fn reader(pool: &Pool) -> Result<Object, StoreError> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) => failed(error),
        // The pool's own errors hold no value.
        other => StoreError::Server(format!("no connection for a lookup: {other}")),
    })
}

/// Whether a commit with these settings survives a loss of power.
fn refuse_unsynced(fsync: &str, synchronous_commit: &str) -> Result<(), String> {
    let refusal = |setting: &str, value: &str| {
        Err(format!(
            "PostgreSQL has {setting} = {value} and may lose what it committed: set it to on, or say \
             postgres.allow_unsynced_commits"
        ))
    };
    if fsync != "on" {
        return refusal("fsync", fsync);
    }
    match synchronous_commit {
        "on" | "remote_apply" => Ok(()),
        other => refusal("synchronous_commit", other),
    }
}

/// Whether the server itself refused the statement, so that nothing of it was done. After anything else
/// what was under way may have been done or not.
pub(super) fn was_refused(error: &Error) -> bool {
    error.as_db_error().is_some_and(|refusal| refusal.parsed_severity() == Some(Severity::Error))
}

/// What went wrong, without any value of a statement: those are in an error's detail, which is left out.
pub(super) fn said(error: &Error) -> String {
    if let Some(refusal) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", refusal.message(), refusal.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        // Some repeat their cause in their own words.
        let said = source.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = source.source();
    }
    text
}

/// As an error of the store, for `map_err`.
#[allow(clippy::needless_pass_by_value)]
pub(super) fn failed(error: Error) -> StoreError {
    StoreError::Server(said(&error))
}

/// A number as the server keeps it. Sequences and epochs never come near the end of `i64`.
pub(super) fn as_bigint(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Corrupt("a number is beyond a bigint".to_owned()))
}

/// A number from the server that is never negative.
pub(super) fn from_bigint(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt("a number that counts is negative".to_owned()))
}
