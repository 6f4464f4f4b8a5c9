//! The way to a PostgreSQL server, for stores that are kept in one: connections and pools with TLS, what every
//! session is held to, and migrations. A service has a schema for itself.
//!
//! Knows no tables but the one of the migrations and that of idempotency keys.

mod error;
pub mod idempotency;
mod lent;
mod migrate;
mod server;
mod tls;
mod url;

pub use self::{
    error::{as_bigint, failed, from_bigint, said, was_refused},
    lent::{pooled, within},
    migrate::migrate,
    server::{Server, ServerSettings, Session},
};

/// The longest schema name: it must fit into the names of sessions, with what else they say.
const SCHEMA_LENGTH_MAX: usize = 32;

/// What is wrong with a server's URL and a schema's name, which are the settings `postgres.url` and
/// `postgres.schema`, that can be seen without the server.
///
/// # Errors
/// Which setting it is, and what would be right. The URL is not repeated.
pub fn check(url: &str, schema: &str) -> Result<(), String> {
    url::parse(url)?;
    if is_schema(schema) {
        return Ok(());
    }
    Err(format!(
        "postgres.schema must be 1 to {SCHEMA_LENGTH_MAX} of a-z, 0-9 and '_', the first a letter, and must not begin with pg_"
    ))
}

/// Whether settings of the table `postgres` are within their ranges: each its name, its value, the least and the most.
///
/// # Errors
/// The first that is not, and what would be right.
pub fn in_ranges(settings: &[(&str, u64, u64, u64)]) -> Result<(), String> {
    match settings.iter().find(|(_, value, min, max)| !(min..=max).contains(&value)) {
        Some((key, _, min, max)) => Err(format!("postgres.{key} must be from {min} to {max}")),
        None => Ok(()),
    }
}

/// Whether a name needs no quotes in SQL, and is not one of the server's own.
fn is_schema(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=SCHEMA_LENGTH_MAX).contains(&name.len())
        && name.bytes().all(legal)
        && name.as_bytes()[0].is_ascii_lowercase()
        && !name.starts_with("pg_")
}
