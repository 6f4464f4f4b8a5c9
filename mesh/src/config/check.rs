//! Checks a configuration without starting anything: what a service's own types refuse, files that are not
//! there or that everybody may read, upstreams that nobody named, addresses that two want.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde_json::Value;

use super::{
    given::{Given, Origin},
    load::Loaded,
    node::{FileKind, Kind, Node},
    problem::{Problem, Problems, unknown},
    verify::below,
};
use crate::{pki, service::Service, telemetry, transport};

/// What was found right about a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The service.
    pub service: &'static str,
    /// Where it listens: the setting's path and the address.
    pub listens: Vec<(String, SocketAddr)>,
    /// How many files it names, all there and readable.
    pub files: usize,
}

impl Loaded {
    /// Checks these services, and that they go together. Every problem is found, once.
    pub fn check(&self, services: &[&str]) -> Result<Vec<Checked>, Problems> {
        let (mut all, mut problems) = (Vec::new(), Vec::new());
        for name in services {
            let Some((_, check)) = self.tree.checks.get_key_value(name) else {
                let what = unknown(name, self.tree.services().collect::<Vec<_>>());
                problems.push(Problem::new(None, name, what));
                continue;
            };
            match check(self) {
                Ok(checked) => all.push(checked),
                Err(Problems(found)) => problems.extend(found),
            }
        }
        self.clashes(&all, &mut problems);
        let mut once: Vec<Problem> = Vec::new();
        for problem in problems {
            if !once.iter().any(|other| problem.is_that_of(other)) {
                once.push(problem);
            }
        }
        if once.is_empty() { Ok(all) } else { Err(Problems(once)) }
    }

    /// Two of the same address cannot be had. An address from the common table is meant for services that
    /// have a host each, so that it clashes only within one service.
    fn clashes(&self, all: &[Checked], problems: &mut Vec<Problem>) {
        let mut taken: BTreeMap<u16, Vec<(&str, &str, SocketAddr)>> = BTreeMap::new();
        for checked in all {
            for (path, address) in checked.listens.iter().filter(|(_, address)| address.port() != 0) {
                let earlier = taken.entry(address.port()).or_default();
                let clash = earlier.iter().find(|(service, other_path, other)| {
                    let same = other.ip() == address.ip()
                        || other.ip().is_unspecified()
                        || address.ip().is_unspecified();
                    let one_host =
                        *service == checked.service || (self.is_own(path) && self.is_own(other_path));
                    same && one_host
                });
                if let Some((_, other, _)) = clash {
                    let origin = self.given_at(path).map(|given| given.origin().clone());
                    problems.push(Problem::new(origin, path, format!("{address} is also that of {other}")));
                }
                earlier.push((checked.service, path, *address));
            }
        }
    }

    fn given_at(&self, path: &str) -> Option<&Given> {
        self.given.at(path.split('.'))
    }

    /// Whether a setting is given in the service's own table.
    fn is_own(&self, path: &str) -> bool {
        self.given_at(path).is_some()
    }
}

/// Checks one service.
pub(super) fn service<S: Service>(loaded: &Loaded) -> Result<Checked, Problems>
where
    S::Config: JsonSchema,
{
    let (mesh, config) = loaded.service::<S>()?;
    let given = loaded.of_service(S::NAME);
    let mut problems = Vec::new();
    let mut wrong = |path: &str, what: String| {
        let path = path.split('.').fold(S::NAME.to_owned(), |path, key| below(&path, key));
        let at = given.at(path.split('.').skip(1)).map(|given| given.origin().clone());
        problems.push(Problem::new(at, &path, what));
    };
    if let Err(error) = telemetry::check(&mesh.telemetry) {
        wrong("telemetry", error.to_string());
    }
    let environment = std::env::var(crate::tls::ENDPOINT_VARIABLE).ok();
    if let Err((setting, what)) = transport::check(mesh.tls, &mesh.identity, &mesh.linkerd, environment) {
        wrong(&setting, what);
    }
    // A file that is not there is told of below, with all others.
    if let Err((setting, error)) = mesh.settings.policy.read()
        && mesh.settings.policy.are_there()
    {
        wrong(&format!("settings.policy.{setting}"), error.to_string());
    }
    if let Err(what) = S::check(&config) {
        problems.push(Problem::new(None, S::NAME, what));
    }
    upstreams(loaded, S::NAME, &S::upstreams(&config), &given, &mut problems);
    let mut walk = Walk { problems: &mut problems, files: 0, listens: Vec::new() };
    if let Some(node) = loaded.tree.table(S::NAME) {
        walk.visit(node, Some(&given), S::NAME);
    }
    let Walk { files, listens, .. } = walk;
    if problems.is_empty() {
        Ok(Checked { service: S::NAME, listens, files })
    } else {
        Err(Problems(problems))
    }
}

/// Names of upstreams that no service has, and services that are needed and not named.
fn upstreams(loaded: &Loaded, service: &str, needed: &[String], given: &Given, problems: &mut Vec<Problem>) {
    let named = given.at(["settings", "upstreams"]);
    let path = format!("{service}.settings.upstreams");
    if let Some(Given::Table(entries, _)) = named
        && !loaded.tree.partial
    {
        let known: Vec<&str> = loaded.tree.services().collect();
        for (name, given) in entries.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let what = unknown(name, known.iter().copied());
            problems.push(Problem::new(Some(given.origin().clone()), &below(&path, name), what));
        }
    }
    if let Some(Given::Table(entries, _)) = named {
        for (name, given) in entries {
            if let Given::Plain(Value::String(address), origin) = given
                && !is_host_and_port(address)
            {
                let what = "must be host:port, such as 127.0.0.1:7101";
                problems.push(Problem::new(Some(origin.clone()), &below(&path, name), what));
            }
        }
    }
    for name in needed {
        if named.and_then(|named| named.get(name)).is_none() {
            let what = format!("must be given: where {service} finds {name}, as host:port");
            problems.push(Problem::new(None, &below(&path, name), what));
        }
    }
}

fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', ' ']) && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

/// Looks at every value together with its node.
struct Walk<'p> {
    problems: &'p mut Vec<Problem>,
    files: usize,
    listens: Vec<(String, SocketAddr)>,
}

impl Walk<'_> {
    fn visit(&mut self, node: &Node, given: Option<&Given>, path: &str) {
        match (&node.kind, given) {
            (Kind::Table(children), given) => {
                for (key, child) in children {
                    self.visit(child, given.and_then(|given| given.get(key)), &below(path, key));
                }
            }
            (Kind::Map(of), Some(Given::Table(entries, _))) => {
                for (key, value) in entries {
                    self.visit(of, Some(value), &below(path, key));
                }
            }
            (Kind::List(of), Some(Given::List(items, _))) => {
                let of = Node { file: of.file.or(node.file), listens: node.listens, ..(**of).clone() };
                for (at, item) in items.iter().enumerate() {
                    self.visit(&of, Some(item), &below(path, &at.to_string()));
                }
            }
            (Kind::OneOf(forms), Some(given)) => {
                let fits = |form: &&Node| {
                    let mut problems = Vec::new();
                    super::verify::verify(form, given, path, &mut problems);
                    super::verify::missing(form, Some(given), path, &mut problems);
                    problems.is_empty()
                };
                if let Some(form) = forms.iter().find(fits) {
                    self.visit(form, Some(given), path);
                }
            }
            (Kind::Text(_), given) => {
                let given_text = given.and_then(|given| match given {
                    Given::Plain(Value::String(text), _) => Some(text.as_str()),
                    _ => None,
                });
                let text = given_text.or_else(|| node.default.as_ref().and_then(Value::as_str));
                let Some(text) = text else { return };
                if let Some(kind) = node.file {
                    self.file(Path::new(text), kind, path, given.map(Given::origin));
                }
                if node.listens
                    && let Ok(address) = text.parse()
                {
                    self.listens.push((path.to_owned(), address));
                }
            }
            _ => {}
        }
    }

    fn file(&mut self, file: &Path, kind: FileKind, path: &str, origin: Option<&Origin>) {
        self.files += 1;
        if let Err(what) = readable(file, kind) {
            self.problems.push(Problem::new(origin.cloned(), path, what));
        }
    }
}

fn readable(file: &Path, kind: FileKind) -> Result<(), String> {
    let name = PathBuf::from(file);
    let open =
        std::fs::File::open(file).map_err(|error| format!("{} cannot be read: {error}", name.display()))?;
    let about = open.metadata().map_err(|error| format!("{} cannot be read: {error}", name.display()))?;
    if !about.is_file() {
        return Err(format!("{} is not a file", name.display()));
    }
    if kind == FileKind::Secret && pki::is_open_to_everybody(&about) {
        return Err(format!(
            "{} holds a secret and is open to everybody: chmod o= it (of a Kubernetes Secret: \
             `defaultMode: 0440` and an fsGroup)",
            name.display()
        ));
    }
    Ok(())
}
