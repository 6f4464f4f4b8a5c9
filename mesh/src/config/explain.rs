//! Explains the tree: every setting with its type, default, value, where the value came from, and what it
//! is for.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::{
    given::Given,
    load::Loaded,
    node::{Kind, Node},
    problem::{Problem, Problems},
    text::{find, split_path},
    tree::COMMON,
    verify::{below, first_sentence},
};

/// One setting, explained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its path.
    pub path: String,
    /// Its type and range.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is for.
    pub doc: String,
    /// What holds if nobody says otherwise.
    pub default: Option<Value>,
    /// What holds; a secret-like value is never shown.
    pub value: Option<Value>,
    /// Where that came from.
    pub origin: String,
    /// Whether a service cannot do without.
    pub required: bool,
    /// What may be chosen, with what each means.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<(String, String)>,
    /// The variable that sets it.
    pub variable: Option<String>,
}

/// Stands where a value is not shown.
const HIDDEN: &str = "(not shown)";

impl Loaded {
    /// Every setting below a path (all of them without one). In a service's table, what is common to all
    /// services is only listed where the service has a value of its own, or the path leads to it.
    pub fn explain(&self, path: Option<&str>) -> Result<Vec<Entry>, Problems> {
        let Some(path) = path else {
            let mut entries = Vec::new();
            for name in std::iter::once(COMMON).chain(self.tree.services()) {
                self.explain_table(name, &mut entries);
            }
            return Ok(entries);
        };
        let wrong = |path: &str, what: String| Problems(vec![Problem::new(None, path, what)]);
        let parts =
            split_path(path).ok_or_else(|| wrong(path, "is no path, such as mesh.telemetry.log".into()))?;
        let names: Vec<&str> = self.tree.services().collect();
        let found =
            find(&self.tree.root, &parts, false, &names).map_err(|(path, what)| wrong(&path, what))?;
        let mut entries = Vec::new();
        if let [table] = found.path.as_slice() {
            self.explain_table(table, &mut entries);
        } else {
            self.explain_node(found.node, &found.path, &mut entries);
        }
        Ok(entries)
    }

    fn explain_table(&self, name: &str, entries: &mut Vec<Entry>) {
        let own = self.tree.own.get(name);
        for (key, child) in self.tree.table(name).and_then(Node::children).into_iter().flatten() {
            let path = [name.to_owned(), key.clone()];
            if name == COMMON || own.is_some_and(|own| own.contains(key)) {
                self.explain_node(child, &path, entries);
            } else {
                let mut common = Vec::new();
                self.explain_node(child, &path, &mut common);
                let is_own = |entry: &Entry| self.given.at(entry.path.split('.')).is_some();
                entries.extend(common.into_iter().filter(is_own));
            }
        }
    }

    fn explain_node(&self, node: &Node, path: &[String], entries: &mut Vec<Entry>) {
        let text = path.iter().fold(String::new(), |path, key| below(&path, key));
        if let Kind::Table(children) = &node.kind
            && !node.nullable
        {
            for (key, child) in children {
                let mut path = path.to_vec();
                path.push(key.clone());
                self.explain_node(child, &path, entries);
            }
            return;
        }
        let (value, origin) = self.value_of(path);
        let origin = match origin {
            Some(origin) => origin,
            None if node.default.is_some() || node.nullable => "default".into(),
            None if path.first().is_some_and(|table| table == COMMON) => "not given".into(),
            None if node.required => "missing".into(),
            None => "default".into(),
        };
        let hide = |value: Value| if node.hidden { HIDDEN.into() } else { hide(node, value) };
        let default = node.default.clone().filter(|default| !default.is_null());
        let choices = match &node.kind {
            Kind::Text(choices) => choices.clone(),
            _ => Vec::new(),
        };
        let plain = path.iter().all(|key| !key.contains(['.', '"']));
        let variable = path.iter().map(|key| key.to_uppercase().replace('-', "_")).collect::<Vec<_>>();
        entries.push(Entry {
            path: text,
            kind: node.type_name(),
            doc: node.doc.clone(),
            value: value.or_else(|| default.clone()).map(hide),
            default: default.map(hide),
            origin,
            required: node.required,
            choices,
            variable: plain.then(|| format!("PAYMESH_{}", variable.join("__"))),
        });
    }

    /// The value at a path, and where it came from: the service's own table, else the common one. A table
    /// is put together from both.
    fn value_of(&self, path: &[String]) -> (Option<Value>, Option<String>) {
        let own = self.given.at(path.iter().map(String::as_str));
        let (Some(table), Some(rest)) = (path.first(), path.get(1..)) else { return (None, None) };
        let is_own =
            self.tree.own.get(table.as_str()).zip(rest.first()).is_some_and(|(own, key)| own.contains(key));
        let common = (table != COMMON && !is_own)
            .then(|| self.given.at(std::iter::once(COMMON).chain(rest.iter().map(String::as_str))))
            .flatten();
        match (own, common) {
            (Some(over @ Given::Table(..)), Some(under)) => {
                let mut whole = under.clone();
                whole.overlay(over.clone());
                (Some(whole.to_value()), Some(places(&whole)))
            }
            (Some(given), _) | (None, Some(given)) => (Some(given.to_value()), Some(places(given))),
            (None, None) => (None, None),
        }
    }
}

/// Where the entries of a table came from, each place once; of anything else its own.
fn places(given: &Given) -> String {
    match given {
        Given::Table(entries, origin) if !entries.is_empty() => {
            let mut all: Vec<String> = Vec::new();
            for entry in entries.values() {
                let place = places(entry);
                if !all.contains(&place) {
                    all.push(place);
                }
            }
            if all.is_empty() { origin.to_string() } else { all.join(", ") }
        }
        other => other.origin().to_string(),
    }
}

/// The value without what is never shown.
fn hide(node: &Node, value: Value) -> Value {
    if node.hidden {
        return HIDDEN.into();
    }
    match (&node.kind, value) {
        (Kind::Table(children), Value::Object(entries)) => {
            let known = entries.into_iter().filter_map(|(key, value)| {
                let shown = hide(children.get(&key)?, value);
                Some((key, shown))
            });
            Value::Object(known.collect())
        }
        (Kind::Map(of), Value::Object(entries)) => {
            Value::Object(entries.into_iter().map(|(key, value)| (key, hide(of, value))).collect())
        }
        (Kind::List(of), Value::Array(items)) => items.into_iter().map(|item| hide(of, item)).collect(),
        // Which form it has is not known here: hidden in one of them, hidden in all.
        (Kind::OneOf(forms), value) if forms.iter().any(hides) => {
            if value.is_null() {
                value
            } else {
                HIDDEN.into()
            }
        }
        (_, value) => value,
    }
}

fn hides(node: &Node) -> bool {
    node.hidden
        || match &node.kind {
            Kind::Table(children) => children.values().any(hides),
            Kind::Map(of) | Kind::List(of) => hides(of),
            Kind::OneOf(forms) => forms.iter().any(hides),
            _ => false,
        }
}

impl Entry {
    /// For a list: the setting in a line, and what it is for in another.
    pub fn short(&self) -> String {
        let mut text = format!("{} = {}", self.path, self.shown());
        let _ = write!(text, "\n    {}; {}", self.kind, self.origin);
        let doc = first_sentence(&self.doc);
        if !doc.is_empty() {
            let _ = write!(text, "\n    {doc}");
        }
        text
    }

    /// For one setting: all there is to know.
    pub fn full(&self) -> String {
        let mut text = format!("{} = {}\n", self.path, self.shown());
        let default = match &self.default {
            Some(default) => as_toml(default),
            None if self.required => "none: it must be given".into(),
            None => "not set".into(),
        };
        let _ = write!(text, "  type      {}\n  default   {default}\n  from      {}", self.kind, self.origin);
        if let Some(variable) = &self.variable {
            let _ = write!(text, "\n  variable  {variable}");
        }
        for line in self.doc.lines() {
            let _ = write!(text, "\n  {line}");
        }
        for (name, doc) in self.choices.iter().filter(|(_, doc)| !doc.is_empty()) {
            let _ = write!(text, "\n  {name}: {}", doc.replace('\n', " "));
        }
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    fn shown(&self) -> String {
        self.value.as_ref().map_or_else(|| "(not set)".to_owned(), as_toml)
    }
}

/// A value as it is written in the file.
pub(super) fn as_toml(value: &Value) -> String {
    match value {
        Value::Null => "(not set)".into(),
        // TOML's basic strings escape as JSON's do, but for DEL.
        Value::String(text) => Value::from(text.as_str()).to_string().replace('\u{7f}', "\\u007f"),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(as_toml).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) if entries.is_empty() => "{}".into(),
        Value::Object(entries) => {
            let entries = entries.iter().filter(|(_, value)| !value.is_null());
            let entries: Vec<String> =
                entries.map(|(key, value)| format!("{} = {}", below("", key), as_toml(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        plain => plain.to_string(),
    }
}
