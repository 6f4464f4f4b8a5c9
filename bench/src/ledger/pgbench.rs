//! What PostgreSQL itself does with transfers, one by one: pgbench on the server that the ledger is measured on.
#![allow(clippy::float_arithmetic, reason = "rates for people; no amount is computed here")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::postgres::Server;
use crate::error::BenchError;

/// Each has a transfer under way.
const CLIENTS: &str = "32";
/// pgbench's own; it shares the machine with the server.
const THREADS: &str = "2";

/// An append-only table of transfers with one index, and balances that are kept with them: no less than a ledger
/// needs, and without an id of the client's.
const SCHEMA: &str = "
CREATE TABLE accounts (id bigint PRIMARY KEY, debits bigint NOT NULL, credits bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE transfers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    debit bigint NOT NULL,
    credit bigint NOT NULL,
    amount bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
";

/// Two accounts and an amount. The lower id's balance is always changed first, so that nothing deadlocks.
const DRAW: &str = r"
\set debit random(1, :accounts)
\set credit 1 + (:debit - 1 + random(1, :accounts - 1)) % :accounts
\set amount random(1, 1000)
";

/// How the transfer is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A transaction of three statements, as an application would have it.
    Statements,
    /// One statement: one round trip, and the shortest hold on the rows.
    One,
}

impl Form {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Statements => "pgbench, statements",
            Self::One => "pgbench, one CTE",
        }
    }

    const fn sql(self) -> &'static str {
        match self {
            Self::Statements => {
                r"
\set low least(:debit, :credit)
\set high greatest(:debit, :credit)
\set low_debits CASE WHEN :low = :debit THEN :amount ELSE 0 END
\set high_debits :amount - :low_debits
BEGIN;
INSERT INTO transfers (debit, credit, amount) VALUES (:debit, :credit, :amount);
UPDATE accounts SET debits = debits + :low_debits, credits = credits + :high_debits WHERE id = :low;
UPDATE accounts SET debits = debits + :high_debits, credits = credits + :low_debits WHERE id = :high;
COMMIT;
"
            }
            Self::One => {
                r"
WITH made AS (INSERT INTO transfers (debit, credit, amount) VALUES (:debit, :credit, :amount))
UPDATE accounts SET
    debits = debits + CASE id WHEN :debit THEN :amount ELSE 0 END,
    credits = credits + CASE id WHEN :credit THEN :amount ELSE 0 END
WHERE id IN (:debit, :credit);
"
            }
        }
    }
}

/// What pgbench said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Said {
    /// Transfers a second.
    pub(super) rate: f64,
    /// The mean; pgbench has no quantiles without a log.
    pub(super) latency_ms: f64,
}

/// Makes the tables and as many accounts, and measures for some seconds; `hot` is how many of the accounts the
/// transfers are between.
pub(super) fn measure(
    server: &Server,
    directory: &Path,
    form: Form,
    (accounts, hot): (u32, u32),
    seconds: u64,
) -> Result<Said, BenchError> {
    let schema = server.fresh_schema()?;
    schema.psql(&format!(
        "{SCHEMA} INSERT INTO accounts SELECT id, 0, 0 FROM generate_series(1, {accounts}) AS id; VACUUM ANALYZE accounts;"
    ))?;
    let script = directory.join("pgbench.sql");
    fs::write(&script, [DRAW, form.sql()].concat()).map_err(BenchError::io("pgbench's script"))?;
    let mut pgbench = schema.command("pgbench");
    pgbench.args(["--no-vacuum", "--protocol", "prepared", "--client", CLIENTS, "--jobs", THREADS]);
    pgbench.args(["--define", &format!("accounts={hot}"), "--time", &seconds.to_string(), "--file"]);
    pgbench.arg(&script).arg(server.url());
    let output = run(&mut pgbench)?;
    parse(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
        BenchError::Postgres("pgbench did not say what it measured, or transactions failed".to_owned())
    })
}

/// Runs a program of PostgreSQL's to its end; where it fails, says what it said.
pub(super) fn run(command: &mut Command) -> Result<Output, BenchError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(BenchError::io(format!("{name} (Debian: apt-get install postgresql-client)")))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let why = said
        .lines()
        .find(|line| line.contains("rror") || line.contains("FATAL"))
        .unwrap_or("it did not say why");
    Err(BenchError::Postgres(format!("{name}: {why}")))
}

/// Nothing if any transaction failed.
fn parse(said: &str) -> Option<Said> {
    let after =
        |start: &str| said.lines().find_map(|line| line.strip_prefix(start)?.split_whitespace().next());
    // Not said by those before version 15, which give up at the first failure.
    let failed = after("number of failed transactions: ").unwrap_or("0");
    let rate = after("tps = ")?.parse().ok()?;
    let latency_ms = after("latency average = ")?.parse().ok()?;
    (failed == "0").then_some(Said { rate, latency_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "transaction type: x.sql\nnumber of failed transactions: 0 (0.000%)\nlatency average = 4.032 ms\ninitial connection time = 40.2 ms\ntps = 7936.155230 (without initial connection time)\n";

    #[test]
    fn the_rate_is_read_unless_something_failed() {
        assert_eq!(parse(SAID), Some(Said { rate: 7_936.155_230, latency_ms: 4.032 }));
        assert_eq!(parse(&SAID.replace("transactions: 0", "transactions: 7")), None);
        assert_eq!(parse("pgbench (15.18)\n"), None);
    }
}
