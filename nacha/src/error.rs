//! What is wrong with a file, and where.

use crate::field::Field;

/// Why a file is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct BuildError {
    /// Which field.
    pub field: Field,
    /// What is wrong with it.
    pub problem: Problem,
}

/// Why a file is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {field}: {problem}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// Which field of it.
    pub field: Field,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing in a field that needs something.
    #[error("must not be empty")]
    Empty,
    /// Something in a field that the format keeps for later.
    #[error("must be blank")]
    NotBlank,
    /// More than fits. Nothing is cut off.
    #[error("must have at most {max} characters")]
    TooLong {
        /// The field's length.
        max: usize,
    },
    /// Of another length than the only right one.
    #[error("must have {length} characters")]
    Length {
        /// The right one.
        length: usize,
    },
    /// A character that the format has not.
    #[error("must be of printable ASCII characters")]
    Characters,
    /// What would be lost in padding.
    #[error("must neither begin nor end with a space")]
    Spaces,
    /// Not a letter in upper case or a digit.
    #[error("must be a letter from A to Z or a digit")]
    LetterOrDigit,
    /// Something else than digits.
    #[error("must be {length} digits")]
    Digits {
        /// How many.
        length: usize,
    },
    /// A routing number that does not add up.
    #[error("must be a routing number of 9 digits whose last is its check digit")]
    CheckDigit,
    /// A number out of its bounds.
    #[error("must be from {min} to {max}")]
    Range {
        /// The least that is right.
        min: i64,
        /// The most that is right.
        max: i64,
    },
    /// A total with more digits than its field.
    #[error("must not exceed {max}: divide the entries among more batches or files")]
    Overflow {
        /// The most that can be written.
        max: u64,
    },
    /// No day of the calendar.
    #[error("must be a date, as YYMMDD")]
    Date,
    /// No time of day.
    #[error("must be a time of 24 hours, as HHMM, or blank")]
    Time,
    /// No day of a year.
    #[error("must be a day of the year from 001 to 366, or blank")]
    DayOfYear,
    /// None of the values that there are.
    #[error("must be {0}")]
    Expected(&'static str),
    /// A value that does not go with another one.
    #[error("{0}")]
    Rule(&'static str),
    /// A control record that is not about what stands before it.
    #[error("differs from what the records before it give")]
    Control,
    /// The header of a batch and its control record are not of one batch.
    #[error("differs from the header of the batch")]
    Header,
    /// A number that is not greater than the one before.
    #[error("must be greater than the one before it")]
    Order,
    /// International entries have another format.
    #[error("is IAT: international entries are not supported")]
    International,
    /// Another class of entries.
    #[error("must be one of PPD, CCD, WEB, TEL and COR")]
    SecCode,
    /// No such reason for a return.
    #[error("must be a return reason code, from R01 to R90")]
    ReturnCode,
    /// No such reason for a change.
    #[error("must be a change code, from C01 to C14")]
    ChangeCode,
    /// What a notification of change has for its code cannot be read.
    #[error("must have what the change code says, in its places")]
    CorrectedData,
    /// The file ends before its control record.
    #[error("must follow: the file ends here")]
    Ended,
    /// A record of a kind that cannot stand there.
    #[error("must be {0} here")]
    Record(&'static str),
    /// More than may be in a file.
    #[error("a file has at most {max}")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
}
