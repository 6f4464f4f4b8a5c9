//! Reads the layers, each over the one before, and hands out what a service is configured with.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    args::ConfigArgs,
    file,
    given::{Given, Origin},
    problem::{Problem, Problems, unknown},
    text::{self, LEVEL, PREFIX},
    tree::{COMMON, MeshConfig, Tree},
    verify::{article, below, missing, verify},
};
use crate::service::Service;

/// Where the layers come from.
#[derive(Clone, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    supplied: Vec<(Vec<String>, Value, &'static str)>,
    flags: Vec<(String, Vec<String>, String)>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Sources {
    /// A file, and variables of an environment; those that are not of the tree are left alone.
    pub fn new(file: Option<PathBuf>, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let environment = environment.into_iter().filter(|(name, _)| is_of_the_tree(name)).collect();
        Self { file, environment, ..Self::default() }
    }

    /// What the command line says, and the environment of this process.
    pub fn of(args: &ConfigArgs) -> Self {
        let variables = std::env::vars_os();
        let environment =
            variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut sources = Self::new(args.config.clone(), environment);
        for set in &args.set {
            sources.flags.push(("--set".into(), set.path.clone(), set.text.clone()));
        }
        sources
    }

    /// What a flag of its own stands for: over everything else.
    pub fn flag(&mut self, flag: &str, path: &[&str], text: impl Into<String>) {
        self.flags.push((flag.to_owned(), path.iter().map(ToString::to_string).collect(), text.into()));
    }

    /// What the command starts from, below all that a user gives. `by` is shown as its origin.
    pub fn supply(&mut self, by: &'static str, path: &[&str], value: impl Into<Value>) {
        self.supplied.push((path.iter().map(ToString::to_string).collect(), value.into(), by));
    }
}

/// Only what has two levels is of the tree: Kubernetes makes `PAYMESH_SERVICE_HOST` and the like by itself,
/// and the command has variables of its own.
fn is_of_the_tree(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.contains(LEVEL))
}

/// Everything that was given, known to fit the tree.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub(super) tree: Arc<Tree>,
    pub(super) given: Given,
}

impl Tree {
    /// Reads all layers. Refused with everything that is wrong.
    pub fn load(self, sources: &Sources) -> Result<Loaded, Problems> {
        let mut problems = Vec::new();
        for clash in &self.clashes {
            problems.push(Problem::new(None, clash, "is a setting of the mesh and of the service at once"));
        }
        let mut layers = vec![self.supplied(sources)];
        if let Some(path) = &sources.file {
            layers.extend(file::read_file(path, &mut problems));
        }
        layers.push(self.environment(sources, &mut problems));
        layers.push(self.flags(sources, &mut problems));
        let mut given = Given::empty(Origin::Supplied("default"));
        for layer in layers {
            // Each by itself: a wrong value is wrong even where a later layer hides it.
            self.verify(&layer, &mut problems);
            given.overlay(layer);
        }
        if problems.is_empty() { Ok(Loaded { tree: Arc::new(self), given }) } else { Err(Problems(problems)) }
    }

    /// Takes a text for a file of this name, and nothing else.
    pub fn load_text(self, name: &str, text: &str) -> Result<Loaded, Problems> {
        let mut problems = Vec::new();
        let given = file::read_text(name, text, &mut problems);
        self.verify(&given, &mut problems);
        if problems.is_empty() { Ok(Loaded { tree: Arc::new(self), given }) } else { Err(Problems(problems)) }
    }

    fn supplied(&self, sources: &Sources) -> Given {
        let mut layer = Given::empty(Origin::Supplied("default"));
        for (path, value, by) in &sources.supplied {
            if path.first().is_some_and(|table| self.table(table).is_some())
                && let Some(value) = Given::of(value.clone(), &Origin::Supplied(by))
            {
                layer.insert(path, value);
            }
        }
        layer
    }

    fn environment(&self, sources: &Sources, problems: &mut Vec<Problem>) -> Given {
        let mut layer = Given::empty(Origin::Supplied("environment"));
        let mut variables: Vec<_> = sources.environment.iter().collect();
        // In one order, whatever the system's: a table comes before its keys.
        variables.sort_unstable();
        for (name, value) in variables {
            let rest = name.strip_prefix(PREFIX).unwrap_or(name);
            let parts: Vec<String> = rest.split(LEVEL).map(str::to_owned).collect();
            self.put(&mut layer, &parts, value, Origin::Variable(name.as_str().into()), problems);
        }
        layer
    }

    fn flags(&self, sources: &Sources, problems: &mut Vec<Problem>) -> Given {
        let mut layer = Given::empty(Origin::Supplied("flags"));
        for (flag, parts, value) in &sources.flags {
            self.put(&mut layer, parts, value, Origin::Flag(flag.as_str().into()), problems);
        }
        layer
    }

    fn put(
        &self,
        layer: &mut Given,
        parts: &[String],
        value: &str,
        origin: Origin,
        problems: &mut Vec<Problem>,
    ) {
        let table = parts.first().map(|table| table.to_lowercase().replace('_', "-")).unwrap_or_default();
        if self.table(&table).is_none() && self.is_foreign(&table) {
            return;
        }
        let names: Vec<&str> = self.services().collect();
        problems.extend(text::put(layer, &self.root, parts, value, origin, &names).err());
    }

    fn verify(&self, given: &Given, problems: &mut Vec<Problem>) {
        let Given::Table(tables, _) = given else { return };
        for (name, given) in tables {
            match self.table(name) {
                Some(node) => verify(node, given, name, problems),
                None if self.is_foreign(name) => {}
                None => {
                    let known = self.root.children().into_iter().flat_map(BTreeMap::keys).map(String::as_str);
                    let known: Vec<&str> = known.collect();
                    let what = unknown(name, known.iter().copied());
                    problems.push(Problem::new(Some(given.origin().clone()), &below("", name), what));
                }
            }
        }
    }
}

impl Loaded {
    /// What a service is configured with: the mesh's part, and its own.
    pub fn service<S: Service>(&self) -> Result<(MeshConfig, S::Config), Problems>
    where
        S::Config: JsonSchema,
    {
        let given = self.of_service(S::NAME);
        let mut problems = Vec::new();
        if let Some(node) = self.tree.table(S::NAME) {
            missing(node, Some(&given), S::NAME, &mut problems);
        }
        let own = self.tree.own.get(S::NAME).cloned().unwrap_or_default();
        let (mut of_mesh, mut of_service) = (BTreeMap::new(), BTreeMap::new());
        if let Given::Table(entries, _) = &given {
            for (key, value) in entries {
                let part = if own.contains(key) { &mut of_service } else { &mut of_mesh };
                part.insert(key.clone(), value.clone());
            }
        }
        let table = |entries| Given::Table(entries, given.origin().clone());
        let config = if own.is_empty() {
            Some(S::Config::default())
        } else {
            self.typed(&table(of_service), S::NAME, &mut problems)
        };
        // What is missing was said already, in words of ours.
        let mesh =
            if problems.is_empty() { self.typed(&table(of_mesh), S::NAME, &mut problems) } else { None };
        match (mesh, config) {
            (Some(mesh), Some(config)) if problems.is_empty() => Ok((mesh, config)),
            _ => Err(Problems(problems)),
        }
    }

    /// A part of the common table, or its default: for what a process has once, such as its log.
    pub fn common<T: DeserializeOwned + Default>(&self, key: &str) -> Result<T, Problems> {
        let Some(given) = self.given.at([COMMON, key]) else { return Ok(T::default()) };
        let mut problems = Vec::new();
        self.typed(given, &below(COMMON, key), &mut problems).ok_or(Problems(problems))
    }

    /// The services that something was given for in a table of their own.
    pub fn named(&self) -> Vec<&'static str> {
        self.tree.services().filter(|name| self.given.get(name).is_some()).collect()
    }

    /// The common table with the service's own over it.
    pub(super) fn of_service(&self, name: &str) -> Given {
        let mut given =
            self.given.get(COMMON).cloned().unwrap_or_else(|| Given::empty(Origin::Supplied("default")));
        if let Some(own) = self.given.get(name) {
            given.overlay(own.clone());
        }
        given
    }

    /// Reads a value as its type; what the type itself refuses is a problem with its path and origin.
    fn typed<T: DeserializeOwned>(
        &self,
        given: &Given,
        path: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<T> {
        let error = match serde_path_to_error::deserialize(given.to_value()) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let (mut place, mut node, mut said) = (given, self.tree.table(path), path.to_owned());
        for segment in error.path() {
            use serde_path_to_error::Segment;
            let (key, next) = match (segment, place) {
                (Segment::Map { key }, Given::Table(entries, _)) => (key.clone(), entries.get(key)),
                (Segment::Seq { index }, Given::List(items, _)) => (index.to_string(), items.get(*index)),
                _ => break,
            };
            node = node.and_then(|node| node.children().and_then(|children| children.get(&key)));
            said = below(&said, &key);
            let Some(next) = next else { break };
            place = next;
        }
        // serde's own sentences quote the value; those of our types say what would be right.
        let what = error.inner().to_string();
        let quotes = ["invalid type", "invalid value", "invalid length", "unknown variant"];
        let what = if quotes.iter().any(|start| what.starts_with(start)) {
            node.map_or_else(
                || "has not the right form".to_owned(),
                |node| format!("must be {}", article(&node.type_name())),
            )
        } else {
            what
        };
        problems.push(Problem::new(Some(place.origin().clone()), &said, what));
        None
    }
}
