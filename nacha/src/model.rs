//! What a file says. A [`File`] is made by [`File::build`] or [`File::parse`] only, so it is always one that is right.

use crate::change::Correction;
use crate::code::ReturnCode;
use crate::date::{Date, Time};
use crate::value::{
    AccountNumber, Direction, Institution, Point, RoutingNumber, SecCode, ServiceClass, TraceNumber,
    TransactionCode,
};

/// A file of batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub(crate) header: FileHeader,
    pub(crate) batches: Vec<Batch>,
}

impl File {
    /// Who sends it to whom, and when.
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Its batches, by ascending numbers.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }
}

/// What a file's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHeader {
    /// To whom it goes: for a file to an operator or an ODFI its routing number.
    pub destination: Point,
    /// Who sends it.
    pub origin: Point,
    /// When it was made.
    pub created: Date,
    /// And at which time.
    pub created_at: Option<Time>,
    /// Tells files of one day apart: `A` to `Z`, `0` to `9`.
    pub modifier: char,
    /// At most 23 characters, may be empty.
    pub destination_name: String,
    /// At most 23 characters, may be empty.
    pub origin_name: String,
    /// At most 8 characters, may be empty.
    pub reference: String,
}

/// A batch: entries of one company, one class and one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub(crate) header: BatchHeader,
    pub(crate) number: u32,
    pub(crate) service_class: ServiceClass,
    pub(crate) settlement: Option<u16>,
    pub(crate) entries: Vec<Entry>,
}

impl Batch {
    /// What its header says, but for what follows.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Its number within the file.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Which way its money goes.
    pub fn service_class(&self) -> ServiceClass {
        self.service_class
    }

    /// The day of the year on which the operator settled it.
    pub fn settlement(&self) -> Option<u16> {
        self.settlement
    }

    /// Its entries, by ascending trace numbers.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// What a batch's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHeader {
    /// At most 16 characters: receivers see it.
    pub company_name: String,
    /// At most 20 characters, may be empty.
    pub company_data: String,
    /// At most 10 characters, as the ODFI assigned it.
    pub company_id: String,
    /// The class of its entries.
    pub sec: SecCode,
    /// At most 10 characters: receivers see it.
    pub description: String,
    /// For receivers, or the wish to settle on the same day.
    pub descriptive_date: DescriptiveDate,
    /// The banking day on which the entries are to settle.
    pub effective: Option<Date>,
    /// Who originates the entries: with a return, who returns them.
    pub odfi: Institution,
}

/// What stands where a batch has its descriptive date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescriptiveDate {
    /// At most 6 characters, may be empty.
    Text(String),
    /// `SDHHMM`: the entries are to settle today, at that time (FedACH: 13:00, 17:00 or 18:00, Eastern).
    SameDay(Time),
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it does.
    pub code: TransactionCode,
    /// The institution that receives it.
    pub receiver: RoutingNumber,
    /// The account there.
    pub account: AccountNumber,
    /// In cents; 0 where nothing moves.
    pub amount: i64,
    /// At most 15 characters, may be empty: the receiver's, with the company.
    pub id: String,
    /// At most 22 characters: the receiver's name.
    pub name: String,
    /// At most 2 characters; for WEB and TEL `R` (recurring) or `S` (single).
    pub discretionary: String,
    /// What it is known by.
    pub trace: TraceNumber,
    /// What comes with it.
    pub addenda: Addenda,
}

/// What comes with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addenda {
    /// Nothing.
    None,
    /// Type 05: at most 80 characters.
    Payment(String),
    /// Type 98: a notification of change.
    Change(Change),
    /// Type 99: a return.
    Return(Return),
    /// Type 99: a return is dishonored.
    Dishonored(Dishonored),
    /// Type 99: a dishonored return is contested.
    Contested(Contested),
}

/// A notification of change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The trace number of the entry that it is about.
    pub original_trace: TraceNumber,
    /// The institution that this entry was for.
    pub original_receiver: Institution,
    /// What to say from now on.
    pub correction: Correction,
}

/// A return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    /// Why.
    pub code: ReturnCode,
    /// The trace number of the entry that comes back.
    pub original_trace: TraceNumber,
    /// The institution that this entry was for.
    pub original_receiver: Institution,
    /// With R14 and R15.
    pub death: Option<Date>,
    /// At most 44 characters, may be empty.
    pub information: String,
}

/// A dishonored return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dishonored {
    /// Why.
    pub code: ReturnCode,
    /// The trace number of the entry that had been returned.
    pub original_trace: TraceNumber,
    /// The institution that this entry was for.
    pub original_receiver: Institution,
    /// The return's trace number.
    pub return_trace: TraceNumber,
    /// The day of the year on which the return settled.
    pub return_settlement: Option<u16>,
    /// The return's reason.
    pub return_code: ReturnCode,
    /// At most 21 characters, may be empty.
    pub information: String,
}

/// A contested dishonored return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contested {
    /// Why.
    pub code: ReturnCode,
    /// The trace number of the entry that had been returned.
    pub original_trace: TraceNumber,
    /// When it had been.
    pub returned: Option<Date>,
    /// The institution that this entry was for.
    pub original_receiver: Institution,
    /// The day of the year on which the entry settled.
    pub original_settlement: Option<u16>,
    /// The return's trace number.
    pub return_trace: TraceNumber,
    /// The day of the year on which the return settled.
    pub return_settlement: Option<u16>,
    /// The return's reason.
    pub return_code: ReturnCode,
    /// The dishonored return's trace number.
    pub dishonored_trace: TraceNumber,
    /// The day of the year on which that settled.
    pub dishonored_settlement: Option<u16>,
    /// That one's reason.
    pub dishonored_code: ReturnCode,
}

/// What control records add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Entries and addenda.
    pub(crate) count: u64,
    /// Sum of the institutions' numbers, of which ten digits are written.
    pub(crate) hash: u64,
    /// Cents.
    pub(crate) debit: u64,
    /// Cents.
    pub(crate) credit: u64,
}

impl Totals {
    /// Of which ten digits are written.
    const HASH_MODULUS: u64 = 10_000_000_000;

    pub(crate) fn of(entries: &[Entry]) -> Self {
        let mut totals = Self::default();
        for entry in entries {
            totals.count += 1 + u64::from(entry.addenda != Addenda::None);
            totals.hash =
                (totals.hash + u64::from(entry.receiver.institution().number())) % Self::HASH_MODULUS;
            let amount = u64::try_from(entry.amount).unwrap_or(0);
            match entry.code.direction {
                Direction::Credit => totals.credit += amount,
                Direction::Debit => totals.debit += amount,
            }
        }
        totals
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            hash: (self.hash + other.hash) % Self::HASH_MODULUS,
            debit: self.debit + other.debit,
            credit: self.credit + other.credit,
        }
    }
}
