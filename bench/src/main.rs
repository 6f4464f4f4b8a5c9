//! Measures the mesh from outside: what gRPC allows on this machine, and what a payment takes beside it.
//!
//! The pure cores have criterion benchmarks of their own, run by `cargo xtask bench`.

mod coalesce;
mod cpu;
mod crypto;
mod disk;
mod echo;
mod edge;
mod error;
mod interrupt;
mod ledger;
mod load;
mod memory;
mod overload;
mod payments;
mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::BenchError;

// The services run on it too, as in `paymesh`: what is freed is wiped.
#[cfg(not(any(feature = "allocations", feature = "unwiped")))]
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc> =
    zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);

#[cfg(all(feature = "unwiped", not(feature = "allocations")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "allocations")]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// Measures the mesh from outside.
///
/// Figures of a debug build say nothing: run it with `cargo run --release -p bench -- <COMMAND>`.
/// What each number means is in bench/README.md.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Coalesce(coalesce::CoalesceArgs),
    Crypto(crypto::CryptoArgs),
    Echo(echo::EchoArgs),
    Edge(edge::EdgeArgs),
    Ledger(ledger::LedgerArgs),
    Payments(payments::PaymentsArgs),
    Overload(overload::OverloadArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cfg!(debug_assertions) {
        eprintln!("bench: this is a debug build; its figures say nothing (cargo run --release -p bench)");
    }
    let outcome = match &cli.command {
        Command::Coalesce(args) => coalesce::run(args),
        Command::Crypto(args) => crypto::run(args),
        Command::Echo(args) => echo::run(args),
        Command::Edge(args) => edge::run(args),
        Command::Ledger(args) => ledger::run(args),
        Command::Payments(args) => payments::run(args),
        Command::Overload(args) => overload::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            match error {
                // As a shell would report it.
                BenchError::Interrupted { number, .. } => ExitCode::from(128 + number),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
