//! Rules about manifests, the lock file and `deny.toml`: which crate may know which, what must not
//! be in the tree, and which duplicates have a reason.
//!
//! Reads just the shapes of TOML that these files are written in, which keeps a parser out of the
//! first build. `cargo deny` reads the same `deny.toml` in full.

use std::collections::BTreeMap;

use super::text::places;
use super::{File, Finding, Rule, Tree};

/// All rules of this module.
pub(super) const RULES: &[Rule] = &[arrows, banned, duplicates];

/// Which of our crates each of our crates may depend on. What is not listed may use all.
///
/// The services meet only through the contract, so none of them is here on the right.
const ARROWS: &[(&str, &[&str])] = &[
    ("money", &[]),
    ("paymesh-proto", &[]),
    ("xtask", &[]),
    ("nacha", &[]),
    ("mesh", &["money", "paymesh-proto"]),
    ("webhooks", &["mesh", "money"]),
    ("edge-gateway", &["mesh", "money", "paymesh-proto"]),
    ("events", &["mesh", "money"]),
    ("crypto-envelope", &[]),
    ("svc-crypto", &["crypto-envelope", "mesh", "money", "paymesh-proto"]),
    ("svc-", &["crypto-client", "events", "mesh", "money", "paymesh-proto", "webhooks"]),
];

/// What a crate's `Cargo.toml` says, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The package's name.
    pub(crate) name: String,
    /// The names of its `[[bench]]` targets.
    pub(crate) benches: Vec<String>,
    /// Its dependencies of every kind, each with its line, by the names of their packages.
    dependencies: Vec<(usize, String)>,
    path: String,
}

impl Manifest {
    /// Nothing for a manifest without a package.
    pub(super) fn parse(file: &File) -> Option<Self> {
        let mut section = String::new();
        let mut name = None;
        let (mut benches, mut dependencies) = (Vec::new(), Vec::new());
        for (at, line) in file.text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('[') {
                line.trim_matches(['[', ']']).clone_into(&mut section);
                if let Some((before, dependency)) = section.rsplit_once('.')
                    && before.ends_with("dependencies")
                    && !before.starts_with("workspace")
                {
                    dependencies.push((at + 1, dependency.trim_matches('"').to_owned()));
                }
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            if section == "package" && key == "name" {
                name = Some(value.to_owned());
            } else if section == "bench" && key == "name" {
                benches.push(value.to_owned());
            } else if section.ends_with("dependencies") && !section.starts_with("workspace") {
                dependencies.push((at + 1, package_of(key, value).to_owned()));
            } else if key == "package"
                && section.rsplit_once('.').is_some_and(|(before, _)| before.ends_with("dependencies"))
                && let Some((_, dependency)) = dependencies.last_mut()
            {
                value.clone_into(dependency);
            }
        }
        Some(Self { name: name?, benches, dependencies, path: file.path.clone() })
    }
}

/// The package behind a line in a table of dependencies: the key, unless it is only a new name for it.
fn package_of<'a>(key: &'a str, value: &'a str) -> &'a str {
    let (name, field) = key.split_once('.').unwrap_or((key, ""));
    let renamed = if field == "package" { Some(value) } else { inline(value, "package") };
    renamed.unwrap_or_else(|| name.trim_matches('"'))
}

/// The string under `key` in an inline table.
fn inline<'a>(table: &'a str, key: &'a str) -> Option<&'a str> {
    if !table.starts_with('{') {
        return None;
    }
    places(table, key).find_map(|at| {
        let value = table.get(at + key.len()..)?.trim_start().strip_prefix('=')?.trim_start();
        value.strip_prefix('"')?.split('"').next()
    })
}

/// The new names that the workspace gives to packages.
fn renamed_by_workspace(tree: &Tree) -> BTreeMap<&str, &str> {
    let mut renamed = BTreeMap::new();
    let mut section = "";
    for line in tree.file("Cargo.toml").map_or("", |file| file.text.as_str()).lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        } else if let Some((key, value)) = line.split_once('=') {
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            if section == "workspace.dependencies" {
                let name = key.split('.').next().unwrap_or(key);
                let package = package_of(key, value);
                if package != name {
                    renamed.insert(name, package);
                }
            } else if let Some(name) = section.strip_prefix("workspace.dependencies.")
                && key == "package"
            {
                renamed.insert(name, value);
            }
        }
    }
    renamed
}

fn arrows(tree: &Tree) -> Vec<Finding> {
    let renamed = renamed_by_workspace(tree);
    let manifests: Vec<Manifest> = tree.manifests().collect();
    let mut findings = Vec::new();
    for manifest in &manifests {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| covers(name, &manifest.name)) else {
            continue;
        };
        for (line, dependency) in &manifest.dependencies {
            let dependency = renamed.get(dependency.as_str()).copied().unwrap_or(dependency);
            let ours = manifests.iter().any(|other| other.name == dependency);
            if ours && !allowed.contains(&dependency) {
                let what = format!(
                    "{} may not know {dependency}: services meet only through the contract",
                    manifest.name
                );
                findings.push(Finding { path: manifest.path.clone(), line: *line, rule: "arrows", what });
            }
        }
    }
    findings
}

fn covers(pattern: &str, name: &str) -> bool {
    pattern == name || (pattern.ends_with('-') && name.starts_with(pattern))
}

/// A `[[package]]` of the lock file.
struct Locked<'a> {
    line: usize,
    name: &'a str,
    version: &'a str,
}

fn locked(lock: &File) -> Vec<Locked<'_>> {
    let mut packages: Vec<Locked<'_>> = Vec::new();
    for (at, line) in lock.text.lines().enumerate() {
        let value = |key: &str| line.strip_prefix(key).map(|rest| rest.trim_matches('"'));
        if let Some(name) = value("name = ") {
            packages.push(Locked { line: at + 1, name, version: "" });
        } else if let Some((version, package)) = value("version = ").zip(packages.last_mut()) {
            package.version = version;
        }
    }
    packages
}

/// A crate in an array of `deny.toml`.
struct Listed<'a> {
    line: usize,
    name: &'a str,
    /// The version after `@`, or any.
    version: Option<&'a str>,
    reasoned: bool,
}

impl Listed<'_> {
    /// `compatible` is what [`compatibility`] makes of a version.
    fn covers(&self, name: &str, compatible: &str) -> bool {
        self.name == name && self.version.is_none_or(|version| compatibility(version) == compatible)
    }
}

/// The crates in one array of `deny.toml`: one inline table a line, written
/// `{ crate = "name", reason = "…" },`, the name with or without `@version`.
fn listed<'a>(deny: &'a File, array: &str) -> Vec<Listed<'a>> {
    let mut inside = false;
    let mut crates = Vec::new();
    for (at, line) in deny.text.lines().enumerate() {
        let line = line.trim();
        if line.strip_prefix(array).is_some_and(|rest| rest.trim_start().starts_with('=')) {
            inside = true;
        } else if line.starts_with(']') {
            inside = false;
        } else if inside
            && let Some(rest) = line.split("crate = \"").nth(1)
            && let Some(spec) = rest.split('"').next()
        {
            let (name, version) = spec.split_once('@').map_or((spec, None), |(name, of)| (name, Some(of)));
            let reasoned = line.split("reason = \"").nth(1).is_some_and(|reason| !reason.starts_with('"'));
            crates.push(Listed { line: at + 1, name, version, reasoned });
        }
    }
    crates
}

fn banned(tree: &Tree) -> Vec<Finding> {
    let (Some(lock), Some(deny)) = (tree.file("Cargo.lock"), tree.file("deny.toml")) else {
        return Vec::new();
    };
    let bans = listed(deny, "deny");
    locked(lock)
        .iter()
        .filter(|package| bans.iter().any(|ban| ban.name == package.name))
        .map(|package| {
            let what = format!(
                "{} {} is banned by deny.toml: see `cargo tree --invert`",
                package.name, package.version
            );
            lock.finding(package.line, "banned-crates", what)
        })
        .collect()
}

/// Versions that cargo would not merge: the first part that is not zero differs.
fn compatibility(version: &str) -> String {
    let mut parts = Vec::new();
    for part in version.split(['.', '+', '-']) {
        parts.push(part);
        if part != "0" {
            break;
        }
    }
    parts.join(".")
}

fn duplicates(tree: &Tree) -> Vec<Finding> {
    let (Some(lock), Some(deny)) = (tree.file("Cargo.lock"), tree.file("deny.toml")) else {
        return Vec::new();
    };
    let skipped = listed(deny, "skip");
    let mut versions: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for package in locked(lock) {
        versions.entry(package.name).or_default().insert(compatibility(package.version), package.line);
    }
    let mut findings = Vec::new();
    for (name, majors) in versions.iter().filter(|(_, majors)| majors.len() > 1) {
        let unexplained =
            majors.iter().filter(|(major, _)| !skipped.iter().any(|skip| skip.covers(name, major)));
        if unexplained.count() > 1 {
            let list = majors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let what = format!(
                "{name} is in the tree as {list}: agree on one, or give the reasons for all but one in deny.toml's skip"
            );
            findings.push(lock.finding(majors.values().copied().min().unwrap_or(1), "duplicates", what));
        }
    }
    for skip in skipped {
        if !skip.reasoned {
            findings.push(deny.finding(
                skip.line,
                "duplicates",
                format!("{} is skipped without a reason", skip.name),
            ));
        }
        let needed = versions.get(skip.name).is_some_and(|majors| {
            majors.len() > 1 && majors.keys().any(|major| skip.covers(skip.name, major))
        });
        if !needed {
            let what = format!("{} is not a duplicate in this version: remove it from skip", skip.name);
            findings.push(deny.finding(skip.line, "duplicates", what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "[package]\nname = \"svc-a\"\nversion.workspace = true\n\n[[bench]]\nname = \"core\"\nharness = false\n\n[dependencies]\nmesh.workspace = true\nserde = { version = \"1\" }\n";

    #[test]
    fn manifests_are_read() {
        let text = format!(
            "{SERVICE}\n[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n\n[dev-dependencies.tempfile]\nversion = \"3\"\n"
        );
        let tree = Tree::of(&[("svc-a/Cargo.toml", &text)]);
        let manifest = tree.manifests().next().unwrap();
        assert_eq!(
            (manifest.name.as_str(), manifest.benches.as_slice()),
            ("svc-a", &["core".to_owned()][..])
        );
        let names: Vec<_> = manifest.dependencies.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["mesh", "serde", "libc", "tempfile"]);
    }

    #[test]
    fn a_workspace_is_not_a_crate() {
        let tree = Tree::of(&[(
            "Cargo.toml",
            "[workspace.package]\nname = \"x\"\n[workspace.dependencies]\na = \"1\"\n",
        )]);
        assert_eq!(tree.manifests().count(), 0);
    }

    #[test]
    fn services_that_know_one_another_are_found() {
        let other = "[package]\nname = \"svc-b\"\n\n[dev-dependencies]\nsvc-a = { path = \"../svc-a\" }\n";
        let mesh = "[package]\nname = \"mesh\"\n\n[dependencies]\nsvc-b.workspace = true\nmoney = \"1\"\n";
        let all = "[package]\nname = \"paymesh\"\n\n[dependencies]\nsvc-a.workspace = true\nsvc-b.workspace = true\n";
        let tree = Tree::of(&[
            ("mesh/Cargo.toml", mesh),
            ("paymesh/Cargo.toml", all),
            ("svc-a/Cargo.toml", SERVICE),
            ("svc-b/Cargo.toml", other),
        ]);
        let found: Vec<_> = arrows(&tree).into_iter().map(|finding| (finding.path, finding.line)).collect();
        assert_eq!(found, [("mesh/Cargo.toml".to_owned(), 5), ("svc-b/Cargo.toml".to_owned(), 5)]);
    }

    #[test]
    fn services_that_know_one_another_by_a_new_name_are_found() {
        let other = "[package]\nname = \"svc-b\"\n";
        let workspace = "[workspace.dependencies]\nshared = { path = \"svc-b\", package = \"svc-b\" }\n";
        let found = |dependency: &str| -> Vec<usize> {
            let text = format!("{SERVICE}{dependency}\n");
            let tree = Tree::of(&[
                ("Cargo.toml", workspace),
                ("svc-a/Cargo.toml", &text),
                ("svc-b/Cargo.toml", other),
            ]);
            arrows(&tree).into_iter().map(|finding| finding.line).collect()
        };
        for offence in [
            "ledger = { package = \"svc-b\", path = \"../svc-b\" }",
            "ledger = {path=\"../svc-b\",package=\"svc-b\"}",
            "ledger.package = \"svc-b\"",
            "\"svc-b\" = { path = \"../svc-b\" }",
            "shared.workspace = true",
            "shared = { workspace = true, features = [] }",
        ] {
            assert_eq!(found(offence), [12], "{offence}");
        }
        let table = "[dev-dependencies.ledger]\npath = \"../svc-b\"\npackage = \"svc-b\"";
        assert_eq!(found(table), [12], "{table}");
        assert_eq!(found("svc = { package = \"serde\", version = \"1\" }"), []);
    }

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"openssl\"\nversion = \"0.10.1\"\n\n[[package]]\nname = \"syn\"\nversion = \"2.0.1\"\n\n[[package]]\nname = \"syn\"\nversion = \"3.0.0\"\n\n[[package]]\nname = \"bytes\"\nversion = \"1.2.3\"\n";

    #[test]
    fn banned_crates_are_found_in_the_lock_file() {
        let deny = "[bans]\ndeny = [\n    { crate = \"openssl\", reason = \"one TLS stack\" },\n]\n";
        let found = banned(&Tree::of(&[("Cargo.lock", LOCK), ("deny.toml", deny)]));
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn duplicates_need_a_reason_and_reasons_need_a_duplicate() {
        let found = |deny: &str| -> Vec<(String, usize)> {
            let tree = Tree::of(&[("Cargo.lock", LOCK), ("deny.toml", deny)]);
            duplicates(&tree).into_iter().map(|finding| (finding.path, finding.line)).collect()
        };
        assert_eq!(found("[bans]\nskip = [\n]\n"), [("Cargo.lock".to_owned(), 8)]);
        assert_eq!(found("skip = [\n    { crate = \"syn@2\", reason = \"of the macros\" },\n]\n"), []);
        assert_eq!(found("skip = [\n    { crate = \"syn@2\" },\n]\n"), [("deny.toml".to_owned(), 2)]);
        assert_eq!(
            found("skip = [\n    { crate = \"syn@1\", reason = \"r\" },\n]\n").len(),
            2,
            "none of its versions"
        );
        let stale = "skip = [\n    { crate = \"syn\", reason = \"r\" },\n    { crate = \"bytes@1\", reason = \"r\" },\n]\n";
        assert_eq!(found(stale), [("deny.toml".to_owned(), 3)]);
    }

    #[test]
    fn a_third_version_needs_a_reason_of_its_own() {
        let lock = format!("{LOCK}\n[[package]]\nname = \"syn\"\nversion = \"1.0.0\"\n");
        let found = |deny: &str| duplicates(&Tree::of(&[("Cargo.lock", &lock), ("deny.toml", deny)])).len();
        assert_eq!(found("skip = [\n    { crate = \"syn@2\", reason = \"r\" },\n]\n"), 1);
        let both = "skip = [\n    { crate = \"syn@1\", reason = \"r\" },\n    { crate = \"syn@2\", reason = \"r\" },\n]\n";
        assert_eq!(found(both), 0);
    }

    #[test]
    fn versions_that_cargo_would_merge_are_one() {
        assert_eq!(compatibility("1.2.3"), compatibility("1.9.0"));
        assert_ne!(compatibility("1.2.3"), compatibility("2.0.0"));
        assert_ne!(compatibility("0.2.3"), compatibility("0.3.0"));
        assert_eq!(compatibility("0.2.3"), compatibility("0.2.9+wasi"));
        assert_ne!(compatibility("0.0.3"), compatibility("0.0.4"));
    }
}
