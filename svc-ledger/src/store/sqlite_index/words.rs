//! Small numbers for the texts that repeat in every transfer: tenants, ledgers and codes.

use std::{collections::HashMap, sync::Arc};

use mesh::store::StoreError;
use money::TenantId;
use rusqlite::Connection;

use super::corrupt;
use crate::domain::{Code, LedgerCode};

/// A text as each of the things it may be.
#[derive(Debug, Clone)]
struct Word {
    tenant: Option<TenantId>,
    ledger: Option<LedgerCode>,
    code: Option<Code>,
}

/// All words of an index. As many as there are tenants, ledgers and codes with accounts or transfers.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    numbers: HashMap<Arc<str>, u32>,
    words: Vec<Word>,
}

impl Words {
    /// Reads all of them.
    pub(super) fn load(connection: &Connection) -> Result<Self, StoreError> {
        let mut words = Self::default();
        let mut statement = connection.prepare("SELECT id, word FROM words ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let number: u32 = row.get(0)?;
            let text = row.get_ref(1)?.as_str().map_err(|_| corrupt("word"))?;
            if words.push(text) != Some(number) {
                return Err(corrupt("word out of its place"));
            }
        }
        Ok(words)
    }

    /// A word's number, if it has one.
    pub(super) fn number(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// Adds a word that has no number yet; `None` beyond what a number can say.
    pub(super) fn push(&mut self, text: &str) -> Option<u32> {
        let number = u32::try_from(self.words.len()).ok()?;
        self.numbers.insert(text.into(), number);
        self.words.push(Word {
            tenant: text.parse().ok(),
            ledger: text.parse().ok(),
            code: text.parse().ok(),
        });
        Some(number)
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// Those from a number on.
    pub(super) fn since(&self, start: usize) -> impl Iterator<Item = (u32, &str)> {
        let mut added: Vec<(u32, &str)> = self
            .numbers
            .iter()
            .filter(|(_, number)| **number as usize >= start)
            .map(|(text, number)| (*number, &**text))
            .collect();
        added.sort_unstable();
        added.into_iter()
    }

    fn word(&self, number: u32) -> Result<&Word, StoreError> {
        self.words.get(number as usize).ok_or_else(|| corrupt("word without a text"))
    }

    pub(super) fn tenant(&self, number: u32) -> Result<TenantId, StoreError> {
        self.word(number)?.tenant.clone().ok_or_else(|| corrupt("tenant"))
    }

    pub(super) fn ledger(&self, number: u32) -> Result<LedgerCode, StoreError> {
        self.word(number)?.ledger.ok_or_else(|| corrupt("ledger"))
    }

    pub(super) fn code(&self, number: u32) -> Result<Code, StoreError> {
        self.word(number)?.code.clone().ok_or_else(|| corrupt("code"))
    }
}
