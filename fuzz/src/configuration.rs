//! Files that people write and services read again while they run: none of them may take a service down.

use edge_gateway::auth::keys::KeyFile;
use mesh::policy::PolicyFile;
use svc_fraud::domain::{RuleSet, RulesText};
use svc_tax::domain::RateTable;

use crate::input::Input;

const POLICY: &str = r#"
[[grant]]
workload = "operator"
rpcs = ["paymesh.crypto.v1.KeyService/CreateKey", "paymesh.tax.v1.TaxService/*"]
reveals_cardholder_data = true
"#;
const GRANTS: &str = r#"
[[grant]]
workload = "svc-payments"
tenants = ["acme", "b*"]
keys = ["payments.*"]
verbs = ["encrypt", "*"]
"#;
const RULES: &str = r#"
review_score_min = 65
block_score_min = 90
[lists.tests]
cards = ["424242*4242"]
[[rules]]
name = "approving"
action = "allow"
when = { card_in = "tests" }
[[rules]]
name = "large_amount"
action = "review"
points = 3
[rules.when.amount_over]
EUR = 5_000_000
"#;
const RATES: &str = r#"
[[jurisdiction]]
code = "XA"
name = "Test"
rates = [{ begin = "2020-01-01", standard = "19.5" }]
"#;
const KEYS: &str = r#"
version = 1
[[keys]]
id = "abcdefghijklmnop"
tenant = "acme"
name = "web shop"
scopes = ["payments:*"]
created = "2026-01-31T12:00:00Z"
expires = "2027-01-31T12:00:00Z"
[keys.signature]
algorithm = "hmac-sha256"
[[keys.secrets]]
hash = "000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f"
created = "2026-01-31T12:00:00Z"
"#;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = (0_u8..).zip([POLICY, GRANTS, RULES, RATES, KEYS]);
    texts.map(|(kind, text)| [&[kind][..], text.as_bytes()].concat()).collect()
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    match kind % 5 {
        0 => {
            if let Ok(rules) = PolicyFile::parse(text) {
                assert_eq!(PolicyFile::of(&rules).rules(), Ok(rules), "what is written is what holds");
            }
        }
        1 => drop(svc_crypto::grants::parse(text)),
        2 => drop(toml::from_str::<RulesText>(text).map(|rules| RuleSet::compile(&rules))),
        3 => drop(RateTable::read(text)),
        _ => {
            if let Ok(file) = KeyFile::parse(text) {
                let written = file.to_text().unwrap_or_default();
                let again = KeyFile::parse(&written).and_then(|file| file.to_text());
                assert_eq!(again.as_ref(), Ok(&written), "what is written is read as it was");
            }
        }
    }
}
