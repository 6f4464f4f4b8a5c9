//! What can be configured, as a tree: names, types, ranges, defaults and documentation.
//!
//! The tree is made from the configuration types themselves (their JSON schema), so that a field added to
//! one of them is read, checked, explained and written to the example without a line here. Knows nothing of
//! what is configured.

use std::collections::BTreeMap;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

/// Schemas nested deeper than this are not looked into: types of configuration are not.
const DEPTH_MAX: usize = 32;

/// What a setting, or a table of settings, is.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub(super) struct Node {
    /// The documentation of the field, else of its type.
    pub(super) doc: String,
    /// What it holds.
    pub(super) kind: Kind,
    /// What holds where nobody says otherwise; `None` where there is no such thing.
    pub(super) default: Option<Value>,
    /// Whether a service cannot do without.
    pub(super) required: bool,
    /// Whether leaving it out is a value of its own (an `Option`).
    pub(super) nullable: bool,
    /// A value to show how it is written.
    pub(super) example: Option<Value>,
    /// Whether it names a file, and whom that file is for.
    pub(super) file: Option<FileKind>,
    /// Whether its value is never shown.
    pub(super) hidden: bool,
    /// Whether it is an address that the service listens on.
    pub(super) listens: bool,
}

/// Whom a file that a setting names is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// Anybody may read it: a certificate, a table of rates.
    Public,
    /// A secret: never readable for everybody.
    Secret,
}

/// The kinds of settings.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A table of known settings.
    Table(BTreeMap<String, Node>),
    /// A table whose keys are free.
    Map(Box<Node>),
    /// An array.
    List(Box<Node>),
    /// A text; where there are choices, one of them, each with its documentation.
    Text(Vec<(String, String)>),
    /// An integer from the first to the last, inclusive.
    Integer(i128, i128),
    /// A number with a fraction.
    Number,
    /// `true` or `false`.
    Switch,
    /// One of several forms.
    OneOf(Vec<Node>),
    /// Whatever its own type makes of it.
    Any,
}

impl Node {
    /// The tree of a configuration type.
    pub(super) fn of<T: JsonSchema>() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let schema = settings.into_generator().into_root_schema_for::<T>();
        Self::read(schema.as_value(), 0)
    }

    /// A table that was put together from others.
    pub(super) fn table(doc: &str, children: BTreeMap<String, Self>) -> Self {
        Self { doc: doc.to_owned(), ..Self::new(Kind::Table(children)) }
    }

    fn new(kind: Kind) -> Self {
        Self {
            doc: String::new(),
            kind,
            default: None,
            required: false,
            nullable: false,
            example: None,
            file: None,
            hidden: false,
            listens: false,
        }
    }

    /// The settings of a table.
    pub(super) fn children(&self) -> Option<&BTreeMap<String, Self>> {
        match &self.kind {
            Kind::Table(children) => Some(children),
            _ => None,
        }
    }

    /// The type in words.
    pub(super) fn type_name(&self) -> String {
        match &self.kind {
            Kind::Table(_) => "table".into(),
            Kind::Map(of) => format!("table of {}", plural(&of.type_name())),
            Kind::List(of) => format!("array of {}", plural(&of.type_name())),
            Kind::Text(choices) if choices.is_empty() && self.file.is_some() => "path of a file".into(),
            Kind::Text(choices) if choices.is_empty() && self.listens => "IP address and port".into(),
            Kind::Text(choices) if choices.is_empty() => "string".into(),
            Kind::Text(choices) => {
                let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                format!("one of {}", names.join(", "))
            }
            Kind::Integer(min, max) => format!("integer{}", range(*min, *max)),
            Kind::Number => "number".into(),
            Kind::Switch => "true or false".into(),
            Kind::OneOf(forms) => {
                let forms: Vec<String> = forms.iter().map(Self::type_name).collect();
                forms.join(", or ")
            }
            Kind::Any => "value".into(),
        }
    }

    fn read(schema: &Value, depth: usize) -> Self {
        let Some(schema) = schema.as_object().filter(|_| depth < DEPTH_MAX) else {
            return Self::new(Kind::Any);
        };
        let (mut kind, mut nullable) = (kind(schema, depth), false);
        if let Kind::OneOf(forms) = &mut kind {
            let all = forms.len();
            forms.retain(|form| !matches!(&form.kind, Kind::Any if form.nullable));
            nullable = forms.len() < all;
        }
        let mut node = Self::new(kind);
        // `Option<T>` of a type with its own schema is "T or null": then the node is T's.
        if let Kind::OneOf(forms) = &mut node.kind
            && forms.len() == 1
            && let Some(only) = forms.pop()
        {
            node = only;
        }
        let types = schema.get("type");
        let null = Value::from("null");
        node.nullable = nullable
            || types == Some(&null)
            || types.and_then(Value::as_array).is_some_and(|t| t.contains(&null));
        if let Some(doc) = schema.get("description").and_then(Value::as_str) {
            doc.clone_into(&mut node.doc);
        }
        node.default = schema.get("default").cloned();
        node.example = schema.get("examples").and_then(Value::as_array).and_then(|all| all.first()).cloned();
        node.file = match schema.get("x-file").and_then(Value::as_str) {
            Some("public") => Some(FileKind::Public),
            Some(_) => Some(FileKind::Secret),
            None => node.file,
        };
        node.hidden |= schema.get("x-hidden") == Some(&Value::Bool(true));
        node.listens |= schema.get("x-listens") == Some(&Value::Bool(true));
        node.required |= schema.get("x-required") == Some(&Value::Bool(true));
        node.hand_down();
        node
    }

    /// What a table has by default is what its settings have by default.
    fn hand_down(&mut self) {
        let Kind::Table(children) = &mut self.kind else { return };
        let Some(Value::Object(defaults)) = &self.default else { return };
        for (name, child) in children {
            if let Some(default) = defaults.get(name) {
                child.default = Some(default.clone());
                child.hand_down();
            }
        }
    }
}

/// The range of an integer in words; without the limits that every integer has.
fn range(min: i128, max: i128) -> String {
    match (min == i128::from(i64::MIN), max == i128::from(i64::MAX)) {
        (true, true) => String::new(),
        (false, true) => format!(", at least {min}"),
        (true, false) => format!(", at most {max}"),
        (false, false) => format!(", {min} to {max}"),
    }
}

fn plural(name: &str) -> String {
    match name {
        "path of a file" => "paths of files".into(),
        "table" | "string" | "number" | "value" | "integer" => format!("{name}s"),
        other => match other.split_once(',') {
            Some(("integer", range)) => format!("integers,{range}"),
            _ => format!("({other})"),
        },
    }
}

fn kind(schema: &Map<String, Value>, depth: usize) -> Kind {
    for word in ["oneOf", "anyOf"] {
        if let Some(forms) = schema.get(word).and_then(Value::as_array) {
            return forms_of(forms, depth);
        }
    }
    if let Some(Value::String(constant)) = schema.get("const") {
        return Kind::Text(vec![(constant.clone(), String::new())]);
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        let names = choices.iter().filter_map(Value::as_str);
        return Kind::Text(names.map(|name| (name.to_owned(), String::new())).collect());
    }
    let of_type = match schema.get("type") {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("null")
        }
        _ => "",
    };
    match of_type {
        "object" => object(schema, depth),
        "array" => {
            let items = schema.get("items").unwrap_or(&Value::Null);
            Kind::List(Box::new(Node::read(items, depth + 1)))
        }
        "string" => Kind::Text(Vec::new()),
        "integer" => integer(schema),
        "number" => Kind::Number,
        "boolean" => Kind::Switch,
        _ => Kind::Any,
    }
}

/// Several forms: an enum of plain names is a text with choices, everything else is one of its forms.
fn forms_of(forms: &[Value], depth: usize) -> Kind {
    let forms: Vec<Node> = forms.iter().map(|form| Node::read(form, depth + 1)).collect();
    let choices: Vec<(String, String)> = forms
        .iter()
        .filter_map(|form| match &form.kind {
            Kind::Text(choices) if !choices.is_empty() => Some(
                choices
                    .iter()
                    .map(|(name, doc)| {
                        (name.clone(), if doc.is_empty() { form.doc.clone() } else { doc.clone() })
                    })
                    .collect::<Vec<_>>(),
            ),
            _ => None,
        })
        .flatten()
        .collect();
    let plain = forms.iter().all(|form| matches!(&form.kind, Kind::Text(choices) if !choices.is_empty()));
    if plain { Kind::Text(choices) } else { Kind::OneOf(forms) }
}

fn object(schema: &Map<String, Value>, depth: usize) -> Kind {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        let free = match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => return Kind::Table(BTreeMap::new()),
            Some(of) => Node::read(of, depth + 1),
            None => match schema.get("patternProperties").and_then(Value::as_object) {
                Some(patterns) => {
                    patterns.values().next().map_or(Node::new(Kind::Any), |of| Node::read(of, depth + 1))
                }
                None => Node::new(Kind::Any),
            },
        };
        return Kind::Map(Box::new(free));
    };
    let required = schema.get("required").and_then(Value::as_array);
    let needed = |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
    let child = |(name, schema): (&String, &Value)| {
        let mut node = Node::read(schema, depth + 1);
        // Said outright: it is required although its type has some default.
        if node.required {
            node.default = None;
        }
        node.required |= needed(name) && node.default.is_none();
        if node.file.is_none() && name.ends_with("_file") && matches!(node.kind, Kind::Text(_)) {
            node.file = Some(FileKind::Secret);
        }
        (name.clone(), node)
    };
    Kind::Table(properties.iter().map(child).collect())
}

fn integer(schema: &Map<String, Value>) -> Kind {
    let (low, high) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, i128::from(u8::MAX)),
        Some("uint16") => (0, i128::from(u16::MAX)),
        Some("uint32") => (0, i128::from(u32::MAX)),
        Some("int8") => (i128::from(i8::MIN), i128::from(i8::MAX)),
        Some("int16") => (i128::from(i16::MIN), i128::from(i16::MAX)),
        Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
        // A TOML integer has 64 bits and a sign: more than that nobody can write.
        Some("uint64" | "uint") => (0, i128::from(i64::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    };
    let limit = |word: &str| schema.get(word).and_then(Value::as_i64).map(i128::from);
    let min = limit("minimum").or_else(|| limit("exclusiveMinimum").map(|min| min + 1));
    let max = limit("maximum").or_else(|| limit("exclusiveMaximum").map(|max| max - 1));
    Kind::Integer(min.map_or(low, |min| min.max(low)), max.map_or(high, |max| max.min(high)))
}
