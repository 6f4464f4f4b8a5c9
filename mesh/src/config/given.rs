//! What was given: values, each with where it came from, and how one layer is laid over another.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::Value;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A place in a file; lines and columns count from 1.
    File {
        /// The file as it was named.
        name: Arc<str>,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// An environment variable.
    Variable(Arc<str>),
    /// A flag of the command line.
    Flag(Arc<str>),
    /// The command itself, below all that a user gives: what `paymesh dev` starts from.
    Supplied(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Supplied(by) => f.write_str(by),
        }
    }
}

/// A value that was given.
#[derive(Debug, Clone)]
pub(super) enum Given {
    /// A string, an integer, a number or a boolean.
    Plain(Value, Origin),
    /// An array. It is replaced as a whole by a later layer.
    List(Vec<Given>, Origin),
    /// A table. A later layer is laid over it key by key.
    Table(BTreeMap<String, Given>, Origin),
}

impl Given {
    /// A table with nothing in it.
    pub(super) fn empty(origin: Origin) -> Self {
        Self::Table(BTreeMap::new(), origin)
    }

    /// A JSON value as if it had been given; null is as if it had not.
    pub(super) fn of(value: Value, origin: &Origin) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::Array(items) => Self::List(
                items.into_iter().filter_map(|item| Self::of(item, origin)).collect(),
                origin.clone(),
            ),
            Value::Object(entries) => {
                let entries = entries.into_iter();
                let given = entries.filter_map(|(key, value)| Some((key, Self::of(value, origin)?)));
                Self::Table(given.collect(), origin.clone())
            }
            plain => Self::Plain(plain, origin.clone()),
        })
    }

    /// Where it came from.
    pub(super) fn origin(&self) -> &Origin {
        match self {
            Self::Plain(_, origin) | Self::List(_, origin) | Self::Table(_, origin) => origin,
        }
    }

    /// What kind of value it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Plain(Value::String(_), _) => "a string",
            Self::Plain(Value::Bool(_), _) => "true or false",
            Self::Plain(Value::Number(number), _) if number.is_f64() => "a number with a fraction",
            Self::Plain(..) => "an integer",
            Self::List(..) => "an array",
            Self::Table(..) => "a table",
        }
    }

    /// The entry of a table.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Table(entries, _) => entries.get(key),
            _ => None,
        }
    }

    /// The entry at the end of a path of tables.
    pub(super) fn at<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Self> {
        path.into_iter().try_fold(self, Self::get)
    }

    /// Lays another value over this one: tables key by key, everything else as a whole.
    pub(super) fn overlay(&mut self, over: Self) {
        match (self, over) {
            (Self::Table(under, _), Self::Table(over, _)) => {
                for (key, value) in over {
                    match under.get_mut(&key) {
                        Some(there) => there.overlay(value),
                        None => {
                            under.insert(key, value);
                        }
                    }
                }
            }
            (under, over) => *under = over,
        }
    }

    /// Puts a value at the end of a path, making the tables on the way.
    pub(super) fn insert(&mut self, path: &[String], value: Self) {
        let wrapped = path.iter().rev().fold(value, |value, key| {
            let origin = value.origin().clone();
            Self::Table(BTreeMap::from([(key.clone(), value)]), origin)
        });
        self.overlay(wrapped);
    }

    /// The values alone.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Plain(value, _) => value.clone(),
            Self::List(items, _) => items.iter().map(Self::to_value).collect(),
            Self::Table(entries, _) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.to_value())).collect())
            }
        }
    }
}
