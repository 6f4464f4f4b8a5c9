//! Two services that do nothing but have settings of every kind.

use std::{collections::BTreeMap, path::PathBuf};

use mesh::{
    Parts, Service, ServiceContext, StartError,
    config::{Loaded, Sources, Tree},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What svc-one alone has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct One {
    /// A limit. It limits nothing.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) limit_max: u32,
    /// A switch.
    pub(crate) on: bool,
    /// A text.
    pub(crate) label: String,
    /// An address that may be left out.
    pub(crate) peer: Option<std::net::SocketAddr>,
    /// A mode.
    pub(crate) mode: Mode,
    /// Texts.
    pub(crate) tags: Vec<String>,
    /// Numbers by name.
    pub(crate) weights: BTreeMap<String, i64>,
    /// Who is known.
    pub(crate) people: Vec<Person>,
    /// A part that may be left out.
    pub(crate) nested: Option<Nested>,
    /// One of two forms.
    pub(crate) form: Form,
    /// A file with a secret.
    pub(crate) pepper_file: Option<PathBuf>,
}

impl Default for One {
    fn default() -> Self {
        Self {
            limit_max: 10,
            on: false,
            label: "none".into(),
            peer: None,
            mode: Mode::Slow,
            tags: Vec::new(),
            weights: BTreeMap::new(),
            people: Vec::new(),
            nested: None,
            form: Form::Fixed { at: 1 },
            pepper_file: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Slow.
    Slow,
    /// Fast.
    Fast,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Person {
    /// A name.
    pub(crate) name: String,
    /// A fingerprint, never shown.
    #[serde(default)]
    #[schemars(extend("x-hidden" = true))]
    pub(crate) print: Option<String>,
    /// A file with a key.
    #[serde(default)]
    pub(crate) key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nested {
    /// A depth that must be said.
    pub(crate) depth: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Form {
    /// Fixed.
    Fixed {
        /// Where.
        at: u16,
    },
    /// Free.
    Free {
        /// From where.
        from: u16,
        /// To where.
        to: u16,
    },
}

pub(crate) struct SvcOne;

impl Service for SvcOne {
    const NAME: &'static str = "svc-one";
    type Config = One;

    fn check(config: &One) -> Result<(), String> {
        if config.label == "forbidden" { Err("label must be another one".into()) } else { Ok(()) }
    }

    fn upstreams(_: &One) -> Vec<String> {
        vec!["svc-two".into()]
    }

    async fn build(_: One, _: &ServiceContext) -> Result<Parts, StartError> {
        Ok(Parts::new())
    }
}

pub(crate) struct SvcTwo;

impl Service for SvcTwo {
    const NAME: &'static str = "svc-two";
    type Config = ();

    async fn build((): (), _: &ServiceContext) -> Result<Parts, StartError> {
        Ok(Parts::new())
    }
}

pub(crate) fn tree() -> Tree {
    Tree::new().with::<SvcOne>().with::<SvcTwo>()
}

/// What a service cannot do without.
pub(crate) const NEEDED: &str = r#"
[svc-one]
rpc_listen = "127.0.0.1:7001"
admin_listen = "127.0.0.1:9001"
identity = { ca = "ca.pem", cert = "one.pem", key = "one.key" }
settings = { data_dir = "one" }
"#;

/// Layers as a test writes them: a file's text, variables, `--set` flags.
pub(crate) fn sources(
    dir: &std::path::Path,
    file: &str,
    variables: &[(&str, &str)],
    flags: &[(&[&str], &str)],
) -> Sources {
    let path = dir.join("paymesh.toml");
    std::fs::write(&path, file).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut sources = Sources::new(Some(path), variables);
    for (path, value) in flags {
        sources.flag("--set", path, *value);
    }
    sources
}

/// The problems of these layers, one a line.
pub(crate) fn problems(file: &str, variables: &[(&str, &str)], flags: &[(&[&str], &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let refused = tree().load(&sources(dir.path(), file, variables, flags)).expect_err("must be refused");
    let prefix = format!("{}/", dir.path().display());
    refused.0.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

pub(crate) fn load(file: &str, variables: &[(&str, &str)], flags: &[(&[&str], &str)]) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    tree().load(&sources(dir.path(), file, variables, flags)).unwrap()
}
