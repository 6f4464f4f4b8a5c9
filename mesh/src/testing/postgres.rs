//! For tests: a schema of its own in the server that tests get, `PAYMESH_TEST_POSTGRES_URL`. There is no skipping
//! without it: a store that was not tested is not known to work.

use tokio_postgres::{Client, NoTls};

const VARIABLE: &str = "PAYMESH_TEST_POSTGRES_URL";

/// A schema, which goes away with this. Nothing makes it before a service does.
pub struct Schema {
    name: String,
    server: String,
}

impl Schema {
    /// One of this name.
    ///
    /// # Panics
    /// If there is no server for tests.
    #[allow(clippy::panic)]
    pub fn new(name: &str) -> Self {
        let server = std::env::var(VARIABLE).unwrap_or_else(|_| {
            panic!("{VARIABLE} is not set; run `cargo xtask test`, or `cargo xtask servers -- cargo test`")
        });
        Self { name: name.to_owned(), server }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's URL as it is configured, without the password, which is beside it.
    ///
    /// # Panics
    /// If the server's address has no user, password and host.
    #[allow(clippy::expect_used)]
    pub fn url(&self) -> (String, String) {
        let parts = || {
            let (scheme, rest) = self.server.split_once("://")?;
            let (credential, host) = rest.rsplit_once('@')?;
            let (user, password) = credential.split_once(':')?;
            Some((format!("{scheme}://{user}@{host}?sslmode=disable"), password.to_owned()))
        };
        parts().expect("an address such as postgres://user:password@host/database")
    }

    /// The server's URL by this port on loopback, for a [way] between.
    ///
    /// # Panics
    /// As [`Schema::url`].
    ///
    /// [way]: super::way::Way
    #[allow(clippy::expect_used)]
    pub fn url_by(&self, port: u16) -> String {
        let (url, _) = self.url();
        let parts = || {
            let (user, rest) = url.rsplit_once('@')?;
            Some((user, rest.split_once('/')?.1))
        };
        let (user, database) = parts().expect("an address such as postgres://user@host/database");
        format!("{user}@127.0.0.1:{port}/{database}")
    }

    /// The server's address, host and port.
    ///
    /// # Panics
    /// As [`Schema::url`].
    #[allow(clippy::expect_used)]
    pub fn address(&self) -> String {
        let (url, _) = self.url();
        let address = || Some(url.rsplit_once('@')?.1.split_once('/')?.0.to_owned());
        address().expect("an address such as postgres://user@host/database")
    }

    /// Somebody else's session in the schema.
    ///
    /// # Panics
    /// If the server does not answer.
    #[allow(clippy::expect_used)]
    pub async fn client(&self) -> Client {
        connect(&self.server, &self.name).await.expect("the server answers")
    }
}

async fn connect(server: &str, schema: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(server, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(&format!("SET search_path = {schema}")).await?;
    Ok(client)
}

impl Drop for Schema {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // What a failed test still holds is left to whoever throws the database away.
        let drop = format!("SET lock_timeout = '3s'; DROP SCHEMA IF EXISTS {name} CASCADE");
        let dropping = async move { connect(&server, &name).await?.batch_execute(&drop).await };
        // A runtime of its own: the test's does not run while this one waits.
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(dropping))
        };
        if !matches!(std::thread::spawn(work).join(), Ok(Ok(Ok(())))) {
            tracing::warn!(schema = self.name, "a test's schema stays");
        }
    }
}
