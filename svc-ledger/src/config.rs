//! The ledger's own part of the configuration.

use std::{collections::BTreeMap, time::Duration};

use mesh::StartError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{Codes, Ledgers},
    store::postgres::PostgresConfig,
};

/// What svc-ledger alone has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often lapsed reservations are looked for, in milliseconds. Each batch releases them too, so that
    /// this matters only to who reads balances of an idle ledger.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub expiry_interval_ms: u64,
    /// How many WatchTransfers and ExportJournal may be open at once, of all callers; more are refused with
    /// RESOURCE_EXHAUSTED. However slow its reader, one holds a page of the journal (256 KiB, or one record where
    /// that is longer), what one record says, and two messages: a few MiB.
    #[schemars(range(min = 1, max = 10_000))]
    pub feeds_max: u32,
    /// Where the ledger is kept when it is not in this service's own directory. With it, several replicas may
    /// run: one leads, and the others name it to whoever asks them.
    pub postgres: Option<PostgresConfig>,
    /// Ledgers besides those of the currencies of ISO 4217, which are always kept: the asset's code (2 to 8
    /// characters of A-Z and 0-9, the first a letter) and how many decimals its smallest unit is away from
    /// its major one, 0 to 18, such as `{ BTC = 8 }`. Never change the decimals of an asset that has accounts.
    pub assets: BTreeMap<String, u8>,
    /// The chart of accounts: the codes that accounts may have (1 to 64 characters of a-z, 0-9 and _) and
    /// what they are for. Replaces the default as a whole; payments need `processor_clearing`,
    /// `biller_payable`, `tax_payable`, `fees` and `chargebacks`.
    pub account_codes: BTreeMap<String, String>,
    /// The codes that transfers may have (1 to 64 characters of a-z, 0-9 and _) and what they are for.
    /// Replaces the default as a whole; payments need `payment_authorization`, `payment_tax`, `payment_refund`,
    /// `fee` and `chargeback`.
    pub transfer_codes: BTreeMap<String, String>,
}

const ACCOUNT_CODES: [(&str, &str); 10] = [
    ("biller_payable", "owed to billers for their payments"),
    ("cash", "held at banks"),
    ("chargebacks", "taken back by cardholders"),
    ("clearing", "on its way between two parties"),
    ("customer_deposits", "held for customers, who may spend it"),
    ("fees", "earned by fees"),
    ("payable", "owed to others"),
    ("processor_clearing", "owed by processors for their captures"),
    ("receivable", "owed by others"),
    ("tax_payable", "owed to tax authorities"),
];

const TRANSFER_CODES: [(&str, &str); 12] = [
    ("adjustment", "a correction by hand"),
    ("chargeback", "a payment taken back by the cardholder"),
    ("closing", "closes an account"),
    ("deposit", "money comes in"),
    ("fee", "a fee is charged"),
    ("payment_authorization", "a payment is reserved, captured or released"),
    ("payment_capture", "a payment is taken at once"),
    ("payment_refund", "a payment is given back"),
    ("payment_tax", "the tax of a payment or of its refund"),
    ("settlement", "what was cleared is settled"),
    ("transfer", "between accounts of one owner"),
    ("withdrawal", "money goes out"),
];

fn table(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(code, purpose)| ((*code).to_owned(), (*purpose).to_owned())).collect()
}

impl Default for Config {
    fn default() -> Self {
        Self {
            expiry_interval_ms: 1_000,
            feeds_max: 64,
            postgres: None,
            assets: BTreeMap::new(),
            account_codes: table(&ACCOUNT_CODES),
            transfer_codes: table(&TRANSFER_CODES),
        }
    }
}

/// The names that the configuration gives a meaning.
#[derive(Debug, Clone)]
pub(crate) struct Vocabulary {
    /// The ledgers that are kept.
    pub(crate) ledgers: Ledgers,
    /// The chart of accounts.
    pub(crate) account_codes: Codes,
    /// What transfers are for.
    pub(crate) transfer_codes: Codes,
}

impl Config {
    pub(crate) fn expiry_interval(&self) -> Result<Duration, StartError> {
        match self.expiry_interval_ms {
            millis @ 1..=3_600_000 => Ok(Duration::from_millis(millis)),
            _ => Err(StartError::Config("expiry_interval_ms must be from 1 to 3600000".into())),
        }
    }

    pub(crate) fn feeds_max(&self) -> Result<u32, StartError> {
        match self.feeds_max {
            max @ 1..=10_000 => Ok(max),
            _ => Err(StartError::Config("feeds_max must be from 1 to 10000".into())),
        }
    }

    pub(crate) fn vocabulary(&self) -> Result<Vocabulary, StartError> {
        let codes = |field: &str, table: &BTreeMap<String, String>| {
            Codes::new(table.keys().map(String::as_str))
                .map_err(|error| StartError::Config(format!("each name in {field} {error}")))
        };
        let assets = self.assets.iter().map(|(code, exponent)| (code.as_str(), *exponent));
        Ok(Vocabulary {
            ledgers: Ledgers::new(assets)
                .map_err(|error| StartError::Config(format!("each name in assets {error}")))?,
            account_codes: codes("account_codes", &self.account_codes)?,
            transfer_codes: codes("transfer_codes", &self.transfer_codes)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_that_would_spin_or_never_come_is_refused() {
        assert!(Config::default().expiry_interval().is_ok());
        for expiry_interval_ms in [0, 3_600_001] {
            assert!(Config { expiry_interval_ms, ..Config::default() }.expiry_interval().is_err());
        }
    }

    #[test]
    fn names_that_can_be_none_are_refused() {
        assert!(Config::default().vocabulary().is_ok());
        let purpose = |name: &str| BTreeMap::from([(name.to_owned(), "nothing".to_owned())]);
        let asset = |name: &str, exponent| BTreeMap::from([(name.to_owned(), exponent)]);
        for wrong in [
            Config { account_codes: purpose("No Code"), ..Config::default() },
            Config { transfer_codes: purpose("no-code"), ..Config::default() },
            Config { assets: asset("EUR", 2), ..Config::default() },
            Config { assets: asset("BTC", 19), ..Config::default() },
            Config { assets: asset("btc", 8), ..Config::default() },
        ] {
            assert!(wrong.vocabulary().is_err(), "{wrong:?}");
        }
    }
}
