//! The tree of a mesh: the common part, and one table per service.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    check::{self, Checked},
    load::Loaded,
    node::Node,
    problem::Problems,
};
use crate::{
    linkerd::LinkerdConfig,
    memory::MemoryConfig,
    service::{Service, Settings},
    telemetry::TelemetryConfig,
    tls::IdentityConfig,
    transport::TlsMode,
};

/// The name of the common table.
pub(super) const COMMON: &str = "mesh";

/// What every service has: in `[mesh]` for all of them, in a service's own table for that one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeshConfig {
    /// Where RPCs are taken, over mTLS: `IP:port`; port 0 takes a free one.
    #[schemars(extend("x-listens" = true), example = "127.0.0.1:7101")]
    pub rpc_listen: SocketAddr,
    /// Where `/metrics` and probes are answered, over plain HTTP: `IP:port`; port 0 takes a free one.
    #[schemars(extend("x-listens" = true), example = "127.0.0.1:9101")]
    pub admin_listen: SocketAddr,
    /// Who does mutual TLS: `native`, we with the certificate of `identity`, or `linkerd`, the Linkerd
    /// proxy beside us.
    #[serde(default)]
    pub tls: TlsMode,
    /// The workload's certificate, key and CA, or where to ask for them; with `linkerd` none of it.
    #[serde(default)]
    pub identity: IdentityConfig,
    /// The Linkerd installation; of interest with `linkerd` only.
    #[serde(default)]
    pub linkerd: LinkerdConfig,
    /// State, upstreams and limits.
    pub settings: Settings,
    /// Logs, traces, metrics.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// What of the process's memory may reach a disk.
    #[serde(default)]
    pub memory: MemoryConfig,
}

type Check = fn(&Loaded) -> Result<Checked, Problems>;

/// Every setting that there is, for the services that it was made with.
#[derive(Debug, Clone)]
pub struct Tree {
    pub(super) root: Node,
    /// Per service: the keys of its own part.
    pub(super) own: BTreeMap<&'static str, BTreeSet<String>>,
    pub(super) checks: BTreeMap<&'static str, Check>,
    /// Keys that a service and the mesh both lay claim to.
    pub(super) clashes: Vec<String>,
    /// Whether tables of further services may stand in the file, unread.
    pub(super) partial: bool,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// The common part, and no service yet.
    pub fn new() -> Self {
        let mut common = Node::of::<MeshConfig>();
        "What holds for every service whose own table does not say otherwise.".clone_into(&mut common.doc);
        Self {
            root: Node::table("", BTreeMap::from([(COMMON.to_owned(), common)])),
            own: BTreeMap::new(),
            checks: BTreeMap::new(),
            clashes: Vec::new(),
            partial: false,
        }
    }

    /// The tree of a single service: tables of other services may be in its file, and are not read.
    pub fn only<S: Service>() -> Self
    where
        S::Config: JsonSchema,
    {
        Self { partial: true, ..Self::new().with::<S>() }
    }

    /// With a service.
    #[must_use]
    pub fn with<S: Service>(mut self) -> Self
    where
        S::Config: JsonSchema,
    {
        let own = Node::of::<S::Config>();
        let own_children = own.children().cloned().unwrap_or_default();
        let mut all = self.common().children().cloned().unwrap_or_default();
        for key in own_children.keys().filter(|key| all.contains_key(*key)) {
            self.clashes.push(format!("{}.{key}", S::NAME));
        }
        self.own.insert(S::NAME, own_children.keys().cloned().collect());
        all.extend(own_children);
        let doc = if own.doc.is_empty() { format!("What {} alone has.", S::NAME) } else { own.doc };
        if let super::node::Kind::Table(tables) = &mut self.root.kind {
            tables.insert(S::NAME.to_owned(), Node::table(&doc, all));
        }
        self.checks.insert(S::NAME, check::service::<S>);
        self
    }

    /// The services, in alphabetical order.
    pub fn services(&self) -> impl Iterator<Item = &'static str> {
        self.own.keys().copied()
    }

    pub(super) fn common(&self) -> &Node {
        self.table(COMMON).unwrap_or(&self.root)
    }

    pub(super) fn table(&self, name: &str) -> Option<&Node> {
        self.root.children().and_then(|tables| tables.get(name))
    }

    /// Whether a top-level table may stand there although this tree does not have it: that of another
    /// service, unless it looks like a misspelling of one that the tree has.
    pub(super) fn is_foreign(&self, name: &str) -> bool {
        let normal = |name: &str| name.to_lowercase().replace('_', "-");
        let mut known = self.root.children().into_iter().flat_map(BTreeMap::keys);
        self.partial && known.all(|known| strsim::damerau_levenshtein(&normal(known), &normal(name)) > 2)
    }
}
