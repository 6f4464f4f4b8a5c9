//! Reads the sources for what the compiler does not check.
//!
//! A rule is a function from the [`Tree`] to findings, so that its test plants an offence in a tree of
//! its own. The rules that look at text are in [`text`], those for the pure cores in [`purity`], those
//! that look at manifests, the lock file and `deny.toml` in [`manifest`].

mod code;
mod manifest;
mod purity;
mod text;

use std::fmt;
use std::fs;
use std::path::Path;

use crate::error::Error;
use crate::process::root;
pub(crate) use manifest::Manifest;

/// Directories that hold nothing that is written by hand. Those of tools (a point before the name) hold
/// nothing of ours either, but for [`OURS`].
const NOT_OURS: &[&str] = &["target", "node_modules"];

/// What is ours below directories of tools, from the root.
const OURS: &[&str] = &[".ci", ".cargo/config.toml"];

/// What is read: by ending, or by the whole path.
const READ: &[&str] =
    &[".rs", ".proto", ".toml", ".md", ".sh", ".yaml", ".yml", ".json", ".ci/run", "Cargo.lock"];

/// One file of the tree.
#[derive(Debug)]
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

impl File {
    fn is(&self, ending: &str) -> bool {
        self.path.ends_with(ending)
    }

    /// The crate's directory: the first part of the path.
    fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    fn is_service(&self) -> bool {
        self.room().starts_with("svc-")
    }

    /// In the pure core of a service or of webhooks, or in a crate that is all of it pure but for what its tests say.
    fn is_domain(&self) -> bool {
        if self.room() == "crypto-envelope" {
            return !self.is("/src/testing.rs");
        }
        let has_core = self.is_service() || self.room() == "webhooks";
        has_core && (self.path.contains("/src/domain/") || self.is("/src/domain.rs"))
    }

    fn finding(&self, line: usize, rule: &'static str, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, rule, what: what.into() }
    }
}

/// All files that the rules look at.
#[derive(Debug)]
pub(crate) struct Tree {
    files: Vec<File>,
}

impl Tree {
    /// Reads the files below `root`.
    pub(crate) fn read(root: &Path) -> Result<Self, Error> {
        let mut files = Vec::new();
        let mut directories = vec![root.to_path_buf()];
        while let Some(directory) = directories.pop() {
            let doing = || format!("read {}", directory.display());
            for entry in fs::read_dir(&directory).map_err(Error::io(doing()))? {
                let entry = entry.map_err(Error::io(doing()))?;
                let kind = entry.file_type().map_err(Error::io(doing()))?;
                let path = relative(root, &entry.path());
                if !is_ours(&path) {
                    continue;
                }
                if kind.is_dir() {
                    directories.push(entry.path());
                } else if kind.is_file() {
                    files.extend(file(path, &entry.path())?);
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// The manifests of the workspace's crates.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = Manifest> + '_ {
        self.files.iter().filter(|file| file.is("Cargo.toml")).filter_map(Manifest::parse)
    }

    fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is(".rs"))
    }

    /// What all rules find, in the order of the files.
    fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = text::RULES
            .iter()
            .chain(purity::RULES)
            .chain(manifest::RULES)
            .flat_map(|rule| rule(self))
            .collect();
        findings.sort();
        findings
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect();
        Self { files }
    }
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// Whether a file or directory is read, as far as its place tells.
fn is_ours(relative: &str) -> bool {
    let name = relative.rsplit('/').next().unwrap_or_default();
    if NOT_OURS.contains(&name) {
        return false;
    }
    let of_a_tool = relative.split('/').any(|part| part.starts_with('.'));
    // A file of ours, what leads to it, and what is below it.
    let leads =
        |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    !of_a_tool || OURS.iter().any(|ours| leads(ours, relative) || leads(relative, ours))
}

fn file(relative: String, path: &Path) -> Result<Option<File>, Error> {
    if !READ.iter().any(|ending| relative.ends_with(ending)) {
        return Ok(None);
    }
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(File { path: relative, text })),
        // Removed while we were looking: an editor's file.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("read {relative}"))(error)),
    }
}

/// Something that a rule objects to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// From 1.
    line: usize,
    rule: &'static str,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} ({})", self.path, self.line, self.what, self.rule)
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

/// Checks the workspace and prints what is found. `Ok(false)` when there is anything.
pub(crate) fn report() -> Result<bool, Error> {
    let tree = Tree::read(&root())?;
    let findings = tree.findings();
    for finding in &findings {
        println!("{finding}");
    }
    println!("   {} files read, {} findings", tree.files.len(), findings.len());
    Ok(findings.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_its_place_and_its_rule() {
        let file = File { path: "money/src/lib.rs".to_owned(), text: String::new() };
        let text = file.finding(7, "floats", "no floats").to_string();
        assert_eq!(text, "money/src/lib.rs:7: no floats (floats)");
    }

    #[test]
    fn the_tree_is_read_without_what_is_built() {
        let tree = Tree::read(&root()).unwrap();
        assert!(tree.file("Cargo.toml").is_some());
        assert!(tree.file("xtask/src/tidy/mod.rs").is_some());
        assert!(tree.files.iter().all(|file| !file.path.starts_with("target/")));
        assert!(tree.manifests().any(|manifest| manifest.name == "xtask"));
    }

    #[test]
    fn directories_of_tools_are_left_out() {
        let root = std::env::temp_dir().join(format!("xtask-tidy-{}", std::process::id()));
        let read = [".cargo/config.toml", ".ci/run", "Cargo.toml", "a/src/lib.rs", "a/src/target.rs"];
        let left_out =
            [".cargo/registry/x.rs", ".git/x.md", ".venv/lib/x.md", "a/.cache/x.rs", "target/x.rs"];
        for path in read.iter().chain(&left_out) {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let tree = Tree::read(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(tree.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), read);
    }
}
