//! Building files, and writing them. What does not fit is refused, never cut off.

use crate::check;
use crate::date::{Date, Time};
use crate::error::{BuildError, Problem};
use crate::field::Field;
use crate::layout::{
    ADDENDA_TYPE, BLOCKING_FACTOR, RECORD_LENGTH, Slot, batch_control, batch_header, change, contested,
    dishonored, entry, file_control, file_header, payment, returned,
};
use crate::model::{Addenda, Batch, BatchHeader, DescriptiveDate, Entry, File, FileHeader, Totals};
use crate::value::{Direction, SecCode, ServiceClass, check_optional_text, check_text};

/// The most that a total of twelve digits says.
const TOTAL_MAX: u64 = 999_999_999_999;
/// The most entries and addenda of a batch: six digits.
const BATCH_COUNT_MAX: u64 = 999_999;
/// The most batches of a file: six digits.
const BATCHES_MAX: u32 = 999_999;

impl File {
    /// A file of at least one batch, each with its entries; batches are numbered from 1. Entries come by ascending
    /// trace numbers that begin with their batch's ODFI.
    pub fn build(header: FileHeader, batches: Vec<(BatchHeader, Vec<Entry>)>) -> Result<Self, BuildError> {
        file_header_is_right(&header)?;
        if batches.is_empty() {
            return Err(error(Field::BatchCount, Problem::Empty));
        }
        let mut all = Totals::default();
        let count = batches.len();
        let mut built = Vec::with_capacity(count);
        for (number, (header, entries)) in (1..=BATCHES_MAX).zip(batches) {
            let service_class = batch_is_right(&header, &entries)?;
            let totals = Totals::of(&entries);
            bounded(totals, BATCH_COUNT_MAX)?;
            all = all.plus(totals);
            built.push(Batch { header, number, service_class, settlement: None, entries });
        }
        if built.len() != count {
            return Err(error(Field::BatchCount, Problem::Overflow { max: u64::from(BATCHES_MAX) }));
        }
        bounded(all, 99_999_999)?;
        Ok(Self { header, batches: built })
    }

    /// The records, each with `\n` after it.
    pub fn write(&self) -> String {
        let mut lines = vec![write_file_header(&self.header)];
        let mut all = Totals::default();
        for batch in &self.batches {
            let totals = Totals::of(&batch.entries);
            all = all.plus(totals);
            lines.push(write_batch_header(batch));
            for entry in &batch.entries {
                lines.push(write_entry(entry));
                lines.extend(write_addenda(entry));
            }
            let mut line = Line::new('8');
            line.text(batch_control::SERVICE_CLASS, batch.service_class.as_str());
            line.totals(
                [batch_control::COUNT, batch_control::HASH, batch_control::DEBIT, batch_control::CREDIT],
                totals,
            );
            line.text(batch_control::COMPANY_ID, &batch.header.company_id);
            line.text(batch_control::ODFI, &batch.header.odfi.to_string());
            line.number(batch_control::NUMBER, u64::from(batch.number));
            lines.push(line);
        }
        let blocks = (lines.len() + 1).div_ceil(BLOCKING_FACTOR);
        let mut line = Line::new('9');
        line.number(file_control::BATCHES, self.batches.len() as u64);
        line.number(file_control::BLOCKS, blocks as u64);
        line.totals(
            [file_control::COUNT, file_control::HASH, file_control::DEBIT, file_control::CREDIT],
            all,
        );
        lines.push(line);
        lines.resize_with(blocks * BLOCKING_FACTOR, Line::filler);
        lines.into_iter().fold(String::new(), |mut text, line| {
            text.extend(line.0.iter().map(|byte| char::from(*byte)));
            text.push('\n');
            text
        })
    }
}

fn error(field: Field, problem: Problem) -> BuildError {
    BuildError { field, problem }
}

fn bounded(totals: Totals, count_max: u64) -> Result<(), BuildError> {
    for (field, total, max) in [
        (Field::EntryCount, totals.count, count_max),
        (Field::TotalDebit, totals.debit, TOTAL_MAX),
        (Field::TotalCredit, totals.credit, TOTAL_MAX),
    ] {
        if total > max {
            return Err(error(field, Problem::Overflow { max }));
        }
    }
    Ok(())
}

fn required(slot: Slot, text: &str) -> Result<(), BuildError> {
    check_text(text, slot.length()).map_err(|problem| error(slot.field, problem))
}

fn optional(slot: Slot, text: &str) -> Result<(), BuildError> {
    check_optional_text(text, slot.length()).map_err(|problem| error(slot.field, problem))
}

fn file_header_is_right(header: &FileHeader) -> Result<(), BuildError> {
    if header.destination.routing_number().is_none() {
        return Err(error(Field::ImmediateDestination, Problem::CheckDigit));
    }
    if !(header.modifier.is_ascii_uppercase() || header.modifier.is_ascii_digit()) {
        return Err(error(Field::FileIdModifier, Problem::LetterOrDigit));
    }
    optional(file_header::DESTINATION_NAME, &header.destination_name)?;
    optional(file_header::ORIGIN_NAME, &header.origin_name)?;
    optional(file_header::REFERENCE, &header.reference)
}

fn batch_is_right(header: &BatchHeader, entries: &[Entry]) -> Result<ServiceClass, BuildError> {
    required(batch_header::COMPANY_NAME, &header.company_name)?;
    optional(batch_header::COMPANY_DATA, &header.company_data)?;
    required(batch_header::COMPANY_ID, &header.company_id)?;
    required(batch_header::DESCRIPTION, &header.description)?;
    for (field, text) in [
        (Field::CompanyName, &header.company_name),
        (Field::CompanyIdentification, &header.company_id),
        (Field::CompanyEntryDescription, &header.description),
    ] {
        if text.bytes().all(|byte| matches!(byte, b'0' | b' ')) {
            return Err(error(field, Problem::Empty));
        }
    }
    if header.effective.is_none() {
        return Err(error(Field::EffectiveEntryDate, Problem::Date));
    }
    if let DescriptiveDate::Text(text) = &header.descriptive_date {
        optional(batch_header::DESCRIPTIVE_DATE, text)?;
        if DescriptiveDate::read(text) != header.descriptive_date {
            return Err(error(
                Field::CompanyDescriptiveDate,
                Problem::Rule("must be given as same-day settlement"),
            ));
        }
    }
    let has = |direction| entries.iter().any(|entry| entry.code.direction == direction);
    let class = match (has(Direction::Credit), has(Direction::Debit)) {
        (false, false) => return Err(error(Field::Entries, Problem::Empty)),
        (true, false) => ServiceClass::Credits,
        (false, true) => ServiceClass::Debits,
        (true, true) => ServiceClass::Mixed,
    };
    let mut last = None;
    for entry in entries {
        entry_is_right(header, class, entry)?;
        if last.is_some_and(|last| last >= entry.trace) {
            return Err(error(Field::TraceNumber, Problem::Order));
        }
        last = Some(entry.trace);
    }
    Ok(class)
}

fn entry_is_right(header: &BatchHeader, class: ServiceClass, entry: &Entry) -> Result<(), BuildError> {
    if entry.code.number().is_none() {
        return Err(error(Field::TransactionCode, Problem::Expected("one that is assigned")));
    }
    optional(entry::ID, &entry.id)?;
    required(entry::NAME, &entry.name)?;
    if entry.name.bytes().all(|byte| matches!(byte, b'0' | b' ')) {
        return Err(error(Field::IndividualName, Problem::Empty));
    }
    optional(entry::DISCRETIONARY, &entry.discretionary)?;
    let forward = matches!(entry.addenda, Addenda::None | Addenda::Payment(_));
    if forward
        && matches!(header.sec, SecCode::Web | SecCode::Tel)
        && !matches!(entry.discretionary.as_str(), "R" | "S")
    {
        return Err(error(Field::DiscretionaryData, Problem::Expected("R (recurring) or S (single)")));
    }
    match &entry.addenda {
        Addenda::None => {}
        Addenda::Payment(text) => required(payment::INFORMATION, text)?,
        Addenda::Change(change) => {
            change.correction.written().map_err(|problem| error(Field::CorrectedData, problem))?;
        }
        Addenda::Return(data) => optional(returned::INFORMATION, &data.information)?,
        Addenda::Dishonored(data) => {
            optional(dishonored::INFORMATION, &data.information)?;
            day(Field::ReturnSettlementDate, data.return_settlement)?;
        }
        Addenda::Contested(data) => {
            day(Field::OriginalSettlementDate, data.original_settlement)?;
            day(Field::ReturnSettlementDate, data.return_settlement)?;
            day(Field::DishonoredSettlementDate, data.dishonored_settlement)?;
        }
    }
    check::entry(header, class, entry).map_err(|(field, problem)| error(field, problem))
}

fn day(field: Field, day: Option<u16>) -> Result<(), BuildError> {
    if day.is_none_or(|day| (1..=366).contains(&day)) {
        Ok(())
    } else {
        Err(error(field, Problem::DayOfYear))
    }
}

fn write_file_header(header: &FileHeader) -> Line {
    let mut line = Line::new('1');
    line.text(file_header::PRIORITY, "01");
    line.text(file_header::DESTINATION, &format!("{:>10}", header.destination.as_str()));
    line.text(file_header::ORIGIN, &format!("{:>10}", header.origin.as_str()));
    line.text(file_header::DATE, &header.created.written());
    line.text(file_header::TIME, &header.created_at.map(Time::written).unwrap_or_default());
    line.text(file_header::MODIFIER, &header.modifier.to_string());
    line.text(file_header::SIZE, "094");
    line.text(file_header::BLOCKING, "10");
    line.text(file_header::FORMAT, "1");
    line.text(file_header::DESTINATION_NAME, &header.destination_name);
    line.text(file_header::ORIGIN_NAME, &header.origin_name);
    line.text(file_header::REFERENCE, &header.reference);
    line
}

fn write_batch_header(batch: &Batch) -> Line {
    let header = &batch.header;
    let mut line = Line::new('5');
    line.text(batch_header::SERVICE_CLASS, batch.service_class.as_str());
    line.text(batch_header::COMPANY_NAME, &header.company_name);
    line.text(batch_header::COMPANY_DATA, &header.company_data);
    line.text(batch_header::COMPANY_ID, &header.company_id);
    line.text(batch_header::SEC, header.sec.as_str());
    line.text(batch_header::DESCRIPTION, &header.description);
    let date = match &header.descriptive_date {
        DescriptiveDate::Text(text) => text.clone(),
        DescriptiveDate::SameDay(time) => format!("SD{}", time.written()),
    };
    line.text(batch_header::DESCRIPTIVE_DATE, &date);
    line.date(batch_header::EFFECTIVE, header.effective);
    line.day(batch_header::SETTLEMENT, batch.settlement);
    line.text(batch_header::ORIGINATOR_STATUS, "1");
    line.text(batch_header::ODFI, &header.odfi.to_string());
    line.number(batch_header::NUMBER, u64::from(batch.number));
    line
}

fn write_entry(entry: &Entry) -> Line {
    let mut line = Line::new('6');
    line.number(entry::CODE, u64::from(entry.code.number().unwrap_or_default()));
    line.text(entry::RECEIVER, &entry.receiver.to_string());
    line.text(entry::ACCOUNT, entry.account.as_str());
    line.number(entry::AMOUNT, u64::try_from(entry.amount).unwrap_or_default());
    line.text(entry::ID, &entry.id);
    line.text(entry::NAME, &entry.name);
    line.text(entry::DISCRETIONARY, &entry.discretionary);
    line.text(entry::INDICATOR, if entry.addenda == Addenda::None { "0" } else { "1" });
    line.text(entry::TRACE, &entry.trace.to_string());
    line
}

fn write_addenda(entry: &Entry) -> Option<Line> {
    let mut line = Line::new('7');
    match &entry.addenda {
        Addenda::None => return None,
        Addenda::Payment(text) => {
            line.text(ADDENDA_TYPE, "05");
            line.text(payment::INFORMATION, text);
            line.number(payment::SEQUENCE, 1);
            line.number(payment::ENTRY, u64::from(entry.trace.sequence()));
            return Some(line);
        }
        Addenda::Change(data) => {
            line.text(ADDENDA_TYPE, "98");
            line.text(change::CODE, data.correction.code().as_str());
            line.text(change::ORIGINAL_TRACE, &data.original_trace.to_string());
            line.text(change::ORIGINAL_RECEIVER, &data.original_receiver.to_string());
            line.text(change::DATA, &data.correction.written().unwrap_or_default());
        }
        Addenda::Return(data) => {
            line.text(ADDENDA_TYPE, "99");
            line.text(returned::CODE, data.code.as_str());
            line.text(returned::ORIGINAL_TRACE, &data.original_trace.to_string());
            line.date(returned::DEATH, data.death);
            line.text(returned::ORIGINAL_RECEIVER, &data.original_receiver.to_string());
            line.text(returned::INFORMATION, &data.information);
        }
        Addenda::Dishonored(data) => {
            line.text(ADDENDA_TYPE, "99");
            line.text(dishonored::CODE, data.code.as_str());
            line.text(dishonored::ORIGINAL_TRACE, &data.original_trace.to_string());
            line.text(dishonored::ORIGINAL_RECEIVER, &data.original_receiver.to_string());
            line.text(dishonored::RETURN_TRACE, &data.return_trace.to_string());
            line.day(dishonored::RETURN_SETTLEMENT, data.return_settlement);
            line.text(dishonored::RETURN_CODE, data.return_code.digits());
            line.text(dishonored::INFORMATION, &data.information);
        }
        Addenda::Contested(data) => {
            line.text(ADDENDA_TYPE, "99");
            line.text(contested::CODE, data.code.as_str());
            line.text(contested::ORIGINAL_TRACE, &data.original_trace.to_string());
            line.date(contested::RETURNED, data.returned);
            line.text(contested::ORIGINAL_RECEIVER, &data.original_receiver.to_string());
            line.day(contested::SETTLEMENT, data.original_settlement);
            line.text(contested::RETURN_TRACE, &data.return_trace.to_string());
            line.day(contested::RETURN_SETTLEMENT, data.return_settlement);
            line.text(contested::RETURN_CODE, data.return_code.digits());
            line.text(contested::DISHONORED_TRACE, &data.dishonored_trace.to_string());
            line.day(contested::DISHONORED_SETTLEMENT, data.dishonored_settlement);
            line.text(contested::DISHONORED_CODE, data.dishonored_code.digits());
        }
    }
    line.text(returned::TRACE, &entry.trace.to_string());
    Some(line)
}

impl DescriptiveDate {
    pub(crate) fn read(text: &str) -> Self {
        match text.strip_prefix("SD").and_then(Time::read) {
            Some(time) => Self::SameDay(time),
            None => Self::Text(text.to_owned()),
        }
    }
}

/// A record, blank where nothing is written. What is written has been checked to fit.
struct Line([u8; RECORD_LENGTH]);

impl Line {
    fn new(record_type: char) -> Self {
        let mut line = Self([b' '; RECORD_LENGTH]);
        line.text(crate::layout::RECORD_TYPE, &record_type.to_string());
        line
    }

    fn filler() -> Self {
        Self([b'9'; RECORD_LENGTH])
    }

    fn text(&mut self, slot: Slot, text: &str) {
        debug_assert!(text.len() <= slot.length(), "{}", slot.field);
        for (place, byte) in self.0[slot.range()].iter_mut().zip(text.bytes()) {
            *place = byte;
        }
    }

    fn number(&mut self, slot: Slot, number: u64) {
        self.text(slot, &format!("{number:0width$}", width = slot.length()));
    }

    fn date(&mut self, slot: Slot, date: Option<Date>) {
        self.text(slot, &date.map(Date::written).unwrap_or_default());
    }

    fn day(&mut self, slot: Slot, day: Option<u16>) {
        self.text(slot, &day.map(|day| format!("{day:03}")).unwrap_or_default());
    }

    fn totals(&mut self, [count, hash, debit, credit]: [Slot; 4], totals: Totals) {
        self.number(count, totals.count);
        self.number(hash, totals.hash);
        self.number(debit, totals.debit);
        self.number(credit, totals.credit);
    }
}
