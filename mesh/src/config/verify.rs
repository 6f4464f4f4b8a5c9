//! Compares what was given with the tree: unknown keys, wrong types, values out of range, what is missing.

use serde_json::Value;

use super::{
    given::Given,
    node::{Kind, Node},
    problem::{Problem, unknown},
};

/// The path of an entry.
pub(super) fn below(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if plain { key.to_owned() } else { format!("\"{key}\"") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Everything wrong with a value; what is missing is not looked for.
pub(super) fn verify(node: &Node, given: &Given, path: &str, problems: &mut Vec<Problem>) {
    let mut wrong = |what: String| problems.push(Problem::new(Some(given.origin().clone()), path, what));
    match (&node.kind, given) {
        (Kind::Table(children), Given::Table(entries, _)) => {
            for (key, value) in entries {
                let path = below(path, key);
                match children.get(key) {
                    Some(child) => verify(child, value, &path, problems),
                    None => problems.push(Problem::new(
                        Some(value.origin().clone()),
                        &path,
                        unknown(key, children.keys().map(String::as_str)),
                    )),
                }
            }
        }
        (Kind::Map(of), Given::Table(entries, _)) => {
            for (key, value) in entries {
                verify(of, value, &below(path, key), problems);
            }
        }
        (Kind::List(of), Given::List(items, _)) => {
            for (at, item) in items.iter().enumerate() {
                verify(of, item, &below(path, &at.to_string()), problems);
                missing(of, Some(item), &below(path, &at.to_string()), problems);
            }
        }
        (Kind::Text(choices), Given::Plain(Value::String(text), _)) => {
            if !choices.is_empty() && !choices.iter().any(|(name, _)| name == text) {
                wrong(format!("must be {}", node.type_name()));
            }
        }
        (Kind::Integer(min, max), Given::Plain(Value::Number(number), _)) if !number.is_f64() => {
            let number = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            if number.is_none_or(|number| number < *min || number > *max) {
                wrong(format!("must be {}", article(&node.type_name())));
            }
        }
        (Kind::Number, Given::Plain(Value::Number(_), _))
        | (Kind::Switch, Given::Plain(Value::Bool(_), _))
        | (Kind::Any, _) => {}
        (Kind::OneOf(forms), _) => {
            let mut tried: Vec<Vec<Problem>> = Vec::new();
            for form in forms {
                let mut problems = Vec::new();
                verify(form, given, path, &mut problems);
                missing(form, Some(given), path, &mut problems);
                tried.push(problems);
            }
            // The form that fits best is the one that was meant.
            problems.extend(tried.into_iter().min_by_key(Vec::len).unwrap_or_default());
        }
        (_, given) => wrong(format!("must be {}, not {}", article(&node.type_name()), given.kind())),
    }
}

/// The type in words, within a sentence.
pub(super) fn article(name: &str) -> String {
    match name {
        name if name.starts_with("integer") || name.starts_with("IP") || name.starts_with("array") => {
            format!("an {name}")
        }
        name if name.starts_with("one of") || name.starts_with("true") => name.to_owned(),
        "path of a file" => "the path of a file".to_owned(),
        name => format!("a {name}"),
    }
}

/// Everything that must be given and is not.
pub(super) fn missing(node: &Node, given: Option<&Given>, path: &str, problems: &mut Vec<Problem>) {
    match (&node.kind, given) {
        // What nobody asked for lacks nothing.
        (Kind::Table(_), None) if node.nullable => {}
        (Kind::Table(children), given) => {
            for (key, child) in children {
                missing(child, given.and_then(|given| given.get(key)), &below(path, key), problems);
            }
        }
        (Kind::Map(of), Some(Given::Table(entries, _))) => {
            for (key, value) in entries {
                missing(of, Some(value), &below(path, key), problems);
            }
        }
        (_, None) if node.required => {
            let what = format!("must be given: {}", first_sentence(&node.doc));
            problems.push(Problem::new(None, path, what));
        }
        _ => {}
    }
}

/// The first sentence of a documentation.
pub(super) fn first_sentence(doc: &str) -> String {
    let line = doc.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    line.split_inclusive(". ").next().unwrap_or_default().trim_end().to_owned()
}
