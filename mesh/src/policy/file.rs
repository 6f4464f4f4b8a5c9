//! The policy file: TOML, read as a whole, checked against the contract, refused with every fault named.
//!
//! Knows nothing of where the file is, when it is read, or whether it decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Rpc, Rules, rules::matching, table};
use crate::{config::nearest, identity::SpiffeId};

/// A policy as a file says it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Who may call what; a workload without a grant may call nothing.
    #[serde(default)]
    pub grant: Vec<GrantEntry>,
}

/// What one workload may call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantEntry {
    /// The workload's name, the last part of its SPIFFE id, such as `svc-payments`.
    pub workload: String,
    /// RPCs as `package.Service/Method`, or `package.Service/*` for all of a service.
    pub rpcs: Vec<String>,
    /// Must be true to let a workload other than svc-payments call RPCs whose answers hold cardholder data
    /// or secrets, such as Detokenize. Default: false.
    #[serde(default)]
    pub reveals_cardholder_data: bool,
}

/// Why a policy file cannot be used: every fault that was found in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct PolicyError(pub Vec<String>);

impl PolicyFile {
    /// Reads the text and checks all of it.
    pub fn parse(text: &str) -> Result<Rules, PolicyError> {
        let file: Self = toml::from_str(text).map_err(|error| PolicyError(vec![error.to_string()]))?;
        file.rules()
    }

    /// As [`PolicyFile::parse`], from the file of this name, which an error begins with.
    pub fn read(file: &Path) -> Result<Rules, PolicyError> {
        let named = |text: String| PolicyError(vec![format!("{}: {text}", file.display())]);
        let text = fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
        Self::parse(&text).map_err(|error| named(error.to_string()))
    }

    /// The rules that the file makes, or everything that is wrong with it.
    pub fn rules(&self) -> Result<Rules, PolicyError> {
        let (mut rules, mut faults) = (BTreeMap::new(), Vec::new());
        if self.grant.is_empty() {
            // An empty file is a file that was lost, not a wish to stop every call.
            faults.push("grant: must be given at least once, as [[grant]]".to_owned());
        }
        for (place, grant) in self.grant.iter().enumerate() {
            let place = format!("grant[{place}]");
            if SpiffeId::of(&grant.workload).is_err() {
                faults.push(format!("{place}.workload: must be 1 to 63 characters of a-z, 0-9 and -"));
            }
            let granted = granted(grant, &place, &mut faults);
            if rules.insert(grant.workload.clone(), granted).is_some() {
                faults.push(format!(
                    "{place}.workload: {} has a grant already: put its RPCs together",
                    grant.workload
                ));
            }
        }
        if faults.is_empty() { Ok(Rules(rules)) } else { Err(PolicyError(faults)) }
    }

    /// The file that makes these rules, one line for each RPC.
    pub fn of(rules: &Rules) -> Self {
        let entry = |(workload, rpcs): (&String, &BTreeSet<Rpc>)| GrantEntry {
            workload: workload.clone(),
            rpcs: rpcs.iter().map(ToString::to_string).collect(),
            reveals_cardholder_data: workload != table::PAYMENTS && rpcs.iter().any(|rpc| rpc.reveals()),
        };
        Self { grant: rules.0.iter().map(entry).collect() }
    }
}

fn granted(grant: &GrantEntry, place: &str, faults: &mut Vec<String>) -> BTreeSet<Rpc> {
    let mut granted = BTreeSet::new();
    let may_reveal = grant.reveals_cardholder_data || grant.workload == table::PAYMENTS;
    for (index, pattern) in grant.rpcs.iter().enumerate() {
        let found: Vec<Rpc> = matching(pattern).collect();
        if found.is_empty() {
            faults.push(format!("{place}.rpcs[{index}]: {}", unknown(pattern)));
        }
        if let Some(revealing) = found.iter().find(|rpc| rpc.reveals() && !may_reveal) {
            faults.push(format!(
                "{place}.rpcs[{index}]: the answers of {revealing} hold cardholder data or secrets, and {} is \
                 not svc-payments: leave it out, or say `reveals_cardholder_data = true` in this grant",
                grant.workload
            ));
        }
        granted.extend(found);
    }
    granted
}

/// What is wrong with a pattern that matches nothing, with the nearest one that would.
fn unknown(pattern: &str) -> String {
    let mut known: BTreeSet<String> = Rpc::all().map(|rpc| rpc.to_string()).collect();
    known.extend(Rpc::all().map(|rpc| format!("{}/*", rpc.service())));
    match nearest(pattern, known.iter().map(String::as_str)) {
        Some(name) => format!("the contract has no {pattern}; did you mean {name}?"),
        None => format!(
            "the contract has no {pattern}; write package.Service/Method or package.Service/*, as in \
             `paymesh policy show`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> String {
        PolicyFile::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_rules() {
        let text = r#"
            [[grant]]
            workload = "svc-a"
            rpcs = ["paymesh.tax.v1.TaxService/*", "grpc.health.v1.Health/Check"]
            [[grant]]
            workload = "svc-payments"
            rpcs = ["paymesh.crypto.v1.VaultService/Detokenize"]
        "#;
        let rules = PolicyFile::parse(text).unwrap();
        let tax = Rpc::all().filter(|rpc| rpc.service() == "paymesh.tax.v1.TaxService").count();
        assert_eq!(rules.0["svc-a"].len(), tax + 1);
        assert_eq!(rules.0["svc-payments"].len(), 1);
        assert_eq!(PolicyFile::of(&rules).rules(), Ok(rules));
    }

    #[test]
    fn what_the_contract_does_not_have_is_refused_with_the_nearest_name() {
        for (pattern, told) in [
            (
                "paymesh.ledger.v1.LedgerService/CreateTransfer",
                "did you mean paymesh.ledger.v1.LedgerService/CreateTransfers?",
            ),
            ("paymesh.ledger.v1.LedgerServise/*", "did you mean paymesh.ledger.v1.LedgerService/*?"),
            ("/paymesh.ledger.v1.LedgerService/Audit", "did you mean paymesh.ledger.v1.LedgerService/Audit?"),
            ("paymesh.ledger.v1.LedgerService", "did you mean paymesh.ledger.v1.LedgerService/*?"),
            ("*", "write package.Service/Method"),
            ("", "write package.Service/Method"),
        ] {
            let text = format!("[[grant]]\nworkload = \"svc-a\"\nrpcs = [\"{pattern}\"]");
            let said = faults(&text);
            assert!(said.starts_with("grant[0].rpcs[0]: ") && said.contains(told), "{said}");
        }
    }

    #[test]
    fn cardholder_data_is_for_payments_unless_said_otherwise() {
        for pattern in ["VaultService/Detokenize", "VaultService/*", "CryptoService/Decrypt"] {
            let text = format!("[[grant]]\nworkload = \"svc-a\"\nrpcs = [\"paymesh.crypto.v1.{pattern}\"]");
            assert!(faults(&text).contains("reveals_cardholder_data = true"), "{pattern}");
            assert!(PolicyFile::parse(&format!("{text}\nreveals_cardholder_data = true")).is_ok());
            assert!(PolicyFile::parse(&text.replace("svc-a", "svc-payments")).is_ok());
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let said = faults(
            r#"
            [[grant]]
            workload = "SVC"
            rpcs = ["x"]
            [[grant]]
            workload = "svc-a"
            rpcs = []
            [[grant]]
            workload = "svc-a"
            rpcs = ["y"]
        "#,
        );
        for told in ["grant[0].workload", "grant[0].rpcs[0]", "grant[2].workload", "grant[2].rpcs[0]"] {
            assert!(said.contains(told), "{told}: {said}");
        }
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for (text, told) in [
            ("", "grant"),
            ("mode = \"enforce\"\n", "mode"),
            ("[[grants]]\nworkload = \"svc-a\"\nrpcs = []\n", "grants"),
            ("[[grant]]\nworkload = \"svc-a\"\n", "rpcs"),
            ("[[grant]]\nworkload = \"svc-a\"\nrpcs = []\nallow = true\n", "allow"),
        ] {
            assert!(faults(text).contains(told), "{text}");
        }
    }
}
