//! The same files read and written by another implementation, moov-io/ach: the program that `PAYMESH_TEST_ACH` names.

use std::io::Write as _;
use std::process::{Command, Stdio};

use nacha::{Addenda, ChangeCode, File, ReturnCode, ReturnKind};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

/// What the program prints for that input.
fn moov(verb: &str, input: &str) -> String {
    let program = std::env::var("PAYMESH_TEST_ACH")
        .expect("PAYMESH_TEST_ACH must name the program: run `cargo xtask servers -- cargo test -p nacha`");
    let mut command = Command::new(program);
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn read(text: &str) -> Value {
    serde_json::from_str(&moov("read", text)).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default().trim_end()
}

/// Whether moov has read what the file says.
fn same(file: &File, read: &Value) {
    assert_eq!(read["error"], Value::Null);
    assert_eq!(text(&read["fileHeader"]["immediateDestination"]), file.header().destination.as_str());
    assert_eq!(text(&read["fileHeader"]["immediateOrigin"]), file.header().origin.as_str());
    let batches = read["batches"].as_array().unwrap();
    assert_eq!(batches.len(), file.batches().len());
    for (theirs, ours) in batches.iter().zip(file.batches()) {
        let header = &theirs["batchHeader"];
        assert_eq!(text(&header["standardEntryClassCode"]), ours.header().sec.as_str());
        assert_eq!(header["serviceClassCode"].to_string(), ours.service_class().as_str());
        assert_eq!(text(&header["companyName"]), ours.header().company_name);
        assert_eq!(text(&header["companyIdentification"]), ours.header().company_id);
        assert_eq!(text(&header["ODFIIdentification"]), ours.header().odfi.to_string());
        assert_eq!(header["batchNumber"].as_u64(), Some(u64::from(ours.number())));
        let entries = theirs["entryDetails"].as_array().unwrap();
        assert_eq!(entries.len(), ours.entries().len());
        for (theirs, ours) in entries.iter().zip(ours.entries()) {
            assert_eq!(theirs["transactionCode"].as_u64(), ours.code.number().map(u64::from));
            let routing = format!("{}{}", text(&theirs["RDFIIdentification"]), text(&theirs["checkDigit"]));
            assert_eq!(routing, ours.receiver.to_string());
            assert_eq!(text(&theirs["DFIAccountNumber"]), ours.account.as_str());
            assert_eq!(theirs["amount"].as_i64(), Some(ours.amount));
            assert_eq!(text(&theirs["identificationNumber"]), ours.id);
            assert_eq!(text(&theirs["individualName"]), ours.name);
            assert_eq!(text(&theirs["discretionaryData"]), ours.discretionary);
            assert_eq!(text(&theirs["traceNumber"]), ours.trace.to_string());
            let addenda = &theirs["addenda05"];
            match &ours.addenda {
                Addenda::Payment(information) => {
                    assert_eq!(text(&addenda[0]["paymentRelatedInformation"]), information);
                }
                _ => assert_eq!(*addenda, Value::Null),
            }
        }
    }
}

#[test]
fn moov_reads_what_we_write() {
    let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    let files = super::any_file();
    runner
        .run(&files, |file| {
            same(&file, &read(&file.write()));
            Ok(())
        })
        .unwrap();
}

/// An altered total is refused by both.
#[test]
fn moov_refuses_what_we_refuse() {
    let mut runner = TestRunner::new(Config { cases: 50, failure_persistence: None, ..Config::default() });
    runner
        .run(&(super::any_file(), 20_usize..44, any::<prop::sample::Index>()), |(file, at, line)| {
            let written = file.write();
            let controls: Vec<usize> = written
                .lines()
                .enumerate()
                .filter(|(_, line)| line.starts_with('8'))
                .map(|(number, _)| number * 95)
                .collect();
            let mut bytes = written.into_bytes();
            let place = &mut bytes[controls[line.index(controls.len())] + at];
            *place = if *place == b'9' { b'0' } else { *place + 1 };
            let altered = String::from_utf8(bytes).unwrap();
            prop_assert!(File::parse(&altered).is_err());
            prop_assert_ne!(&read(&altered)["error"], &Value::Null);
            Ok(())
        })
        .unwrap();
}

#[test]
fn we_read_the_returns_that_moov_writes() {
    let file = File::parse(&moov("returns", "")).unwrap();
    let mut codes = Vec::new();
    for entry in file.batches()[0].entries() {
        let Addenda::Return(returned) = &entry.addenda else { panic!("{:?}", entry.addenda) };
        assert_eq!(returned.original_trace.sequence(), entry.trace.sequence());
        assert_eq!(entry.amount, i64::from(1000 + entry.trace.sequence()));
        assert_eq!(returned.code.as_str(), format!("R{:02}", entry.trace.sequence()));
        codes.push(returned.code);
    }
    let known: Vec<ReturnCode> = ReturnCode::ALL
        .iter()
        .copied()
        .filter(|code| code.kind() == ReturnKind::Return && *code != ReturnCode::R90)
        .collect();
    assert_eq!(codes, known);
    assert_eq!(File::parse(&file.write()), Ok(file));
}

#[test]
fn we_read_the_changes_that_moov_writes() {
    let file = File::parse(&moov("changes", "")).unwrap();
    let codes: Vec<ChangeCode> = file.batches()[0]
        .entries()
        .iter()
        .map(|entry| {
            let Addenda::Change(change) = &entry.addenda else { panic!("{:?}", entry.addenda) };
            assert_eq!(change.original_trace.sequence(), entry.trace.sequence());
            change.correction.code()
        })
        .collect();
    let written = ["C01", "C02", "C03", "C04", "C05", "C06", "C07", "C09"];
    assert_eq!(codes, written.map(|code| ChangeCode::parse(code).unwrap()));
}
