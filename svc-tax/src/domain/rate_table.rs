//! The rates of all jurisdictions, with the days on which they hold.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::{
    day::Day,
    rate::{Category, Rate},
    rejection::Rejection,
};

/// What a jurisdiction charges on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates {
    begin: Day,
    end: Option<Day>,
    standard: Rate,
    reduced: Option<Rate>,
}

impl Rates {
    /// The rate of a category; `None` where the jurisdiction has no such rate.
    pub fn of(&self, category: Category) -> Option<Rate> {
        match category {
            Category::Standard => Some(self.standard),
            Category::Reduced => self.reduced,
            Category::ZeroRated | Category::Exempt => Some(Rate::ZERO),
        }
    }

    fn hold_on(&self, day: Day) -> bool {
        self.begin <= day && self.end.is_none_or(|end| day <= end)
    }
}

#[derive(Debug)]
struct Jurisdiction {
    code: Box<str>,
    /// Oldest first, without gaps.
    versions: Vec<Rates>,
}

/// The rates of all jurisdictions.
#[derive(Debug)]
pub struct RateTable {
    jurisdictions: HashMap<Box<str>, Jurisdiction>,
    /// Countries that tax by state.
    by_state: HashSet<Box<str>>,
}

/// Why a table was refused. The text names the jurisdiction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateTableError {
    /// Not the form of a table.
    #[error("rates: {0}")]
    Form(String),
    /// A jurisdiction cannot be what it is.
    #[error("rates of {code:?}: {problem}")]
    Jurisdiction {
        /// Its code.
        code: String,
        /// What would be right.
        problem: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableText {
    jurisdiction: Vec<JurisdictionText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JurisdictionText {
    code: String,
    /// For the reader of the table.
    #[serde(rename = "name")]
    _name: String,
    rates: Vec<RatesText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RatesText {
    begin: String,
    end: Option<String>,
    standard: String,
    reduced: Option<String>,
}

impl RatesText {
    fn read(&self) -> Result<Rates, &'static str> {
        let reduced = self.reduced.as_deref().map(str::parse).transpose()?;
        let end = self.end.as_deref().map(str::parse).transpose()?;
        Ok(Rates { begin: self.begin.parse()?, end, standard: self.standard.parse()?, reduced })
    }
}

impl RateTable {
    /// Reads a table from TOML and checks it; see `rates.toml` for its form.
    pub fn read(text: &str) -> Result<Self, RateTableError> {
        let text: TableText =
            toml::from_str(text).map_err(|error| RateTableError::Form(error.to_string()))?;
        let (mut jurisdictions, mut by_state) = (HashMap::new(), HashSet::new());
        for JurisdictionText { code, rates, .. } in text.jurisdiction {
            let wrong = |problem| RateTableError::Jurisdiction { code: code.clone(), problem };
            let state = match code.split_once('-') {
                None if is_country(&code) => None,
                Some((country, state)) if is_country(country) && is_state(state) => Some(country),
                _ => return Err(wrong("the code must be a country as DE or a state as US-CA")),
            };
            let versions = rates.iter().map(RatesText::read).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
            without_gaps(&versions).map_err(wrong)?;
            by_state.extend(state.map(Box::<str>::from));
            let code: Box<str> = code.into();
            if jurisdictions.insert(code.clone(), Jurisdiction { code: code.clone(), versions }).is_some() {
                let problem = "is in the table twice";
                return Err(RateTableError::Jurisdiction { code: code.into(), problem });
            }
        }
        if let Some(both) = by_state.iter().find(|country| jurisdictions.contains_key(*country)) {
            let problem = "a country has rates of its own or of its states, not both";
            return Err(RateTableError::Jurisdiction { code: both.to_string(), problem });
        }
        Ok(Self { jurisdictions, by_state })
    }

    /// The jurisdiction of an address and its rates on a day. `state` counts only in countries that tax
    /// by state.
    pub fn find(&self, country: &str, state: &str, day: Day) -> Result<(&str, &Rates), Rejection> {
        if !is_country(country) {
            return Err(Rejection::CountryMalformed);
        }
        let found = if self.by_state.contains(country) {
            if !is_state(state) {
                return Err(Rejection::StateMalformed);
            }
            self.jurisdictions.get(format!("{country}-{state}").as_str()).ok_or(Rejection::StateUnknown)?
        } else {
            self.jurisdictions.get(country).ok_or(match country {
                "EL" => Rejection::CountryOtherCode { iso: "GR" },
                "UK" => Rejection::CountryOtherCode { iso: "GB" },
                _ => Rejection::CountryUnknown,
            })?
        };
        let rates = found.versions.iter().rev().find(|rates| rates.hold_on(day));
        Ok((&found.code, rates.ok_or(Rejection::NoRatesOnDay)?))
    }

    /// The codes of all jurisdictions, in order.
    pub fn codes(&self) -> Vec<&str> {
        let mut codes: Vec<&str> = self.jurisdictions.keys().map(AsRef::as_ref).collect();
        codes.sort_unstable();
        codes
    }
}

/// ISO 3166-1 alpha-2 in form.
pub(super) fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase())
}

/// The second part of an ISO 3166-2 code in form.
fn is_state(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// Each version begins on the day after the one before it ends, and only the last has no end.
fn without_gaps(versions: &[Rates]) -> Result<(), &'static str> {
    let Some((last, earlier)) = versions.split_last() else {
        return Err("there must be at least one version");
    };
    if last.end.is_some_and(|end| end < last.begin) {
        return Err("a version must not end before it begins");
    }
    for (version, next) in earlier.iter().zip(&versions[1..]) {
        let Some(end) = version.end else { return Err("only the last version has no end") };
        if end < version.begin {
            return Err("a version must not end before it begins");
        }
        if end.next() != next.begin {
            return Err("a version must begin on the day after the one before it ends");
        }
    }
    Ok(())
}
