//! Who may do what with which keys. What no rule allows is refused.

use std::collections::{BTreeMap, BTreeSet};

use money::TenantId;

use super::{algorithm::Verb, keys::KeyName};

/// A name, or the beginning of names followed by `*`, or `*` alone for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// Whether more may follow.
    open: bool,
}

impl Pattern {
    /// Reads it; `None` where `*` stands elsewhere than at the end.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, open) = text.strip_suffix('*').map_or((text, false), |start| (start, true));
        let whole = open || !text.is_empty();
        (whole && !text.contains('*')).then(|| Self { text: text.to_owned(), open })
    }

    /// Whether it stands for this name.
    pub fn matches(&self, name: &str) -> bool {
        if self.open { name.starts_with(&self.text) } else { name == self.text }
    }
}

/// One rule: any of these verbs on any of these keys of any of these tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whose keys.
    pub tenants: Vec<Pattern>,
    /// Which keys.
    pub keys: Vec<Pattern>,
    /// What may be done with them.
    pub verbs: BTreeSet<Verb>,
}

/// The rules of all workloads, by the workload's name: the last part of its SPIFFE id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants(BTreeMap<String, Vec<Rule>>);

impl Grants {
    /// Adds a workload's rule.
    pub fn add(&mut self, workload: &str, rule: Rule) {
        self.0.entry(workload.to_owned()).or_default().push(rule);
    }

    /// Whether a workload may.
    pub fn allow(&self, workload: &str, tenant: &TenantId, key: &KeyName, verb: Verb) -> bool {
        let any = |patterns: &[Pattern], name: &str| patterns.iter().any(|pattern| pattern.matches(name));
        self.0.get(workload).is_some_and(|rules| {
            rules.iter().any(|rule| {
                rule.verbs.contains(&verb)
                    && any(&rule.keys, key.as_str())
                    && any(&rule.tenants, tenant.as_str())
            })
        })
    }

    /// The rules, by workload.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &Rule)> {
        self.0.iter().flat_map(|(workload, rules)| rules.iter().map(move |rule| (workload.as_str(), rule)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
    }

    fn allowed(grants: &Grants, workload: &str, tenant: &str, key: &str, verb: Verb) -> bool {
        grants.allow(workload, &tenant.parse().unwrap(), &KeyName::parse(key).unwrap(), verb)
    }

    #[test]
    fn only_what_a_rule_names_is_allowed() {
        let mut grants = Grants::default();
        assert!(!allowed(&grants, "svc-payments", "acme", "orders", Verb::Encrypt));
        grants.add(
            "svc-payments",
            Rule {
                tenants: patterns(&["acme", "test-*"]),
                keys: patterns(&["orders"]),
                verbs: [Verb::Encrypt].into(),
            },
        );
        assert!(allowed(&grants, "svc-payments", "acme", "orders", Verb::Encrypt));
        assert!(allowed(&grants, "svc-payments", "test-7", "orders", Verb::Encrypt));
        for (workload, tenant, key, verb) in [
            ("svc-fraud", "acme", "orders", Verb::Encrypt),
            ("svc-payments", "acm", "orders", Verb::Encrypt),
            ("svc-payments", "acme", "orders2", Verb::Encrypt),
            ("svc-payments", "acme", "orders", Verb::Decrypt),
        ] {
            assert!(!allowed(&grants, workload, tenant, key, verb), "{workload} {tenant} {key} {verb:?}");
        }
    }

    #[test]
    fn rules_do_not_add_up_across_each_other() {
        let mut grants = Grants::default();
        for (key, verb) in [("a", Verb::Encrypt), ("b", Verb::Decrypt)] {
            let (tenants, keys) = (patterns(&["*"]), patterns(&[key]));
            grants.add("svc-payments", Rule { tenants, keys, verbs: [verb].into() });
        }
        assert!(allowed(&grants, "svc-payments", "acme", "a", Verb::Encrypt));
        assert!(!allowed(&grants, "svc-payments", "acme", "a", Verb::Decrypt));
        assert!(!allowed(&grants, "svc-payments", "acme", "b", Verb::Encrypt));
    }

    #[test]
    fn a_star_stands_at_the_end_only() {
        for wrong in ["", "*a", "a*b", "**"] {
            assert_eq!(Pattern::parse(wrong), None, "{wrong:?}");
        }
        assert!(Pattern::parse("*").unwrap().matches("anything"));
        assert!(!Pattern::parse("a").unwrap().matches("ab"));
    }
}
