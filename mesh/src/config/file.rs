//! The layer of the file: TOML with the place of every value.

use std::{path::Path, sync::Arc};

use serde_json::Value;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use super::{
    given::{Given, Origin},
    problem::Problem,
};

/// A configuration is read into memory: larger than this (bytes) is no configuration.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a file.
pub(super) fn read_file(path: &Path, problems: &mut Vec<Problem>) -> Option<Given> {
    let name = path.display().to_string();
    let read = || {
        if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
            return Err(std::io::Error::other("larger than 1 MiB, which no configuration is"));
        }
        std::fs::read_to_string(path)
    };
    match read() {
        Ok(text) => Some(read_text(&name, &text, problems)),
        Err(error) => {
            problems.push(Problem::new(None, &name, format!("cannot be read: {error}")));
            None
        }
    }
}

/// Reads a text as a file of this name. What cannot be read is a problem each; the rest is returned.
pub(super) fn read_text(name: &str, text: &str, problems: &mut Vec<Problem>) -> Given {
    let (table, errors) = DeTable::parse_recoverable(text);
    let places = Places { name: name.into(), text };
    for error in errors {
        let at = error.span().map(|span| places.origin(span.start));
        // The parser's message alone: its full text would quote the line, and with it a value.
        problems.push(Problem::new(at, "", format!("not TOML: {}", error.message())));
    }
    let start = table.span().start;
    places.table(table.get_ref(), start, problems)
}

/// Reads one value, for variables and flags; `None` if it is not one.
pub(super) fn read_value(text: &str, origin: &Origin) -> Option<Given> {
    let value = DeValue::parse(text).ok()?;
    let places = Places { name: "".into(), text };
    let mut problems = Vec::new();
    let given = places.value(&value, &mut problems)?;
    // As if it had been given where the variable or flag is.
    if problems.is_empty() { Given::of(given.to_value(), origin) } else { None }
}

struct Places<'t> {
    name: Arc<str>,
    text: &'t str,
}

impl Places<'_> {
    fn origin(&self, at: usize) -> Origin {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        Origin::File { name: Arc::clone(&self.name), line, column }
    }

    fn table(&self, table: &DeTable<'_>, at: usize, problems: &mut Vec<Problem>) -> Given {
        let entries = table.iter().filter_map(|(key, value)| {
            let mut given = self.value(value, problems)?;
            // A key's own place is what one looks for; an array of tables has one for each item.
            if !matches!(given, Given::Table(..)) {
                given = given.moved(self.origin(key.span().start));
            }
            Some((key.get_ref().to_string(), given))
        });
        Given::Table(entries.collect(), self.origin(at))
    }

    fn list(&self, items: &DeArray<'_>, at: usize, problems: &mut Vec<Problem>) -> Given {
        Given::List(items.iter().filter_map(|item| self.value(item, problems)).collect(), self.origin(at))
    }

    fn value(&self, value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) -> Option<Given> {
        let at = value.span().start;
        let origin = || self.origin(at);
        let plain = match value.get_ref() {
            DeValue::Table(table) => return Some(self.table(table, at, problems)),
            DeValue::Array(items) => return Some(self.list(items, at, problems)),
            DeValue::String(text) => Some(Value::from(text.as_ref())),
            DeValue::Boolean(on) => Some(Value::from(*on)),
            DeValue::Integer(integer) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(Value::from)
            }
            DeValue::Float(float) => float.as_str().parse::<f64>().ok().map(Value::from),
            DeValue::Datetime(_) => None,
        };
        if plain.is_none() {
            let what = "must be a string, true or false, a number of 64 bits, an array or a table";
            problems.push(Problem::new(Some(origin()), "", what));
        }
        Some(Given::Plain(plain?, origin()))
    }
}

impl Given {
    fn moved(self, to: Origin) -> Self {
        match self {
            Self::Plain(value, _) => Self::Plain(value, to),
            Self::List(items, _) => Self::List(items, to),
            Self::Table(entries, _) => Self::Table(entries, to),
        }
    }
}
