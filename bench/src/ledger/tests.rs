//! Small runs of every case.

use super::*;
use clap::Parser as _;

#[derive(Debug, clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: LedgerArgs,
}

fn bench<T>(arguments: &[&str], look: impl FnOnce(&Bench<'_>) -> T) -> T {
    let args = Cli::parse_from([&["ledger"], arguments].concat()).args;
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path().to_path_buf();
    look(&Bench { args: &args, parent, accounts: Accounts::new(args.accounts), hot: Accounts::new(2) })
}

#[test]
fn every_transfer_of_every_case_is_made() {
    let arguments = ["--transfers", "250", "--per-call", "100", "--accounts", "20", "--in-flight", "16"];
    bench(&arguments, |bench| {
        let mut table = Table::default();
        bench.round(&mut table).unwrap();
        bench.compare(&table);
        for (name, calls) in [
            ("batch x 4", 3),
            ("batch, hot x 4", 3),
            ("unary", 250),
            ("unary, coalesced", 250),
            ("unary, hot", 250),
        ] {
            let rounds = table.rounds(name);
            assert_eq!((rounds.len(), rounds[0].latencies_us.len()), (1, calls), "{name}");
        }
        assert_eq!(table.rounds("echo limit").len(), 1);
    });
}

#[test]
fn a_call_with_one_transfer_refused_does_not_count() {
    let result = |code: Code| TransferResult { code: code.into(), timestamp_ns: 1 };
    assert!(all_created(&[result(Code::Created), result(Code::Created)], 2).is_ok());
    assert!(all_created(&[result(Code::Created)], 2).is_err());
    let error = all_created(&[result(Code::Created), result(Code::ExceedsCredits)], 2).unwrap_err();
    assert!(error.to_string().contains("EXCEEDS_CREDITS"), "{error}");
}
