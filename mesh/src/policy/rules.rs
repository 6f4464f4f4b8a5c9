//! Who may call what, as sets: what a table and a file have in common, and how two of them differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{Rpc, table};

/// Workload name → the RPCs that it may call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(pub BTreeMap<String, BTreeSet<Rpc>>);

/// One cell in which two policies differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The workload.
    pub workload: String,
    /// The RPC.
    pub rpc: Rpc,
    /// Whether the other policy allows it.
    pub allowed: bool,
}

impl Rules {
    /// The built-in table.
    pub fn standard() -> Self {
        let rules = |(workload, patterns): &table::Grant| {
            ((*workload).to_owned(), patterns.iter().copied().flat_map(matching).collect())
        };
        Self(table::GRANTS.iter().map(rules).collect())
    }

    /// Whether this workload may call this RPC.
    pub fn allow(&self, workload: &str, rpc: Rpc) -> bool {
        self.0.get(workload).is_some_and(|rpcs| rpcs.contains(&rpc))
    }

    /// Every cell in which `other` decides otherwise.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let workloads: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let cells = workloads.into_iter().flat_map(|name| Rpc::all().map(move |rpc| (name, rpc)));
        let differing = cells.filter(|(name, rpc)| self.allow(name, *rpc) != other.allow(name, *rpc));
        differing
            .map(|(name, rpc)| Difference { workload: name.clone(), rpc, allowed: other.allow(name, rpc) })
            .collect()
    }

    /// A matrix for people: a line for each RPC, a column for each workload.
    pub fn matrix(&self) -> String {
        let wide = Rpc::all().map(|rpc| rpc.method().len()).max().unwrap_or_default();
        let mut text = " ".repeat(wide + 2);
        for name in self.0.keys() {
            text.push_str("  ");
            text.push_str(name);
        }
        let mut service = "";
        for rpc in Rpc::all() {
            if rpc.service() != service {
                service = rpc.service();
                text.push_str("\n\n");
                text.push_str(service);
            }
            // Writing to a String does not fail.
            let _ = write!(text, "\n  {:<wide$}", rpc.method());
            for name in self.0.keys() {
                let mark = if self.allow(name, rpc) { "yes" } else { "-" };
                let _ = write!(text, "  {mark:<width$}", width = name.len());
            }
            text.truncate(text.trim_end().len());
        }
        text.push('\n');
        text
    }
}

/// The RPCs that a pattern, `package.Service/Method` or `package.Service/*`, stands for.
pub(super) fn matching(pattern: &str) -> impl Iterator<Item = Rpc> {
    let service = pattern.strip_suffix("/*");
    Rpc::all().filter(move |rpc| service.map_or(rpc.name() == pattern, |service| rpc.service() == service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_the_table_matches_something() {
        for (name, patterns) in table::GRANTS {
            for pattern in *patterns {
                let found = matching(pattern).next();
                assert!(found.is_some(), "{name} is granted {pattern}, which does not exist");
            }
        }
    }

    #[test]
    fn differences_are_seen_both_ways() {
        let standard = Rules::standard();
        assert_eq!(standard.differences(&standard), []);
        let mut other = standard.clone();
        let check: Vec<Rpc> = matching("grpc.health.v1.Health/Check").collect();
        other.0.insert("svc-new".into(), check.iter().copied().collect());
        other.0.get_mut("svc-tax").unwrap().remove(&check[0]);
        let said = |workload: &str, allowed| Difference { workload: workload.into(), rpc: check[0], allowed };
        assert_eq!(standard.differences(&other), [said("svc-new", true), said("svc-tax", false)]);
    }

    #[test]
    fn the_matrix_has_a_line_for_each_rpc_and_a_column_for_each_workload() {
        let rules = Rules::standard();
        let text = rules.matrix();
        let line = text.lines().find(|line| line.trim_start().starts_with("BatchDetokenize")).unwrap();
        assert_eq!(line.matches("yes").count(), 1, "{line}");
        // The workloads' names above, and then one for each RPC.
        let lines = text.lines().filter(|line| line.starts_with("  ")).count();
        assert_eq!(lines, Rpc::count() + 1);
    }
}
