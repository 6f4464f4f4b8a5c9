//! Why nothing was calculated.

use money::AMOUNT_MAX;

use super::calculation::LINES_MAX;

/// Something that is wrong with a request. The text says what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Nothing to calculate.
    #[error("must have at least one line")]
    NoLines,
    /// Too much to calculate.
    #[error("must have at most {LINES_MAX} lines")]
    TooManyLines,
    /// A line's amount is below nought.
    #[error("must not be negative; take a discount off the line that it belongs to")]
    AmountNegative {
        /// Which line, from 0.
        line: usize,
    },
    /// A line's amount is too large.
    #[error("must not exceed {AMOUNT_MAX}")]
    AmountTooLarge {
        /// Which line, from 0.
        line: usize,
    },
    /// The jurisdiction has no reduced rate.
    #[error("the jurisdiction has no reduced rate; use STANDARD")]
    NoReducedRate {
        /// Which line, from 0.
        line: usize,
    },
    /// Not a country's code.
    #[error("must be two upper-case letters of ISO 3166-1, such as DE")]
    CountryMalformed,
    /// A country's other code.
    #[error("must be the code of ISO 3166-1, which is {iso}")]
    CountryOtherCode {
        /// The code to use.
        iso: &'static str,
    },
    /// A country without rates.
    #[error("there are no tax rates for this country")]
    CountryUnknown,
    /// The country taxes by state, and this is not a state's code.
    #[error("must be the state's code of ISO 3166-2 without the country, such as CA")]
    StateMalformed,
    /// A state without rates.
    #[error("there are no tax rates for this state")]
    StateUnknown,
    /// The table does not reach this far back.
    #[error("there are no tax rates for this country on this day")]
    NoRatesOnDay,
}

impl Rejection {
    /// The path of the field that is at fault.
    pub fn field(&self) -> String {
        match self {
            Self::NoLines | Self::TooManyLines => "lines".to_owned(),
            Self::AmountNegative { line } | Self::AmountTooLarge { line } => format!("lines[{line}].amount"),
            Self::NoReducedRate { line } => format!("lines[{line}].category"),
            Self::CountryMalformed
            | Self::CountryOtherCode { .. }
            | Self::CountryUnknown
            | Self::NoRatesOnDay => "ship_to.country".to_owned(),
            Self::StateMalformed | Self::StateUnknown => "ship_to.state".to_owned(),
        }
    }
}
