//! Whole files: what is written is read as the same, and what is altered is noticed or harmless.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod moov;

use nacha::{
    AMOUNT_MAX, AccountNumber, Addenda, BatchHeader, Change, Correction, Date, DescriptiveDate, Dishonored,
    Entry, Field, File, FileHeader, Institution, Point, Problem, Return, ReturnCode, RoutingNumber, SecCode,
    Time, TraceNumber, TransactionCode,
};
use proptest::prelude::*;

const ODFI: &str = "09100001";

fn header() -> FileHeader {
    FileHeader {
        destination: RoutingNumber::parse("091000019").unwrap().into(),
        origin: Point::new("1234567890").unwrap(),
        created: Date::new(2026, 11, 20).unwrap(),
        created_at: Time::new(14, 5),
        modifier: 'A',
        destination_name: "FIRST BANK".into(),
        origin_name: "PAYMESH".into(),
        reference: String::new(),
    }
}

fn batch(sec: SecCode) -> BatchHeader {
    BatchHeader {
        company_name: "ACME INC".into(),
        company_data: String::new(),
        company_id: "1234567890".into(),
        sec,
        description: "PURCHASE".into(),
        descriptive_date: DescriptiveDate::Text("NOV 20".into()),
        effective: Date::new(2026, 11, 23),
        odfi: Institution::parse(ODFI).unwrap(),
    }
}

fn entry(code: &str, amount: i64, sequence: u32, addenda: Addenda) -> Entry {
    Entry {
        code: TransactionCode::parse(code).unwrap(),
        receiver: RoutingNumber::parse("021000021").unwrap(),
        account: AccountNumber::new("12-345 678").unwrap(),
        amount,
        id: "ORDER 7".into(),
        name: "Paul O'Neil".into(),
        discretionary: "S".into(),
        trace: TraceNumber::new(Institution::parse(ODFI).unwrap(), sequence).unwrap(),
        addenda,
    }
}

fn returned(code: ReturnCode) -> Addenda {
    Addenda::Return(Return {
        code,
        original_trace: TraceNumber::parse("091000010000001").unwrap(),
        original_receiver: Institution::parse("02100002").unwrap(),
        death: None,
        information: String::new(),
    })
}

fn one(sec: SecCode, entry: Entry) -> Result<File, nacha::BuildError> {
    File::build(header(), vec![(batch(sec), vec![entry])])
}

fn refused(header: BatchHeader, entry: Entry) -> (Field, Problem) {
    let error = File::build(self::header(), vec![(header, vec![entry])]).unwrap_err();
    (error.field, error.problem)
}

/// Written by hand from the tables of the rules, not by this crate.
#[test]
fn a_file_is_laid_out_as_the_rules_say() {
    let payment = Addenda::Payment("INVOICE 7".into());
    let file = one(SecCode::Web, entry("27", 12_345, 1, payment)).unwrap();
    let expected = format!(
        "{:<94}\n{:<94}\n{}\n{:<83}00010000001\n{:<54}{:25}091000010000001\n{:<94}\n{filler}\n{filler}\n{filler}\n{filler}\n",
        "101 09100001912345678902611201405A094101FIRST BANK             PAYMESH",
        "5225ACME INC                            1234567890WEBPURCHASE  NOV 20261123   1091000010000001",
        "62702100002112-345 678       0000012345ORDER 7        Paul O'Neil           S 1091000010000001",
        "705INVOICE 7",
        "822500000200021000020000000123450000000000001234567890",
        "",
        "9000001000001000000020002100002000000012345000000000000",
        filler = "9".repeat(94)
    );
    assert_eq!(file.write(), expected);
    assert_eq!(File::parse(&expected), Ok(file));
}

#[test]
fn every_ending_of_lines_is_read() {
    let file = one(SecCode::Ppd, entry("22", 1, 1, Addenda::None)).unwrap();
    let text = file.write();
    for ending in ["\r\n", "\r", "", "\n"] {
        assert_eq!(File::parse(&text.replace('\n', ending)), Ok(file.clone()), "{ending:?}");
    }
    assert_eq!(File::parse(text.trim_end()), Ok(file));
}

#[test]
fn returns_and_changes_are_told_apart() {
    let odfi = Institution::parse("02100002").unwrap();
    let trace = TraceNumber::parse("091000010000001").unwrap();
    let dishonored = Addenda::Dishonored(Dishonored {
        code: ReturnCode::R68,
        original_trace: trace,
        original_receiver: odfi,
        return_trace: trace,
        return_settlement: Some(325),
        return_code: ReturnCode::R01,
        information: String::new(),
    });
    let correction = Correction::Account(AccountNumber::new("987").unwrap());
    let change = Addenda::Change(Change { original_trace: trace, original_receiver: odfi, correction });
    let returns = vec![entry("26", 500, 1, returned(ReturnCode::R01)), entry("36", 0, 2, dishonored)];
    let changes = vec![entry("21", 0, 3, change)];
    let file =
        File::build(header(), vec![(batch(SecCode::Web), returns), (batch(SecCode::Cor), changes)]).unwrap();
    assert_eq!(File::parse(&file.write()), Ok(file));
}

#[test]
fn what_is_wrong_is_named_by_line_and_field() {
    let text = one(SecCode::Ppd, entry("27", 500, 1, Addenda::None)).unwrap().write();
    let found = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let error = File::parse(&text.replacen(from, to, 1)).unwrap_err();
        (error.line, error.field, error.problem)
    };
    assert_eq!(found("0000000500", "0000000501"), (4, Field::TotalDebit, Problem::Control));
    assert_eq!(found("627021000021", "627021000020"), (3, Field::ReceivingDfi, Problem::CheckDigit));
    assert_eq!(found("627021000021", "627091000019"), (4, Field::EntryHash, Problem::Control));
    assert_eq!(found("PPD", "IAT"), (2, Field::StandardEntryClassCode, Problem::International));
    assert_eq!(found("PPD", "CTX"), (2, Field::StandardEntryClassCode, Problem::SecCode));
    assert_eq!(found("9000001000001", "9000001000002"), (5, Field::BlockCount, Problem::Control));
    assert_eq!(found("9000001", "9000002"), (5, Field::BatchCount, Problem::Control));
    assert_eq!(found("ACME INC", "ACME INC "), (2, Field::Record, Problem::Length { length: 94 }));
    assert_eq!(found("Paul", "P\u{7f}ul"), (3, Field::Record, Problem::Characters));
    let cut = text.lines().take(3).collect::<Vec<_>>().join("\n");
    let error = File::parse(&cut).unwrap_err();
    assert_eq!((error.line, error.problem), (4, Problem::Ended));
    assert_eq!(File::parse("").unwrap_err().to_string(), "line 1: record: must follow: the file ends here");
}

#[test]
fn what_does_not_fit_is_refused_and_never_cut_off() {
    let good = || entry("27", 500, 1, Addenda::None);
    let long = Entry { name: "x".repeat(23), ..good() };
    assert_eq!(refused(batch(SecCode::Ppd), long), (Field::IndividualName, Problem::TooLong { max: 22 }));
    let odd = Entry { id: "Café".into(), ..good() };
    assert_eq!(refused(batch(SecCode::Ppd), odd), (Field::IndividualId, Problem::Characters));
    let much = Entry { amount: AMOUNT_MAX + 1, ..good() };
    assert_eq!(
        refused(batch(SecCode::Ppd), much),
        (Field::Amount, Problem::Range { min: 0, max: AMOUNT_MAX })
    );
    assert_eq!(refused(batch(SecCode::Ppd), Entry { amount: 0, ..good() }).0, Field::Amount);
    assert_eq!(refused(batch(SecCode::Ppd), entry("28", 1, 1, Addenda::None)).0, Field::Amount);
    assert_eq!(refused(batch(SecCode::Tel), entry("22", 1, 1, Addenda::None)).0, Field::TransactionCode);
    assert_eq!(
        refused(batch(SecCode::Ppd), entry("27", 5, 1, returned(ReturnCode::R01))).0,
        Field::TransactionCode
    );
    assert_eq!(
        refused(batch(SecCode::Web), Entry { discretionary: String::new(), ..good() }).0,
        Field::DiscretionaryData
    );
    let same_day = BatchHeader {
        descriptive_date: DescriptiveDate::SameDay(Time::new(13, 0).unwrap()),
        ..batch(SecCode::Ppd)
    };
    assert_eq!(refused(same_day, Entry { amount: 100_000_001, ..good() }).0, Field::Amount);
    let full: Vec<Entry> = (1..=101).map(|at| entry("27", AMOUNT_MAX, at, Addenda::None)).collect();
    let error = File::build(header(), vec![(batch(SecCode::Ppd), full)]).unwrap_err();
    assert_eq!((error.field, error.problem), (Field::TotalDebit, Problem::Overflow { max: 999_999_999_999 }));
    let twice = vec![good(), good()];
    let error = File::build(header(), vec![(batch(SecCode::Ppd), twice)]).unwrap_err();
    assert_eq!((error.field, error.problem), (Field::TraceNumber, Problem::Order));
}

prop_compose! {
    fn any_entry(debits_only: bool)(
        code in prop::sample::select(if debits_only { &["27", "37", "28", "38"][..] } else { &["22", "23", "27", "28", "32", "33", "37", "38"][..] }),
        amount in 1..=AMOUNT_MAX / 100,
        institution in 1_u32..=99_999_999,
        account in "[A-Za-z1-9]([ -~]{0,15}[!-~])?",
        id in "([!-~]([ -~]{0,13}[!-~])?)?",
        name in "[A-Z]([ -~]{0,20}[!-~])?",
        discretionary in "[RS]",
        information in prop::option::of("[!-~]([ -~]{0,78}[!-~])?"),
    ) -> Entry {
        let code = TransactionCode::parse(code).unwrap();
        let institution = Institution::parse(&format!("{institution:08}")).unwrap();
        Entry {
            code,
            receiver: institution.routing_number(),
            account: AccountNumber::new(&account).unwrap(),
            amount: if code.purpose == nacha::Purpose::Live { amount } else { 0 },
            id, name, discretionary,
            trace: TraceNumber::new(Institution::parse(ODFI).unwrap(), 0).unwrap(),
            addenda: information.filter(|_| !debits_only).map_or(Addenda::None, Addenda::Payment),
        }
    }
}

fn any_file() -> impl Strategy<Value = File> {
    let sec = prop::sample::select(&[SecCode::Ppd, SecCode::Ccd, SecCode::Web, SecCode::Tel][..]);
    let one =
        sec.prop_flat_map(|sec| (Just(sec), prop::collection::vec(any_entry(sec == SecCode::Tel), 1..8)));
    prop::collection::vec(one, 1..5).prop_map(|batches| {
        let mut sequence = 0;
        let batches = batches.into_iter().map(|(sec, mut entries)| {
            for entry in &mut entries {
                sequence += 1;
                entry.trace = TraceNumber::new(entry.trace.odfi(), sequence).unwrap();
            }
            (batch(sec), entries)
        });
        File::build(header(), batches.collect()).unwrap()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(file in any_file()) {
        prop_assert_eq!(File::parse(&file.write()), Ok(file));
    }

    /// Whatever an altered file is read as, it says the same when it is written again.
    #[test]
    fn an_altered_file_is_refused_or_holds(
        file in any_file(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = file.write().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(read) = File::parse(&String::from_utf8_lossy(&bytes)) {
            prop_assert_eq!(File::parse(&read.write()), Ok(read));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(?s).{0,400}") {
        let _ = File::parse(&text);
    }
}
