//! Files of the Automated Clearing House, as the Nacha Operating Rules (Appendices Three to Five) lay them out.
//!
//! [`File::build`] and [`File::write`] make files of PPD, CCD, WEB and TEL entries; [`File::parse`] reads whole files,
//! with returns and notifications of change. Pure: no I/O, no clock, no randomness, and no knowledge of payments.
//! International entries (IAT) are refused.
//!
//! A file is lines of 94 ASCII characters, in blocks of ten. Text stands to the left and is filled with spaces,
//! numbers stand to the right and are filled with zeros.
//!
//! | Type | Record | What it has |
//! |---|---|---|
//! | 1 | file header | destination, origin, date, time, modifier; one, first |
//! | 5 | batch header | company, class, description, dates, originating institution |
//! | 6 | entry | transaction code, routing number, account, amount in cents, receiver, trace number |
//! | 7 | addenda | 05 payment related information, 98 notification of change, 99 return; at most one an entry |
//! | 8 | batch control | count of entries and addenda, sum of institutions (entry hash), totals of debits and credits |
//! | 9 | file control | counts of batches, blocks, entries and addenda; hash and totals of all batches |
//! | 9… | filler | 94 times 9, up to a whole block |

mod banking;
mod change;
mod check;
mod code;
mod date;
mod error;
mod field;
mod layout;
mod model;
mod read;
mod value;
mod write;

pub use banking::{
    TimeFrame, banking_day_from, is_banking_day, next_banking_day, plus_banking_days, return_deadline,
    return_deadline_of,
};
pub use change::Correction;
pub use check::REVERSAL;
pub use code::{Again, ChangeCode, ReturnCode, ReturnKind};
pub use date::{Date, Time, Weekday};
pub use error::{BuildError, ParseError, Problem};
pub use field::Field;
pub use layout::{BLOCKING_FACTOR, RECORD_LENGTH};
pub use model::{
    Addenda, Batch, BatchHeader, Change, Contested, DescriptiveDate, Dishonored, Entry, File, FileHeader,
    Return,
};
pub use value::{
    AMOUNT_MAX, AccountKind, AccountNumber, Direction, Institution, Point, Purpose, RoutingNumber,
    SAME_DAY_AMOUNT_MAX, SEQUENCE_MAX, SecCode, ServiceClass, TraceNumber, TransactionCode,
};
