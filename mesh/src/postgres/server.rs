//! Connections to the server, and what every session is held to.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio::time::timeout;
use tokio_postgres::{Client, Config, config::TargetSessionAttrs};

use super::{
    check,
    error::{failed, said},
    tls::Tls,
    url::{self, Protection},
};
use crate::{service::StartError, store::StoreError};

/// After so long without a sign of life a peer is asked for one, and given up when it stays silent. Said
/// for both ends: a session of a machine that is gone must not hold its locks for hours.
const KEEPALIVE_S: u32 = 5;

/// What a server is reached with. The names in errors are those of a service's settings below `postgres`.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Who connects, such as `paymesh-ledger`: part of the sessions' names.
    pub application: &'static str,
    /// `postgres.url`: the server and the database, without a password.
    pub url: String,
    /// `postgres.password_file`.
    pub password_file: Option<PathBuf>,
    /// `postgres.ca_file`: whom to trust, PEM.
    pub ca_file: Option<PathBuf>,
    /// `postgres.schema`: where everything is.
    pub schema: String,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// After how long a server that acknowledges nothing is given up.
    pub silence_max: Duration,
    /// Takes a server that may lose what it committed.
    pub allow_unsynced_commits: bool,
}

/// What one kind of session is called and held to, beside what all are.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// What follows the application and the schema in the session's name; mostly nothing.
    pub name: String,
    /// Settings, by their names in the server.
    pub settings: Vec<(&'static str, String)>,
}

/// The server, as it is configured. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    config: Config,
    tls: Tls,
    application: &'static str,
    schema: String,
    connect_timeout: Duration,
    allow_unsynced_commits: bool,
}

impl Server {
    /// Reads the files that the settings name. Does not connect.
    ///
    /// # Errors
    /// Which setting is wrong, and what would be right.
    pub fn new(settings: &ServerSettings) -> Result<Self, StartError> {
        check(&settings.url, &settings.schema).map_err(StartError::Config)?;
        let url = url::parse(&settings.url).map_err(StartError::Config)?;
        let tls = match (&settings.ca_file, url.protection) {
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
        let mut config = url.config;
        config
            .connect_timeout(settings.connect_timeout)
            .tcp_user_timeout(settings.silence_max)
            .keepalives_idle(Duration::from_secs(KEEPALIVE_S.into()))
            .keepalives_interval(Duration::from_secs(KEEPALIVE_S.into()))
            .keepalives_retries(2)
            // Never a standby, which may lag, whichever of several hosts answers first.
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        if let Some(path) = &settings.password_file {
            let password = read_file("password_file", path)?;
            config.password(password.trim_ascii_end());
        }
        Ok(Self {
            config,
            tls,
            application: settings.application,
            schema: settings.schema.clone(),
            connect_timeout: settings.connect_timeout,
            allow_unsynced_commits: settings.allow_unsynced_commits,
        })
    }

    /// The schema that holds everything.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Who connects.
    pub fn application(&self) -> &'static str {
        self.application
    }

    /// What the sessions of a kind are called in the server.
    pub fn name_of(&self, session: &Session) -> String {
        let (application, schema) = (self.application, &self.schema);
        if session.name.is_empty() {
            format!("{application} {schema}")
        } else {
            format!("{application} {schema} {}", session.name)
        }
    }

    /// Makes a connection. The session ends when the client is dropped.
    ///
    /// # Errors
    /// [`StoreError::Server`].
    pub async fn connect(&self, session: &Session) -> Result<Client, StoreError> {
        let config = self.config_for(session);
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

    /// Refuses a server that may lose what it committed. The session keeps what was found, also when the
    /// server's own setting changes later: what it says is committed is on the disk.
    ///
    /// # Errors
    /// [`StoreError::Server`].
    pub async fn pin_durability(&self, client: &Client) -> Result<(), StoreError> {
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

    /// Connections for lookups, made as they are needed, at most `size` (`postgres.pool_max`). Who asks for one
    /// waits for at most `wait`.
    ///
    /// # Errors
    /// A size of none.
    pub fn pool(&self, session: &Session, size: usize, wait: Duration) -> Result<Pool, StartError> {
        self.build_pool(session, size, wait, None)
    }

    /// The same for connections that also write: each is as [`Server::pin_durability`] leaves it.
    ///
    /// # Errors
    /// A size of none.
    pub fn pool_of_writers(
        &self,
        session: &Session,
        size: usize,
        wait: Duration,
    ) -> Result<Pool, StartError> {
        let server = self.clone();
        let pin = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
            let server = server.clone();
            Box::pin(async move {
                server.pin_durability(client).await.map_err(|error| HookError::message(error.to_string()))
            })
        });
        self.build_pool(session, size, wait, Some(pin))
    }

    fn build_pool(
        &self,
        session: &Session,
        size: usize,
        wait: Duration,
        post_create: Option<Hook>,
    ) -> Result<Pool, StartError> {
        let fast = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.config_for(session), self.tls.clone(), fast);
        let mut pool = Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(wait))
            .create_timeout(Some(wait));
        if let Some(hook) = post_create {
            pool = pool.post_create(hook);
        }
        pool.build().map_err(|error| StartError::Config(format!("postgres.pool_max: {error}")))
    }

    fn config_for(&self, session: &Session) -> Config {
        // READ COMMITTED by name: what waits for a lock must then see what the other one committed.
        let mut options = format!(
            "-c search_path={} -c default_transaction_isolation=read\\ committed -c statement_timeout=0 \
             -c tcp_keepalives_idle={KEEPALIVE_S} -c tcp_keepalives_interval={KEEPALIVE_S} -c tcp_keepalives_count=2 \
             -c client_min_messages=warning",
            self.schema
        );
        for (name, value) in &session.settings {
            // Writing to a String cannot fail.
            let _ = write!(options, " -c {name}={value}");
        }
        let mut config = self.config.clone();
        config.options(options).application_name(self.name_of(session));
        config
    }
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

/// Reads a file that the settings name; `key` says which.
fn read_file(key: &str, path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(StartError::io(format!("postgres.{key}: the file {}", path.display())))
}
