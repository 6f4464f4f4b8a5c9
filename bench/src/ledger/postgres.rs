//! The PostgreSQL server that the ledger is measured on, and schemas of ours in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use svc_ledger::Config;

use super::pgbench::{self, Form, run};
use super::table::Table;
use super::unary::Travel;
use super::{Bench, of_callers};
use crate::disk;
use crate::error::BenchError;

/// Of pgbench's transfers a second, one by one, the ledger on the same server should make this many times.
const TIMES_GOAL: f64 = 10.0;
const FORMS: [Form; 2] = [Form::Statements, Form::One];

const BATCH: &str = "pg batch";
const BATCH_HOT: &str = "pg batch, hot";
const UNARY: &str = "pg unary";
const COALESCED: &str = "pg unary, coalesced";

/// The ledger on the server, each case in a schema of its own, and pgbench beside it.
pub(super) fn round(bench: &Bench<'_>, table: &mut Table) -> Result<(), BenchError> {
    let url = bench.args.postgres_url.as_deref().ok_or_else(|| {
        BenchError::Arguments(
            "`postgres` needs --postgres-url, or: cargo xtask servers --durable -- bench ledger --case postgres".to_owned(),
        )
    })?;
    let server = Server::parse(url)?;
    let directory = disk::directory_in(&bench.parent)?;
    for form in FORMS {
        for of in [bench.args.accounts, 2] {
            let said = pgbench::measure(
                &server,
                directory.path(),
                form,
                (bench.args.accounts, of),
                bench.args.duration,
            )?;
            table.add_said(&name(form, of), said);
        }
    }
    let on_fresh = |case: &mut dyn FnMut(&Config) -> Result<(), BenchError>| {
        let schema = server.fresh_schema()?;
        case(&schema.config(directory.path())?)
    };
    let (accounts, hot, callers) =
        (&bench.accounts, &bench.hot, bench.args.callers.get(..1).unwrap_or_default());
    on_fresh(&mut |config| bench.batches(table, BATCH, callers, accounts, config))?;
    on_fresh(&mut |config| bench.batches(table, BATCH_HOT, callers, hot, config))?;
    on_fresh(&mut |config| bench.single(table, UNARY, accounts, Travel::Alone, config))?;
    let travel = Travel::Coalesced(bench.args.batches);
    on_fresh(&mut |config| bench.single(table, COALESCED, accounts, travel, config))?;
    Ok(())
}

/// How many times pgbench's transfers the ledger makes on the same server.
pub(super) fn compare(bench: &Bench<'_>, table: &Table) {
    let callers = bench.args.callers.first().copied().unwrap_or(1);
    let (batch, batch_hot) = (of_callers(BATCH, callers), of_callers(BATCH_HOT, callers));
    for form in FORMS {
        let (many, hot) = (name(form, bench.args.accounts), name(form, 2));
        for (ours, theirs) in
            [(batch.as_str(), &many), (COALESCED, &many), (UNARY, &many), (batch_hot.as_str(), &hot)]
        {
            if let Some(times) = table.times(ours, theirs) {
                println!("{ours}: {times:.1} times {theirs} (goal: at least {TIMES_GOAL:.0})");
            }
        }
    }
}

fn name(form: Form, accounts: u32) -> String {
    let hot = if accounts == 2 { ", hot" } else { "" };
    format!("{}{hot}", form.name())
}

/// A server, and who we are there.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// Without the password.
    url: String,
    password: String,
}

impl Server {
    /// Takes the password out of `postgres://user:password@host:port/database`.
    pub(super) fn parse(url: &str) -> Result<Self, BenchError> {
        let refused = || {
            BenchError::Arguments(
                "--postgres-url must be postgres://user:password@host:port/database, nothing percent-encoded"
                    .to_owned(),
            )
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(refused)?;
        let (user, host) = rest.split_once('@').ok_or_else(refused)?;
        let (user, password) = user.split_once(':').ok_or_else(refused)?;
        if url.contains('%') || !matches!(scheme, "postgres" | "postgresql") {
            return Err(refused());
        }
        Ok(Self { url: format!("{scheme}://{user}@{host}"), password: password.to_owned() })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// A schema with nothing in it, which goes when it is dropped.
    pub(super) fn fresh_schema(&self) -> Result<Schema, BenchError> {
        let name = format!("paymesh_bench_{}", fastrand::u32(..));
        let schema = Schema { server: self.clone(), name };
        schema.psql(&format!("CREATE SCHEMA {}", schema.name))?;
        Ok(schema)
    }
}

/// A schema of ours.
#[derive(Debug)]
pub(super) struct Schema {
    server: Server,
    name: String,
}

impl Schema {
    /// A program of PostgreSQL's that works in it. The password is not in the list of processes.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("PGPASSWORD", &self.server.password)
            .env("PGOPTIONS", format!("-c search_path={} -c client_min_messages=warning", self.name));
        command
    }

    /// Has it do something.
    pub(super) fn psql(&self, sql: &str) -> Result<(), BenchError> {
        let mut psql = self.command("psql");
        // One by one: a VACUUM is no part of a transaction.
        psql.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"]);
        for statement in sql.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            psql.args(["--command", statement]);
        }
        run(psql.arg(&self.server.url)).map(drop)
    }

    /// How a ledger is kept in it. The files that this names are made in `directory`.
    pub(super) fn config(&self, directory: &Path) -> Result<Config, BenchError> {
        let (password_file, key_file) = (directory.join("postgres.password"), directory.join("journal.key"));
        let failed = || BenchError::io(format!("a file in {}", directory.display()));
        fs::write(&password_file, &self.server.password).map_err(failed())?;
        fs::write(&key_file, [7; 32]).map_err(failed())?;
        let separator = if self.server.url.contains('?') { '&' } else { '?' };
        let postgres = serde_json::json!({
            "url": format!("{}{separator}sslmode=prefer", self.server.url),
            "password_file": password_file,
            "key_file": key_file,
            "name": "bench",
            "schema": self.name,
        });
        serde_json::from_value(serde_json::json!({ "postgres": postgres }))
            .map_err(|error| BenchError::Arguments(format!("svc-ledger on PostgreSQL: {error}")))
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        if let Err(error) = self.psql(&format!("DROP SCHEMA {} CASCADE", self.name)) {
            eprintln!("bench: the schema {} is left behind: {error}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_taken_out_of_the_url() {
        let server = Server::parse("postgres://me:secret@127.0.0.1:5432/db").unwrap();
        assert_eq!((server.url(), server.password.as_str()), ("postgres://me@127.0.0.1:5432/db", "secret"));
        for bad in ["", "mysql://a:b@h/d", "postgres://h/d", "postgres://a@h/d", "postgres://a:b%40@h/d"] {
            assert!(Server::parse(bad).is_err(), "{bad}");
        }
    }
}
