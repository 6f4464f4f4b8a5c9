//! What a credential may do: scopes such as `payments:write`. Pure.
//!
//! An RPC needs one scope, said by `paymesh.options.v1.scope` in the contract. A credential has some;
//! `payments:*` stands for every scope of `payments`, and `*` for all.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc};

use prost_reflect::MethodDescriptor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::transcode::Transcoder;

/// The most scopes of one credential.
pub const SCOPES_MAX: usize = 64;
const LENGTH_MAX: usize = 64;

/// One scope, or a pattern of scopes: `area:verb`, `area:*` or `*`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Scope(Arc<str>);

/// Why a text is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be <area>:<verb>, <area>:* or *, in a-z, 0-9, '_' and '-', such as payments:write")]
pub struct ScopeError;

impl Scope {
    /// Every scope there is.
    pub fn all() -> Self {
        Self("*".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for several.
    pub fn is_pattern(&self) -> bool {
        self.0.ends_with('*')
    }

    /// Whether who has this scope has the other.
    pub fn includes(&self, other: &Self) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => other.0.starts_with(prefix),
            None => self == other,
        }
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let word = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
        };
        let legal = text == "*"
            || text.split_once(':').is_some_and(|(area, verb)| word(area) && (verb == "*" || word(verb)));
        if legal && text.len() <= LENGTH_MAX { Ok(Self(text.into())) } else { Err(ScopeError) }
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.0.as_ref().to_owned()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether these scopes suffice for what needs `needed`.
pub(crate) fn suffice(held: &[Scope], needed: &Scope) -> bool {
    held.iter().any(|scope| scope.includes(needed))
}

/// What the contract says that the RPC needs; `None` where it says nothing.
pub(crate) fn needed(rpc: &MethodDescriptor) -> Option<String> {
    let extension = rpc.parent_pool().get_extension_by_name("paymesh.options.v1.scope")?;
    let options = rpc.options();
    let text = options.get_extension(&extension).as_str()?.to_owned();
    Some(text).filter(|text| !text.is_empty())
}

/// The scope that each RPC of the REST API needs.
#[derive(Debug)]
pub(crate) struct ScopeTable(HashMap<Arc<str>, Scope>);

impl ScopeTable {
    /// Reads the contract. An RPC that can be reached from outside and names no scope is an error: what
    /// it needs has to be decided, not guessed.
    pub(crate) fn of(api: &Transcoder) -> Result<Self, String> {
        let mut table = HashMap::new();
        for route in api.routes().iter().filter(|route| !route.public) {
            let text = needed(&route.descriptor).unwrap_or_default();
            let scope: Scope = match text.parse() {
                Ok(scope) => scope,
                Err(_) if text.is_empty() => {
                    return Err(format!(
                        "{}: an RPC with google.api.http needs the option paymesh.options.v1.scope, or public",
                        route.rpc
                    ));
                }
                Err(error) => return Err(format!("{}: its scope {error}", route.rpc)),
            };
            if scope.is_pattern() {
                return Err(format!("{}: its scope must be one scope, without *", route.rpc));
            }
            table.insert(Arc::clone(&route.rpc), scope);
        }
        Ok(Self(table))
    }

    /// What the RPC needs; `None` for one that is not in the API.
    pub(crate) fn get(&self, rpc: &str) -> Option<&Scope> {
        self.0.get(rpc)
    }
}

/// Every scope that the API knows, in order of name.
pub fn known() -> Vec<Scope> {
    let api = Transcoder::new(&paymesh_proto::descriptor_pool());
    let table = api.ok().and_then(|api| ScopeTable::of(&api).ok());
    let mut scopes: Vec<Scope> = table.map(|table| table.0.into_values().collect()).unwrap_or_default();
    scopes.sort();
    scopes.dedup();
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_includes_what_it_begins_and_nothing_else() {
        for (held, needed, included) in [
            ("payments:write", "payments:write", true),
            ("payments:write", "payments:read", false),
            ("payments:*", "payments:read", true),
            ("payments:*", "payments_admin:read", false),
            ("*", "tax:write", true),
            ("tax:write", "tax:write_all", false),
        ] {
            assert_eq!(
                suffice(&[scope("other:read"), scope(held)], &scope(needed)),
                included,
                "{held} {needed}"
            );
        }
        assert!(!suffice(&[], &scope("tax:write")));
    }

    #[test]
    fn texts_that_are_no_scopes_are_refused() {
        let long = format!("a:{}", "b".repeat(63));
        for wrong in
            ["", "payments", ":", "a:", ":a", "a:b:c", "*:a", "A:b", "a: b", "a:b*", "**", "a\":b", &long]
        {
            assert_eq!(wrong.parse::<Scope>(), Err(ScopeError), "{wrong:?}");
        }
    }

    #[test]
    fn every_rpc_of_the_contract_names_its_scope() {
        let api = Transcoder::new(&paymesh_proto::descriptor_pool()).unwrap();
        let table = ScopeTable::of(&api).unwrap();
        for route in api.routes() {
            assert_eq!(table.get(&route.rpc).is_none(), route.public, "{}", route.rpc);
        }
        assert!(known().contains(&scope("payments:write")));
    }

    /// The table of a contract with one RPC, whose options these are.
    fn table(options: &str) -> Result<ScopeTable, String> {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "syntax = \"proto3\"; package paymesh.one.v1; import \"google/api/annotations.proto\";
             import \"paymesh/options/v1/options.proto\"; message M {{}}
             service S {{ rpc Get(M) returns (M) {{ {options} }} }}"
        );
        std::fs::write(dir.path().join("one.proto"), text).unwrap();
        let contract = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
        let mut compiler = protox::Compiler::new([dir.path(), &contract]).unwrap();
        compiler.include_imports(true).open_file("one.proto").unwrap();
        let set = compiler.encode_file_descriptor_set();
        let pool = prost_reflect::DescriptorPool::decode(set.as_slice()).unwrap();
        ScopeTable::of(&Transcoder::new(&pool).unwrap())
    }

    #[test]
    fn an_rpc_that_can_be_reached_must_name_one_scope() {
        let http = "option (google.api.http) = {get: \"/v1/one\"};";
        let of = |scope: &str| table(&format!("{http} option (paymesh.options.v1.scope) = \"{scope}\";"));
        assert_eq!(of("one:read").unwrap().get("paymesh.one.v1.S/Get"), Some(&scope("one:read")));
        assert!(table("").is_ok(), "one that cannot be reached needs none");
        let error = table(http).unwrap_err();
        assert!(
            error.contains("paymesh.one.v1.S/Get") && error.contains("paymesh.options.v1.scope"),
            "{error}"
        );
        for wrong in ["one", "one:*", "*"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
