//! The file that says who may do what with which keys: TOML, read as a whole, refused with every fault named, and
//! read again whenever it changes.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::domain::{
    algorithm::Verb,
    grant::{Grants, Pattern, Rule},
};

/// The grants as a file says them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantsFile {
    /// What is not granted is refused.
    #[serde(default)]
    pub grant: Vec<GrantEntry>,
}

/// One rule of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantEntry {
    /// The workload's name, the last part of its SPIFFE id, such as `svc-payments`.
    pub workload: String,
    /// Whose keys: names of tenants, or how they begin, followed by `*`.
    pub tenants: Vec<String>,
    /// Which keys: names, or how they begin, followed by `*`.
    pub keys: Vec<String>,
    /// What may be done with them, such as `encrypt`; `*` for all.
    pub verbs: Vec<String>,
}

/// Why grants cannot be used: every fault that was found in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct GrantsError(pub Vec<String>);

/// What holds where no file says otherwise: svc-payments works with keys whose names begin with `payments.`, and
/// an operator looks after keys and uses none.
pub fn built_in() -> Grants {
    let mut grants = Grants::default();
    let all = || Pattern::parse("*").into_iter().collect::<Vec<_>>();
    let data = Verb::ALL.iter().copied().filter(|verb| verb.usage().is_some());
    let payments = Pattern::parse("payments.*").into_iter().collect();
    grants.add("svc-payments", Rule { tenants: all(), keys: payments, verbs: data.collect() });
    let management = Verb::ALL.iter().copied().filter(|verb| verb.is_management());
    grants.add("operator", Rule { tenants: all(), keys: all(), verbs: management.collect() });
    grants
}

/// Reads the file and checks all of it.
pub fn read(file: &Path) -> Result<Grants, GrantsError> {
    let named = |text: String| GrantsError(vec![format!("{}: {text}", file.display())]);
    let text = fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    parse(&text).map_err(|error| named(error.to_string()))
}

/// Reads the text and checks all of it.
pub fn parse(text: &str) -> Result<Grants, GrantsError> {
    let file: GrantsFile = toml::from_str(text).map_err(|error| GrantsError(vec![error.to_string()]))?;
    let (mut grants, mut faults) = (Grants::default(), Vec::new());
    if file.grant.is_empty() {
        // An empty file is a file that was lost, not a wish to refuse everything.
        faults.push("grant: must be given at least once, as [[grant]]".to_owned());
    }
    for (place, entry) in file.grant.iter().enumerate() {
        let place = format!("grant[{place}]");
        let rule = Rule {
            tenants: patterns(&entry.tenants, &format!("{place}.tenants"), &mut faults),
            keys: patterns(&entry.keys, &format!("{place}.keys"), &mut faults),
            verbs: verbs(&entry.verbs, &format!("{place}.verbs"), &mut faults).into_iter().collect(),
        };
        grants.add(&entry.workload, rule);
    }
    if faults.is_empty() { Ok(grants) } else { Err(GrantsError(faults)) }
}

fn patterns(texts: &[String], place: &str, faults: &mut Vec<String>) -> Vec<Pattern> {
    if texts.is_empty() {
        faults.push(format!("{place}: must name at least one, or \"*\" for all"));
    }
    let parse = |(index, text): (usize, &String)| {
        Pattern::parse(text)
            .ok_or_else(|| format!("{place}[{index}]: must be a name, with * at its end at most"))
    };
    let (good, bad): (Vec<_>, Vec<_>) = texts.iter().enumerate().map(parse).partition(Result::is_ok);
    faults.extend(bad.into_iter().filter_map(Result::err));
    good.into_iter().flatten().collect()
}

fn verbs(texts: &[String], place: &str, faults: &mut Vec<String>) -> Vec<Verb> {
    if texts.is_empty() {
        faults.push(format!("{place}: must name at least one, or \"*\" for all"));
    }
    let mut verbs = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match (text.as_str(), Verb::from_name(text)) {
            ("*", _) => verbs.extend(Verb::ALL.iter().copied()),
            (_, Some(verb)) => verbs.push(verb),
            (_, None) => {
                let known: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
                faults.push(format!("{place}[{index}]: must be one of {}", known.join(", ")));
            }
        }
    }
    verbs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_grants() {
        let text = r#"
            [[grant]]
            workload = "svc-payments"
            tenants = ["*"]
            keys = ["orders", "cards.*"]
            verbs = ["encrypt", "decrypt"]
        "#;
        let grants = parse(text).unwrap();
        let may = |key: &str, verb| {
            let key = crate::domain::keys::KeyName::parse(key).unwrap();
            grants.allow("svc-payments", &"acme".parse().unwrap(), &key, verb)
        };
        assert!(may("orders", Verb::Encrypt) && may("cards.eu", Verb::Decrypt));
        assert!(!may("orders", Verb::Sign) && !may("other", Verb::Encrypt));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = r#"
            [[grant]]
            workload = "svc-payments"
            tenants = []
            keys = ["a*b"]
            verbs = ["encrypt", "enscrypt"]
        "#;
        let said = parse(text).unwrap_err().to_string();
        for told in
            ["grant[0].tenants: ", "grant[0].keys[0]: ", "grant[0].verbs[1]: must be one of encrypt, "]
        {
            assert!(said.contains(told), "{told}: {said}");
        }
        assert!(parse("").unwrap_err().to_string().contains("[[grant]]"));
        assert!(parse("[[grants]]").is_err());
    }

    #[test]
    fn the_documented_file_is_what_is_built_in() {
        assert_eq!(parse(include_str!("../../docs/crypto-grants.toml")).unwrap(), built_in());
    }

    #[test]
    fn without_a_file_an_operator_uses_no_key() {
        let key = crate::domain::keys::KeyName::parse("payments.orders").unwrap();
        for &verb in Verb::ALL {
            let uses = verb.usage().is_some();
            let tenant = "acme".parse().unwrap();
            assert_eq!(built_in().allow("svc-payments", &tenant, &key, verb), uses, "{verb:?}");
            assert_eq!(built_in().allow("operator", &tenant, &key, verb), verb.is_management(), "{verb:?}");
        }
    }
}
