//! Writes a file that has every setting, from the tree and from what is given.
//!
//! `# text` explains, `#key = value` is a setting with its default (or, where it has none, with an example),
//! and what is not behind a `#` was given. Taking away each `#` that has no space after it leaves a file
//! with every setting.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    explain::as_toml,
    given::Given,
    load::Loaded,
    node::{Kind, Node},
    tree::COMMON,
    verify::below,
};

/// How long a line of explanation may be.
const WIDTH: usize = 100;

impl Loaded {
    /// The file, as text.
    pub fn example(&self) -> String {
        let mut out = String::new();
        let own = |name: &str, key: &str| self.tree.own.get(name).is_none_or(|own| own.contains(key));
        for name in std::iter::once(COMMON).chain(self.tree.services()) {
            let Some(node) = self.tree.table(name) else { continue };
            let given = self.given.get(name);
            if !out.is_empty() {
                out.push('\n');
            }
            rule(&mut out);
            explain(&mut out, &node.doc);
            if name != COMMON {
                explain(&mut out, &format!("And everything of [{COMMON}], for {name} alone."));
            }
            rule(&mut out);
            // What is common is explained once, in the common table.
            let wanted = |key: &str, given: Option<&Given>| own(name, key) || given.is_some();
            let mut writer = Writer { out: &mut out, common: self.tree.common(), table: name };
            writer.table(node, given, name, &wanted, false);
        }
        out
    }
}

struct Writer<'w> {
    out: &'w mut String,
    common: &'w Node,
    table: &'w str,
}

impl Writer<'_> {
    /// A table: its plain settings first, as TOML wants it, then the tables in it. `off`: nothing in it is
    /// given, so that its header is behind a `#` too.
    fn table(
        &mut self,
        node: &Node,
        given: Option<&Given>,
        path: &str,
        wanted: &dyn Fn(&str, Option<&Given>) -> bool,
        off: bool,
    ) {
        let Some(children) = node.children() else { return };
        let of = |key: &str| given.and_then(|given| given.get(key));
        let children: Vec<_> = children.iter().filter(|(key, _)| wanted(key, of(key))).collect();
        let is_table = |node: &Node| matches!(node.kind, Kind::Table(_)) || list_of_tables(node).is_some();
        // A header only where there is something below it: of nested tables each has its own.
        if path == self.table || children.iter().any(|(_, child)| !is_table(child)) {
            let _ = writeln!(self.out, "{}[{path}]", if off { "#" } else { "" });
        }
        for (key, child) in children.iter().filter(|(_, child)| !is_table(child)) {
            self.setting(key, child, of(key), path);
        }
        for (key, child) in children.iter().filter(|(_, child)| is_table(child)) {
            self.nested(key, child, of(key), path, off);
        }
    }

    /// Whether this is a setting of the common part within a service's table: it was explained before.
    fn is_common(&self, key: &str, path: &str) -> bool {
        let within = path.strip_prefix(self.table).unwrap_or_default();
        let first = within.split('.').nth(1).unwrap_or(key);
        self.table != COMMON && self.common.children().is_some_and(|common| common.contains_key(first))
    }

    fn nested(&mut self, key: &str, node: &Node, given: Option<&Given>, path: &str, off: bool) {
        self.out.push('\n');
        let below_it = below(path, key);
        // A table of the common part, within a service: only what is given, explained elsewhere.
        let repeated = self.is_common(key, path);
        if !repeated {
            explain(self.out, &node.doc);
        }
        if let Some(item) = list_of_tables(node) {
            let header = |out: &mut String, off: &str| {
                let _ = writeln!(out, "{off}[[{below_it}]]");
            };
            match given {
                Some(Given::List(items, _)) if !items.is_empty() => {
                    for given in items {
                        header(self.out, "");
                        self.settings_of(item, Some(given), &below_it);
                    }
                }
                _ => {
                    header(self.out, "#");
                    self.settings_of(item, None, &below_it);
                }
            }
            return;
        }
        let off = off || (node.nullable && given.is_none());
        if repeated {
            self.table(node, given, &below_it, &|_, given| given.is_some(), off);
        } else {
            self.table(node, given, &below_it, &|_, _| true, off);
        }
    }

    /// The settings of an item of an array of tables; tables within it are written in line.
    fn settings_of(&mut self, item: &Node, given: Option<&Given>, path: &str) {
        for (key, child) in item.children().into_iter().flatten() {
            self.setting(key, child, given.and_then(|given| given.get(key)), path);
        }
    }

    fn setting(&mut self, key: &str, node: &Node, given: Option<&Given>, path: &str) {
        if !self.is_common(key, path) {
            explain(self.out, &node.doc);
            for (name, doc) in choices(node) {
                explain(self.out, &format!("  \"{name}\": {doc}"));
            }
            if matches!(node.kind, Kind::Integer(..)) {
                explain(self.out, &format!("Type: {}.", node.type_name()));
            }
        }
        let key = below("", key);
        let _ = match given {
            Some(given) => writeln!(self.out, "{key} = {}", as_toml(&given.to_value())),
            None => match node.default.as_ref().filter(|default| !default.is_null()) {
                Some(default) => writeln!(self.out, "#{key} = {}", as_toml(default)),
                None => writeln!(self.out, "#{key} = {}   # an example", as_toml(&example_of(node))),
            },
        };
    }
}

fn choices(node: &Node) -> impl Iterator<Item = &(String, String)> {
    let choices = match &node.kind {
        Kind::Text(choices) => choices.as_slice(),
        _ => &[],
    };
    choices.iter().filter(|(_, doc)| !doc.is_empty())
}

fn list_of_tables(node: &Node) -> Option<&Node> {
    match &node.kind {
        Kind::List(of) if matches!(of.kind, Kind::Table(_)) => Some(of),
        _ => None,
    }
}

/// A value that has the right form.
fn example_of(node: &Node) -> Value {
    if let Some(example) = &node.example {
        return example.clone();
    }
    if let Some(default) = node.default.as_ref().filter(|default| !default.is_null()) {
        return default.clone();
    }
    match &node.kind {
        Kind::Table(children) => {
            Value::Object(children.iter().map(|(key, child)| (key.clone(), example_of(child))).collect())
        }
        Kind::Map(_) => Value::Object(serde_json::Map::new()),
        Kind::List(_) => Value::Array(Vec::new()),
        Kind::Text(choices) => choices.first().map_or("", |(name, _)| name).into(),
        Kind::Integer(min, max) => i64::try_from(0.clamp(*min, *max)).unwrap_or_default().into(),
        Kind::Number => 0.into(),
        Kind::Switch => false.into(),
        Kind::OneOf(forms) => forms.first().map_or(Value::from(""), example_of),
        Kind::Any => "".into(),
    }
}

fn rule(out: &mut String) {
    let _ = writeln!(out, "# {}", "-".repeat(WIDTH - 2));
}

/// Text behind `# `, in lines of a readable length.
fn explain(out: &mut String, text: &str) {
    let text = text.trim_end();
    let indent = if text.starts_with("  ") { "  " } else { "" };
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + word.len() + indent.len() + 3 > WIDTH {
            let _ = writeln!(out, "# {indent}{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        let _ = writeln!(out, "# {indent}{line}");
    }
}
