//! The typed values of fields: what can be made at all is right by itself.

use std::fmt;

use crate::date::digits;
use crate::error::Problem;

/// The largest amount of an entry, in cents: ten digits.
pub const AMOUNT_MAX: i64 = 9_999_999_999;
/// The largest amount of an entry that settles on the same day, in cents: a million dollars (Nacha Operating Rules,
/// since 2022-03-18).
pub const SAME_DAY_AMOUNT_MAX: i64 = 100_000_000;
/// The largest sequence number within a trace number: seven digits.
pub const SEQUENCE_MAX: u32 = 9_999_999;

/// A routing number of the American Bankers Association: 8 digits of the institution and a check digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutingNumber(u32);

impl RoutingNumber {
    /// Of 9 digits, the last of which is the check digit.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let number = digits(text, 9).ok_or(Problem::Digits { length: 9 })?;
        let number = u32::try_from(number).map_err(|_| Problem::CheckDigit)?;
        let institution = Institution(number / 10);
        if number == 0 || institution.check_digit() != number % 10 {
            return Err(Problem::CheckDigit);
        }
        Ok(Self(number))
    }

    /// Its first 8 digits.
    pub const fn institution(self) -> Institution {
        Institution(self.0 / 10)
    }
}

impl fmt::Display for RoutingNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:09}", self.0)
    }
}

/// A financial institution: a routing number without its check digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Institution(u32);

impl Institution {
    /// Of 8 digits, not all of them zero.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        digits(text, 8)
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| *number != 0)
            .map(Self)
            .ok_or(Problem::Digits { length: 8 })
    }

    /// With its check digit.
    pub const fn routing_number(self) -> RoutingNumber {
        RoutingNumber(self.0 * 10 + self.check_digit())
    }

    /// What the entry hash adds up.
    pub(crate) const fn number(self) -> u32 {
        self.0
    }

    /// Weights 3, 7, 1 from the left; with the check digit they add up to a multiple of 10.
    const fn check_digit(self) -> u32 {
        let (mut rest, mut sum, mut at) = (self.0, 0, 8);
        while at > 0 {
            at -= 1;
            let weight = match at % 3 {
                0 => 3,
                1 => 7,
                _ => 1,
            };
            sum += rest % 10 * weight;
            rest /= 10;
        }
        (10 - sum % 10) % 10
    }
}

impl fmt::Display for Institution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}", self.0)
    }
}

/// What an entry is known by: the institution that originates it, and a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceNumber {
    odfi: Institution,
    sequence: u32,
}

impl TraceNumber {
    /// Of the ODFI and a sequence number up to [`SEQUENCE_MAX`].
    pub fn new(odfi: Institution, sequence: u32) -> Result<Self, Problem> {
        if sequence > SEQUENCE_MAX {
            return Err(Problem::Range { min: 0, max: i64::from(SEQUENCE_MAX) });
        }
        Ok(Self { odfi, sequence })
    }

    /// Of 15 digits.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let number = digits(text, 15).ok_or(Problem::Digits { length: 15 })?;
        let part = |number: u64| u32::try_from(number).ok();
        let modulus = u64::from(SEQUENCE_MAX) + 1;
        let (odfi, sequence) = part(number / modulus)
            .zip(part(number % modulus))
            .filter(|(odfi, _)| *odfi != 0)
            .ok_or(Problem::Digits { length: 15 })?;
        Ok(Self { odfi: Institution(odfi), sequence })
    }

    /// Who originated the entry.
    pub const fn odfi(self) -> Institution {
        self.odfi
    }

    /// The last seven digits.
    pub const fn sequence(self) -> u32 {
        self.sequence
    }
}

impl fmt::Display for TraceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:07}", self.odfi, self.sequence)
    }
}

/// The number of an account at its institution: 1 to 17 characters. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AccountNumber(String);

impl AccountNumber {
    /// The most characters that it has.
    pub const LENGTH_MAX: usize = 17;

    /// Of printable ASCII, without spaces at its ends, and not only of zeros.
    pub fn new(text: &str) -> Result<Self, Problem> {
        check_text(text, Self::LENGTH_MAX)?;
        if text.bytes().all(|byte| byte == b'0') {
            return Err(Problem::Empty);
        }
        Ok(Self(text.to_owned()))
    }

    /// The number itself: not for logs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccountNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountNumber(…)")
    }
}

/// Who sends a file, or to whom: a routing number, or what both have agreed on instead. Nine characters are written
/// with a space before them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Point(String);

impl Point {
    /// Of 9 or 10 letters and digits, not all of them zero.
    pub fn new(text: &str) -> Result<Self, Problem> {
        if text.bytes().all(|byte| byte == b'0') {
            return Err(Problem::Empty);
        }
        if !matches!(text.len(), 9 | 10) || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Problem::Expected("9 or 10 letters and digits"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Its 9 or 10 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The routing number, where it is one.
    pub fn routing_number(&self) -> Option<RoutingNumber> {
        RoutingNumber::parse(&self.0).ok()
    }
}

impl From<RoutingNumber> for Point {
    fn from(number: RoutingNumber) -> Self {
        Self(number.to_string())
    }
}

/// The class of a batch's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecCode {
    /// Prearranged payment and deposit: consumers' accounts, agreed on in writing.
    Ppd,
    /// Corporate credit or debit.
    Ccd,
    /// Internet-initiated or mobile entry.
    Web,
    /// Telephone-initiated entry.
    Tel,
    /// Notification of change.
    Cor,
}

impl SecCode {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ppd, Self::Ccd, Self::Web, Self::Tel, Self::Cor];

    /// As it is written: `PPD`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ppd => "PPD",
            Self::Ccd => "CCD",
            Self::Web => "WEB",
            Self::Tel => "TEL",
            Self::Cor => "COR",
        }
    }

    /// Nothing for a class that this crate does not know.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

/// Which way the money of a batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceClass {
    /// 200: credits and debits.
    Mixed,
    /// 220: credits only.
    Credits,
    /// 225: debits only.
    Debits,
}

impl ServiceClass {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mixed => "200",
            Self::Credits => "220",
            Self::Debits => "225",
        }
    }

    /// Nothing for accounting advices (280) and all that is none.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Mixed, Self::Credits, Self::Debits].into_iter().find(|class| class.as_str() == text)
    }
}

/// Which kind of account an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountKind {
    /// Demand deposits: codes 21 to 29.
    Checking,
    /// Savings: codes 31 to 39.
    Savings,
    /// The institution's general ledger: codes 41 to 49.
    Ledger,
    /// A loan: codes 51 to 56.
    Loan,
}

/// Which way the money goes, as seen from the receiver's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the receiver's account.
    Credit,
    /// From it.
    Debit,
}

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// It moves money.
    Live,
    /// It tries an account out beforehand, with no amount.
    Prenote,
    /// It carries information only, with no amount and an addenda.
    ZeroDollar,
    /// It is a return or a notification of change, of an entry in that direction.
    Returned,
}

/// What an entry does to which kind of account (Nacha Operating Rules, Appendix Three: transaction code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionCode {
    /// The account.
    pub account: AccountKind,
    /// The direction.
    pub direction: Direction,
    /// What for.
    pub purpose: Purpose,
}

/// How the codes for loans differ: a debit is 55, and there are neither prenotes nor entries without an amount for it.
const LOAN_DEBIT: u8 = 55;

impl TransactionCode {
    /// Of `22`. Nothing for a code that is not assigned.
    pub fn parse(text: &str) -> Option<Self> {
        let code = u8::try_from(digits(text, 2)?).ok()?;
        let account = match code / 10 {
            2 => AccountKind::Checking,
            3 => AccountKind::Savings,
            4 => AccountKind::Ledger,
            5 => AccountKind::Loan,
            _ => return None,
        };
        if code == LOAN_DEBIT {
            return Some(Self { account, direction: Direction::Debit, purpose: Purpose::Live });
        }
        let (direction, purpose) = match code % 10 {
            1 => (Direction::Credit, Purpose::Returned),
            2 => (Direction::Credit, Purpose::Live),
            3 => (Direction::Credit, Purpose::Prenote),
            4 => (Direction::Credit, Purpose::ZeroDollar),
            6 => (Direction::Debit, Purpose::Returned),
            7 if account != AccountKind::Loan => (Direction::Debit, Purpose::Live),
            8 if account != AccountKind::Loan => (Direction::Debit, Purpose::Prenote),
            9 if account != AccountKind::Loan => (Direction::Debit, Purpose::ZeroDollar),
            _ => return None,
        };
        Some(Self { account, direction, purpose })
    }

    /// Its two digits. Nothing for debits of loans that are not live: they have no code.
    pub const fn number(self) -> Option<u8> {
        let tens = match self.account {
            AccountKind::Checking => 20,
            AccountKind::Savings => 30,
            AccountKind::Ledger => 40,
            AccountKind::Loan => 50,
        };
        let debit = matches!(self.direction, Direction::Debit);
        let first = match self.purpose {
            Purpose::Returned => 1,
            Purpose::Live => 2,
            Purpose::Prenote => 3,
            Purpose::ZeroDollar => 4,
        };
        match (self.account, self.purpose) {
            (AccountKind::Loan, Purpose::Live) if debit => Some(LOAN_DEBIT),
            (AccountKind::Loan, Purpose::Prenote | Purpose::ZeroDollar) if debit => None,
            _ => Some(tens + first + if debit { 5 } else { 0 }),
        }
    }
}

/// Checks what is padded with spaces: printable ASCII, at most so long, and nothing that padding would swallow.
pub(crate) fn check_text(text: &str, max: usize) -> Result<(), Problem> {
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    check_optional_text(text, max)
}

/// The same, for what may be blank.
pub(crate) fn check_optional_text(text: &str, max: usize) -> Result<(), Problem> {
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(Problem::Characters);
    }
    if text.len() > max {
        return Err(Problem::TooLong { max });
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(Problem::Spaces);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routing_number_has_its_check_digit() {
        for text in ["021000021", "091000019", "121042882", "231380104", "011000015"] {
            let number = RoutingNumber::parse(text).unwrap();
            assert_eq!((number.to_string().as_str(), number.institution().routing_number()), (text, number));
            let institution = Institution::parse(&text[..8]).unwrap();
            assert_eq!(institution, number.institution());
        }
        for text in ["021000020", "021000012", "000000000"] {
            assert_eq!(RoutingNumber::parse(text), Err(Problem::CheckDigit), "{text}");
        }
        for text in ["", "02100002", "0210000210", "02100002x", "+21000021"] {
            assert_eq!(RoutingNumber::parse(text), Err(Problem::Digits { length: 9 }), "{text}");
        }
    }

    #[test]
    fn every_transaction_code_is_read_as_it_is_written() {
        let assigned: Vec<u8> =
            (0..100).filter(|code| TransactionCode::parse(&format!("{code:02}")).is_some()).collect();
        let mut expected: Vec<u8> = [20, 30, 40]
            .into_iter()
            .flat_map(|tens| [1, 2, 3, 4, 6, 7, 8, 9].map(|unit| tens + unit))
            .collect();
        expected.extend([51, 52, 53, 54, 55, 56]);
        assert_eq!(assigned, expected);
        for code in assigned {
            assert_eq!(
                TransactionCode::parse(&code.to_string()).and_then(TransactionCode::number),
                Some(code)
            );
        }
    }

    #[test]
    fn a_trace_number_is_an_institution_and_a_sequence() {
        let trace = TraceNumber::parse("091000010000007").unwrap();
        assert_eq!((trace.odfi().to_string().as_str(), trace.sequence()), ("09100001", 7));
        assert_eq!(trace.to_string(), "091000010000007");
        assert!(
            TraceNumber::parse("000000000000001").is_err() && TraceNumber::parse("09100001 000007").is_err()
        );
        assert!(TraceNumber::new(trace.odfi(), SEQUENCE_MAX + 1).is_err());
    }

    #[test]
    fn account_numbers_are_not_shown() {
        let account = AccountNumber::new("12345-6789").unwrap();
        assert!(!format!("{account:?}").contains('6'));
        for (text, problem) in [
            ("", Problem::Empty),
            ("000", Problem::Empty),
            (" 1", Problem::Spaces),
            ("1 ", Problem::Spaces),
            ("ä", Problem::Characters),
            ("123456789012345678", Problem::TooLong { max: 17 }),
        ] {
            assert_eq!(AccountNumber::new(text), Err(problem), "{text}");
        }
    }
}
