//! What a notification of change says instead (Nacha Operating Rules, Appendix Five: corrected data).

use crate::code::ChangeCode;
use crate::error::Problem;
use crate::value::{AccountNumber, RoutingNumber, TransactionCode, check_optional_text, check_text};

/// The characters of the corrected data.
pub(crate) const LENGTH: usize = 29;
/// The characters of a name or an individual identification number in it.
const NAME_MAX: usize = 22;

/// The corrected data, by change code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Correction {
    /// C01.
    Account(AccountNumber),
    /// C02.
    Routing(RoutingNumber),
    /// C03.
    RoutingAndAccount(RoutingNumber, AccountNumber),
    /// C04, at most 22 characters.
    Name(String),
    /// C05.
    TransactionCode(TransactionCode),
    /// C06.
    AccountAndTransactionCode(AccountNumber, TransactionCode),
    /// C07.
    All(RoutingNumber, AccountNumber, TransactionCode),
    /// C08.
    ForeignReceiver(String),
    /// C09, at most 22 characters.
    IndividualId(String),
    /// C10.
    CompanyName(String),
    /// C11.
    CompanyId(String),
    /// C12.
    Company(String),
    /// C13, which corrects nothing by itself.
    AddendaFormat(String),
    /// C14, likewise.
    OutboundInternational(String),
}

impl Correction {
    /// Its change code.
    pub const fn code(&self) -> ChangeCode {
        match self {
            Self::Account(_) => ChangeCode::C01,
            Self::Routing(_) => ChangeCode::C02,
            Self::RoutingAndAccount(..) => ChangeCode::C03,
            Self::Name(_) => ChangeCode::C04,
            Self::TransactionCode(_) => ChangeCode::C05,
            Self::AccountAndTransactionCode(..) => ChangeCode::C06,
            Self::All(..) => ChangeCode::C07,
            Self::ForeignReceiver(_) => ChangeCode::C08,
            Self::IndividualId(_) => ChangeCode::C09,
            Self::CompanyName(_) => ChangeCode::C10,
            Self::CompanyId(_) => ChangeCode::C11,
            Self::Company(_) => ChangeCode::C12,
            Self::AddendaFormat(_) => ChangeCode::C13,
            Self::OutboundInternational(_) => ChangeCode::C14,
        }
    }

    /// Of the 29 characters, which are ASCII.
    ///
    /// The fields stand where the rules say. Only what comes last in C03, C06 and C07 may stand anywhere in the rest,
    /// as institutions differ in whether they align it to the right.
    pub(crate) fn parse(code: ChangeCode, data: &str) -> Result<Self, Problem> {
        let wrong = Problem::CorrectedData;
        let part = |from: usize, to: usize| data.get(from..to).map(str::trim_end).ok_or(wrong);
        let rest = |from: usize| data.get(from..).map(str::trim).ok_or(wrong);
        let routing = || RoutingNumber::parse(part(0, 9)?).map_err(|_| wrong);
        let account = |text: &str| AccountNumber::new(text).map_err(|_| wrong);
        let transaction = |text: &str| TransactionCode::parse(text).ok_or(wrong);
        let only = |to: usize| if rest(to)?.is_empty() { part(0, to) } else { Err(wrong) };
        let text = |max: usize| {
            let text = only(max)?;
            check_text(text, max).map_err(|_| wrong)?;
            Ok(text.to_owned())
        };
        let optional = || {
            let text = only(LENGTH)?;
            check_optional_text(text, LENGTH).map_err(|_| wrong)?;
            Ok(text.to_owned())
        };
        Ok(match code {
            ChangeCode::C01 => Self::Account(account(only(AccountNumber::LENGTH_MAX)?)?),
            ChangeCode::C02 => {
                only(9)?;
                Self::Routing(routing()?)
            }
            ChangeCode::C03 => Self::RoutingAndAccount(routing()?, account(rest(9)?)?),
            ChangeCode::C04 => Self::Name(text(NAME_MAX)?),
            ChangeCode::C05 => Self::TransactionCode(transaction(only(2)?)?),
            ChangeCode::C06 => {
                Self::AccountAndTransactionCode(account(part(0, 17)?)?, transaction(rest(17)?)?)
            }
            ChangeCode::C07 => Self::All(routing()?, account(part(9, 26)?)?, transaction(rest(26)?)?),
            ChangeCode::C08 => Self::ForeignReceiver(text(LENGTH)?),
            ChangeCode::C09 => Self::IndividualId(text(NAME_MAX)?),
            ChangeCode::C10 => Self::CompanyName(text(LENGTH)?),
            ChangeCode::C11 => Self::CompanyId(text(LENGTH)?),
            ChangeCode::C12 => Self::Company(text(LENGTH)?),
            ChangeCode::C13 => Self::AddendaFormat(optional()?),
            ChangeCode::C14 => Self::OutboundInternational(optional()?),
        })
    }

    /// Without the padding at its end.
    pub(crate) fn written(&self) -> Result<String, Problem> {
        let number = |code: &TransactionCode| code.number().ok_or(Problem::CorrectedData);
        Ok(match self {
            Self::Account(account) => account.as_str().to_owned(),
            Self::Routing(routing) => routing.to_string(),
            Self::RoutingAndAccount(routing, account) => format!("{routing}   {}", account.as_str()),
            Self::TransactionCode(code) => format!("{:02}", number(code)?),
            Self::AccountAndTransactionCode(account, code) => {
                format!("{:<17}   {:02}", account.as_str(), number(code)?)
            }
            Self::All(routing, account, code) => {
                format!("{routing}{:<17}{:02}", account.as_str(), number(code)?)
            }
            Self::Name(text) | Self::IndividualId(text) => {
                check_text(text, NAME_MAX)?;
                text.clone()
            }
            Self::ForeignReceiver(text)
            | Self::CompanyName(text)
            | Self::CompanyId(text)
            | Self::Company(text) => {
                check_text(text, LENGTH)?;
                text.clone()
            }
            Self::AddendaFormat(text) | Self::OutboundInternational(text) => {
                check_optional_text(text, LENGTH)?;
                text.clone()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(code: &str, data: &str) -> Result<Correction, Problem> {
        Correction::parse(ChangeCode::parse(code).unwrap(), &format!("{data:<29}"))
    }

    #[test]
    fn what_is_corrected_stands_in_its_places() {
        let routing = RoutingNumber::parse("021000021").unwrap();
        let account = AccountNumber::new("1918171614").unwrap();
        let debit = TransactionCode::parse("37").unwrap();
        assert_eq!(parsed("C01", "1918171614"), Ok(Correction::Account(account.clone())));
        assert_eq!(parsed("C02", "021000021"), Ok(Correction::Routing(routing)));
        let both = Ok(Correction::RoutingAndAccount(routing, account.clone()));
        assert_eq!(parsed("C03", "021000021   1918171614"), both);
        assert_eq!(parsed("C03", "021000021          1918171614"), both, "aligned to the right");
        assert_eq!(parsed("C04", "Paul Jones"), Ok(Correction::Name("Paul Jones".into())));
        assert_eq!(parsed("C05", "37"), Ok(Correction::TransactionCode(debit)));
        let both = Ok(Correction::AccountAndTransactionCode(account.clone(), debit));
        assert_eq!(parsed("C06", "1918171614          37"), both);
        assert_eq!(parsed("C06", "1918171614                 37"), both, "aligned to the right");
        let all = Ok(Correction::All(routing, account, debit));
        assert_eq!(parsed("C07", "0210000211918171614       37"), all);
        assert_eq!(parsed("C07", "0210000211918171614        37"), all, "aligned to the right");
        assert_eq!(parsed("C09", "A-17"), Ok(Correction::IndividualId("A-17".into())));
        assert_eq!(parsed("C13", ""), Ok(Correction::AddendaFormat(String::new())));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (code, data) in [
            ("C01", ""),
            ("C01", "12345678901234567 8"),
            ("C02", "021000020"),
            ("C02", "021000021 7"),
            ("C03", "021000021"),
            ("C05", "20"),
            ("C06", "1918171614"),
            ("C07", "021000021 191817161437"),
            ("C09", ""),
        ] {
            assert_eq!(parsed(code, data), Err(Problem::CorrectedData), "{code} {data}");
        }
    }
}
