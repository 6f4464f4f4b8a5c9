//! Reading files, strictly: every count, hash and total is checked, and the first thing that is wrong is named by its
//! line and field. No input makes it panic.

use crate::change::Correction;
use crate::check;
use crate::code::{ChangeCode, ReturnCode, ReturnKind};
use crate::date::{Date, Time, digits};
use crate::error::{ParseError, Problem};
use crate::field::Field;
use crate::layout::{
    ADDENDA_CODE, ADDENDA_TYPE, BLOCKING_FACTOR, RECORD_LENGTH, Slot, batch_control, batch_header, change,
    contested, dishonored, entry, file_control, file_header, payment, returned,
};
use crate::model::{
    Addenda, Batch, BatchHeader, Change, Contested, DescriptiveDate, Dishonored, Entry, File, FileHeader,
    Return, Totals,
};
use crate::value::{
    AccountNumber, Institution, Point, RoutingNumber, SecCode, ServiceClass, TraceNumber, TransactionCode,
};

/// The most records of a file: what the block count can say.
const RECORDS_MAX: usize = 999_999 * BLOCKING_FACTOR;

impl File {
    /// Reads a whole file. Lines end with `\n`, `\r\n` or `\r`, or not at all; empty lines may follow the last record.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut lines = Lines { records: records(text)?, next: 0 };
        let header = read_file_header(&lines.take("a file header, type 1", b"1")?)?;
        let (mut batches, mut all) = (Vec::<Batch>::new(), Totals::default());
        let control = loop {
            let record = lines.take("a batch header, type 5, or the file control, type 9", b"59")?;
            if record.kind() == b'9' {
                break record;
            }
            let batch = read_batch(&record, &mut lines)?;
            if batches.last().is_some_and(|last| last.number >= batch.number) {
                return record.wrong(batch_header::NUMBER, Problem::Order);
            }
            all = all.plus(Totals::of(&batch.entries));
            batches.push(batch);
        };
        control.control(file_control::BATCHES, batches.len() as u64)?;
        control.control(file_control::BLOCKS, lines.next.div_ceil(BLOCKING_FACTOR) as u64)?;
        control.totals(
            [file_control::COUNT, file_control::HASH, file_control::DEBIT, file_control::CREDIT],
            all,
        )?;
        control.blank(file_control::RESERVED)?;
        lines.filled()?;
        Ok(Self { header, batches })
    }
}

/// The lines, each of the right length and alphabet.
fn records(text: &str) -> Result<Vec<Record<'_>>, ParseError> {
    let error = |at: usize, problem| ParseError { line: at + 1, field: Field::Record, problem };
    let bytes = text.as_bytes();
    let lines: Vec<&[u8]> = if text.contains(['\n', '\r']) {
        let mut lines = Vec::new();
        for part in bytes.split(|byte| *byte == b'\n') {
            let part = part.strip_suffix(b"\r").unwrap_or(part);
            lines.extend(part.split(|byte| *byte == b'\r'));
        }
        while lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        lines
    } else {
        bytes.chunks(RECORD_LENGTH).collect()
    };
    if lines.len() > RECORDS_MAX {
        return Err(error(RECORDS_MAX, Problem::TooMany { max: RECORDS_MAX }));
    }
    let mut records = Vec::with_capacity(lines.len());
    for (at, line) in lines.into_iter().enumerate() {
        let ascii = line.iter().all(|byte| (b' '..=b'~').contains(byte));
        let text = std::str::from_utf8(line).ok().filter(|_| ascii).ok_or(error(at, Problem::Characters))?;
        if text.len() != RECORD_LENGTH {
            return Err(error(at, Problem::Length { length: RECORD_LENGTH }));
        }
        records.push(Record { line: at + 1, text });
    }
    Ok(records)
}

struct Lines<'a> {
    records: Vec<Record<'a>>,
    next: usize,
}

impl<'a> Lines<'a> {
    /// The next record, which must be of one of those types.
    fn take(&mut self, expected: &'static str, kinds: &[u8]) -> Result<Record<'a>, ParseError> {
        let Some(record) = self.records.get(self.next).copied() else {
            return Err(ParseError { line: self.next + 1, field: Field::Record, problem: Problem::Ended });
        };
        if !kinds.contains(&record.kind()) {
            return record.wrong(crate::layout::RECORD_TYPE, Problem::Record(expected));
        }
        self.next += 1;
        Ok(record)
    }

    /// Whether nothing but filler follows, up to a whole block.
    fn filled(&self) -> Result<(), ParseError> {
        let error = |line, problem| Err(ParseError { line, field: Field::Filler, problem });
        let end = self.next.next_multiple_of(BLOCKING_FACTOR);
        for record in self.records.iter().skip(self.next) {
            if record.line > end {
                return error(record.line, Problem::Rule("must end with the block"));
            }
            if record.text.bytes().any(|byte| byte != b'9') {
                return error(record.line, Problem::Expected("94 times 9"));
            }
        }
        if self.records.len() < end { error(self.records.len() + 1, Problem::Ended) } else { Ok(()) }
    }
}

/// A line of 94 characters of ASCII.
#[derive(Clone, Copy)]
struct Record<'a> {
    line: usize,
    text: &'a str,
}

impl<'a> Record<'a> {
    fn kind(&self) -> u8 {
        self.text.as_bytes().first().copied().unwrap_or_default()
    }

    fn wrong<T>(&self, slot: Slot, problem: Problem) -> Result<T, ParseError> {
        Err(ParseError { line: self.line, field: slot.field, problem })
    }

    fn whole(&self, slot: Slot) -> &'a str {
        self.text.get(slot.range()).unwrap_or_default()
    }

    /// Without the spaces that fill it.
    fn text(&self, slot: Slot) -> String {
        self.whole(slot).trim_end().to_owned()
    }

    fn required(&self, slot: Slot) -> Result<String, ParseError> {
        let text = self.text(slot);
        if text.is_empty() { self.wrong(slot, Problem::Empty) } else { Ok(text) }
    }

    fn blank(&self, slot: Slot) -> Result<(), ParseError> {
        if self.text(slot).is_empty() { Ok(()) } else { self.wrong(slot, Problem::NotBlank) }
    }

    fn exact(&self, slot: Slot, right: &'static str) -> Result<(), ParseError> {
        if self.whole(slot) == right { Ok(()) } else { self.wrong(slot, Problem::Expected(right)) }
    }

    fn number(&self, slot: Slot) -> Result<u64, ParseError> {
        let length = slot.length();
        digits(self.whole(slot), length).map_or_else(|| self.wrong(slot, Problem::Digits { length }), Ok)
    }

    fn control(&self, slot: Slot, right: u64) -> Result<(), ParseError> {
        if self.number(slot)? == right { Ok(()) } else { self.wrong(slot, Problem::Control) }
    }

    fn totals(&self, [count, hash, debit, credit]: [Slot; 4], totals: Totals) -> Result<(), ParseError> {
        self.control(count, totals.count)?;
        self.control(hash, totals.hash)?;
        self.control(debit, totals.debit)?;
        self.control(credit, totals.credit)
    }

    /// What a type makes of the field.
    fn value<T>(&self, slot: Slot, parse: impl FnOnce(&str) -> Result<T, Problem>) -> Result<T, ParseError> {
        parse(self.whole(slot)).or_else(|problem| self.wrong(slot, problem))
    }

    /// A date, or nothing in blanks or zeros.
    fn date(&self, slot: Slot) -> Result<Option<Date>, ParseError> {
        self.value(slot, |text| match text {
            "      " | "000000" => Ok(None),
            _ => Date::read(text).map(Some).ok_or(Problem::Date),
        })
    }

    /// A day of the year, or nothing in blanks or zeros.
    fn day(&self, slot: Slot) -> Result<Option<u16>, ParseError> {
        self.value(slot, |text| match text {
            "   " | "000" => Ok(None),
            _ => digits(text, 3)
                .and_then(|day| u16::try_from(day).ok())
                .filter(|day| (1..=366).contains(day))
                .map(Some)
                .ok_or(Problem::DayOfYear),
        })
    }

    fn return_code(&self, slot: Slot, kind: ReturnKind) -> Result<ReturnCode, ParseError> {
        self.value(slot, |text| {
            let code = if text.len() == 2 { ReturnCode::parse_digits(text) } else { ReturnCode::parse(text) };
            code.filter(|code| code.kind() == kind).ok_or(Problem::ReturnCode)
        })
    }
}

fn read_file_header(record: &Record<'_>) -> Result<FileHeader, ParseError> {
    let point = |slot| record.value(slot, |text| Point::new(text.strip_prefix(' ').unwrap_or(text)));
    record.exact(file_header::PRIORITY, "01")?;
    record.exact(file_header::SIZE, "094")?;
    record.exact(file_header::BLOCKING, "10")?;
    record.exact(file_header::FORMAT, "1")?;
    Ok(FileHeader {
        destination: point(file_header::DESTINATION)?,
        origin: point(file_header::ORIGIN)?,
        created: record.value(file_header::DATE, |text| Date::read(text).ok_or(Problem::Date))?,
        created_at: record.value(file_header::TIME, |text| match text {
            "    " => Ok(None),
            _ => Time::read(text).map(Some).ok_or(Problem::Time),
        })?,
        modifier: record.value(file_header::MODIFIER, |text| {
            let upper = |letter: &char| letter.is_ascii_uppercase() || letter.is_ascii_digit();
            text.chars().next().filter(upper).ok_or(Problem::LetterOrDigit)
        })?,
        destination_name: record.text(file_header::DESTINATION_NAME),
        origin_name: record.text(file_header::ORIGIN_NAME),
        reference: record.text(file_header::REFERENCE),
    })
}

fn read_batch(record: &Record<'_>, lines: &mut Lines<'_>) -> Result<Batch, ParseError> {
    let sec = record.value(batch_header::SEC, |text| match text {
        "IAT" => Err(Problem::International),
        _ => SecCode::parse(text).ok_or(Problem::SecCode),
    })?;
    if sec == SecCode::Cor && record.whole(batch_header::COMPANY_NAME).starts_with("IATCOR") {
        return record.wrong(batch_header::SEC, Problem::International);
    }
    let class = |text: &str| ServiceClass::parse(text).ok_or(Problem::Expected("200, 220 or 225"));
    let service_class = record.value(batch_header::SERVICE_CLASS, class)?;
    record.exact(batch_header::ORIGINATOR_STATUS, "1")?;
    let header = BatchHeader {
        company_name: record.required(batch_header::COMPANY_NAME)?,
        company_data: record.text(batch_header::COMPANY_DATA),
        company_id: record.required(batch_header::COMPANY_ID)?,
        sec,
        description: record.required(batch_header::DESCRIPTION)?,
        descriptive_date: DescriptiveDate::read(&record.text(batch_header::DESCRIPTIVE_DATE)),
        effective: record.date(batch_header::EFFECTIVE)?,
        odfi: record.value(batch_header::ODFI, Institution::parse)?,
    };
    let number = record.number(batch_header::NUMBER)?;
    let settlement = record.day(batch_header::SETTLEMENT)?;
    let mut entries = Vec::<Entry>::new();
    let control = loop {
        let record = lines.take("an entry, type 6, or the batch's control, type 8", b"68")?;
        if record.kind() == b'8' {
            break record;
        }
        let entry = read_entry(&record, lines)?;
        check::entry(&header, service_class, &entry).map_err(|(field, problem)| ParseError {
            line: record.line,
            field,
            problem,
        })?;
        if entries.last().is_some_and(|last| last.trace >= entry.trace) {
            return record.wrong(entry::TRACE, Problem::Order);
        }
        entries.push(entry);
    };
    if entries.is_empty() {
        return Err(ParseError { line: control.line, field: Field::Entries, problem: Problem::Empty });
    }
    for (slot, right) in [
        (batch_control::SERVICE_CLASS, record.whole(batch_header::SERVICE_CLASS)),
        (batch_control::COMPANY_ID, record.whole(batch_header::COMPANY_ID)),
        (batch_control::ODFI, record.whole(batch_header::ODFI)),
        (batch_control::NUMBER, record.whole(batch_header::NUMBER)),
    ] {
        if control.whole(slot) != right {
            return control.wrong(slot, Problem::Header);
        }
    }
    let totals = Totals::of(&entries);
    control.totals(
        [batch_control::COUNT, batch_control::HASH, batch_control::DEBIT, batch_control::CREDIT],
        totals,
    )?;
    control.blank(batch_control::AUTHENTICATION)?;
    control.blank(batch_control::RESERVED)?;
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Batch { header, number, service_class, settlement, entries })
}

fn read_entry(record: &Record<'_>, lines: &mut Lines<'_>) -> Result<Entry, ParseError> {
    let code = |text: &str| TransactionCode::parse(text).ok_or(Problem::Expected("one that is assigned"));
    let trace = record.value(entry::TRACE, TraceNumber::parse)?;
    let addenda = record.value(entry::INDICATOR, |text| match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(Problem::Expected("0 or 1")),
    })?;
    Ok(Entry {
        code: record.value(entry::CODE, code)?,
        receiver: record.value(entry::RECEIVER, RoutingNumber::parse)?,
        account: record.value(entry::ACCOUNT, |text| AccountNumber::new(text.trim_end()))?,
        amount: i64::try_from(record.number(entry::AMOUNT)?).unwrap_or(i64::MAX),
        id: record.text(entry::ID),
        name: record.required(entry::NAME)?,
        discretionary: record.text(entry::DISCRETIONARY),
        trace,
        addenda: if addenda {
            read_addenda(&lines.take("an addenda, type 7", b"7")?, trace)?
        } else {
            Addenda::None
        },
    })
}

fn read_addenda(record: &Record<'_>, trace: TraceNumber) -> Result<Addenda, ParseError> {
    let trace_is = |slot| {
        if record.value(slot, TraceNumber::parse)? == trace {
            Ok(())
        } else {
            record.wrong(slot, Problem::Rule("must be that of the entry"))
        }
    };
    let read_trace = |slot| record.value(slot, TraceNumber::parse);
    let original_trace = || read_trace(returned::ORIGINAL_TRACE);
    let original_receiver = || record.value(returned::ORIGINAL_RECEIVER, Institution::parse);
    match record.whole(ADDENDA_TYPE) {
        "05" => {
            record.control(payment::SEQUENCE, 1)?;
            record.control(payment::ENTRY, u64::from(trace.sequence()))?;
            Ok(Addenda::Payment(record.required(payment::INFORMATION)?))
        }
        "98" => {
            trace_is(change::TRACE)?;
            record.blank(change::RESERVED)?;
            record.blank(change::RESERVED_TOO)?;
            let code =
                record.value(change::CODE, |text| ChangeCode::parse(text).ok_or(Problem::ChangeCode))?;
            Ok(Addenda::Change(Change {
                original_trace: original_trace()?,
                original_receiver: original_receiver()?,
                correction: record.value(change::DATA, |text| Correction::parse(code, text))?,
            }))
        }
        "99" => {
            let code =
                record.value(ADDENDA_CODE, |text| ReturnCode::parse(text).ok_or(Problem::ReturnCode))?;
            match code.kind() {
                ReturnKind::Return => trace_is(returned::TRACE).and_then(|()| {
                    Ok(Addenda::Return(Return {
                        code,
                        original_trace: original_trace()?,
                        original_receiver: original_receiver()?,
                        death: record.date(returned::DEATH)?,
                        information: record.text(returned::INFORMATION),
                    }))
                }),
                ReturnKind::Dishonored => {
                    trace_is(dishonored::TRACE)?;
                    record.blank(dishonored::RESERVED)?;
                    record.blank(dishonored::RESERVED_TOO)?;
                    Ok(Addenda::Dishonored(Dishonored {
                        code,
                        original_trace: original_trace()?,
                        original_receiver: original_receiver()?,
                        return_trace: read_trace(dishonored::RETURN_TRACE)?,
                        return_settlement: record.day(dishonored::RETURN_SETTLEMENT)?,
                        return_code: record.return_code(dishonored::RETURN_CODE, ReturnKind::Return)?,
                        information: record.text(dishonored::INFORMATION),
                    }))
                }
                ReturnKind::Contested => {
                    trace_is(contested::TRACE)?;
                    record.blank(contested::RESERVED)?;
                    Ok(Addenda::Contested(Contested {
                        code,
                        original_trace: original_trace()?,
                        returned: record.date(contested::RETURNED)?,
                        original_receiver: original_receiver()?,
                        original_settlement: record.day(contested::SETTLEMENT)?,
                        return_trace: read_trace(contested::RETURN_TRACE)?,
                        return_settlement: record.day(contested::RETURN_SETTLEMENT)?,
                        return_code: record.return_code(contested::RETURN_CODE, ReturnKind::Return)?,
                        dishonored_trace: read_trace(contested::DISHONORED_TRACE)?,
                        dishonored_settlement: record.day(contested::DISHONORED_SETTLEMENT)?,
                        dishonored_code: record
                            .return_code(contested::DISHONORED_CODE, ReturnKind::Dishonored)?,
                    }))
                }
            }
        }
        _ => record.wrong(ADDENDA_TYPE, Problem::Expected("05, 98 or 99")),
    }
}
