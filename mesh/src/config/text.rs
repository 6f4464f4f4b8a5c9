//! The layers of the environment and of flags: a path and a text, whose type the tree says.

use serde_json::Value;

use super::{
    file::read_value,
    given::{Given, Origin},
    node::{Kind, Node},
    problem::{Problem, unknown},
    verify::{article, below},
};

/// What the variables of the tree begin with.
pub(super) const PREFIX: &str = "PAYMESH_";
/// What stands between two levels in a variable's name.
pub(super) const LEVEL: &str = "__";

/// A path found in the tree, and what is there.
pub(super) struct Found<'n> {
    pub(super) path: Vec<String>,
    pub(super) node: &'n Node,
}

/// Follows the parts of a variable's name or of a flag's path down the tree. Variables are in capitals and
/// cannot have `-`, so they are compared without case and with `_` for `-`. `names` are the spellings that
/// free keys may have: the names of services.
pub(super) fn find<'n>(
    root: &'n Node,
    parts: &[String],
    loosely: bool,
    names: &[&str],
) -> Result<Found<'n>, (String, String)> {
    let (mut node, mut path, mut said) = (root, Vec::new(), String::new());
    let same = |a: &str, b: &str| if loosely { normal(a) == normal(b) } else { a == b };
    for part in parts {
        let spelled = if loosely { normal(part) } else { part.clone() };
        let next = match &node.kind {
            Kind::Table(children) => {
                let known = children.iter().find(|(name, _)| same(name, part));
                let Some((name, child)) = known else {
                    return Err((
                        below(&said, &spelled),
                        unknown(&spelled, children.keys().map(String::as_str)),
                    ));
                };
                (name.clone(), child)
            }
            Kind::Map(of) => {
                let known = names.iter().find(|name| same(name, part));
                (known.map_or(spelled, ToString::to_string), &**of)
            }
            Kind::List(_) => {
                let what = "is an array: give all of it, as a TOML value such as [\"a\", \"b\"]";
                return Err((said, what.to_owned()));
            }
            // Forms differ in their keys: the value as a whole decides which it is.
            Kind::OneOf(_) => return Err((said, "must be given as a whole, as a TOML value".to_owned())),
            _ => return Err((below(&said, &spelled), format!("unknown; {said} is {}", node.type_name()))),
        };
        said = below(&said, &next.0);
        path.push(next.0);
        node = next.1;
    }
    Ok(Found { path, node })
}

fn normal(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// Reads a text as the type that the tree says.
pub(super) fn typed(node: &Node, text: &str, origin: &Origin) -> Result<Given, String> {
    let plain = |value: Value| Given::Plain(value, origin.clone());
    match &node.kind {
        Kind::Text(_) => Ok(plain(text.into())),
        Kind::Integer(..) => text
            .trim()
            .parse::<i64>()
            .map(|number| plain(number.into()))
            .map_err(|_| format!("must be {}", article(&node.type_name()))),
        Kind::Number => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(plain(number.into())),
            _ => Err("must be a number".into()),
        },
        Kind::Switch => match text.trim() {
            "true" => Ok(plain(true.into())),
            "false" => Ok(plain(false.into())),
            _ => Err("must be true or false".into()),
        },
        Kind::List(_) => {
            read_value(text, origin).ok_or_else(|| "must be a TOML array, such as [\"a\", \"b\"]".into())
        }
        Kind::Table(_) | Kind::Map(_) => read_value(text, origin)
            .ok_or_else(|| "must be a TOML table, such as { name = \"value\" }, or one of its keys".into()),
        // A value if it reads as one, else a text.
        Kind::OneOf(_) | Kind::Any => Ok(read_value(text, origin).unwrap_or_else(|| plain(text.into()))),
    }
}

/// The parts of a flag's path: `mesh.settings.upstreams.svc-tax`; a part with a dot in it stands in quotes.
pub(super) fn split_path(path: &str) -> Option<Vec<String>> {
    let (mut parts, mut rest) = (Vec::new(), path);
    loop {
        let (part, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted.split_once('"')?
        } else {
            rest.split_at(rest.find('.').unwrap_or(rest.len()))
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part.to_owned());
        match after.strip_prefix('.') {
            Some(more) => rest = more,
            None => return after.is_empty().then_some(parts),
        }
    }
}

/// Puts one text into a layer, or says what is wrong with it.
pub(super) fn put(
    layer: &mut Given,
    root: &Node,
    parts: &[String],
    text: &str,
    origin: Origin,
    names: &[&str],
) -> Result<(), Problem> {
    let loosely = matches!(origin, Origin::Variable(_));
    let found = find(root, parts, loosely, names)
        .map_err(|(path, what)| Problem::new(Some(origin.clone()), &path, what))?;
    let path = found.path.iter().fold(String::new(), |path, key| below(&path, key));
    let value = typed(found.node, text, &origin).map_err(|what| Problem::new(Some(origin), &path, what))?;
    layer.insert(&found.path, value);
    Ok(())
}
