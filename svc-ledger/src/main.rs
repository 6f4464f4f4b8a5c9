//! svc-ledger as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh::service_main::<svc_ledger::Ledger>()
}
