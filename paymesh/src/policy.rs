//! `paymesh policy`: checks a policy file and shows who may call what.

use std::{fmt::Write as _, fs, path::Path};

use mesh::{
    config::nearest,
    policy::{PolicyFile, Rpc, Rules},
};

use crate::{args::PolicyCommand, dev::SERVICES};

/// Why a policy cannot be checked or shown: it cannot be used, for the reasons in the text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PolicyCommandError(String);

/// What the command prints.
pub fn run(command: &PolicyCommand) -> Result<String, PolicyCommandError> {
    match command {
        PolicyCommand::Check { file } => Ok(checked(&file.display().to_string(), &read(file)?)),
        PolicyCommand::Show { file, json, toml } => {
            let rules = file.as_deref().map_or_else(|| Ok(Rules::standard()), read)?;
            let failed = |error: &dyn std::error::Error| PolicyCommandError(error.to_string());
            if *json {
                let text = serde_json::to_string_pretty(&PolicyFile::of(&rules));
                return Ok(text.map_err(|error| failed(&error))? + "\n");
            }
            if *toml {
                return toml::to_string_pretty(&PolicyFile::of(&rules)).map_err(|error| failed(&error));
            }
            Ok(rules.matrix())
        }
    }
}

fn read(file: &Path) -> Result<Rules, PolicyCommandError> {
    let named = |text: String| {
        let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
        PolicyCommandError(format!("{} cannot be used:\n{}", file.display(), lines.join("\n")))
    };
    let text = fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    PolicyFile::parse(&text).map_err(|error| named(error.to_string()))
}

fn checked(name: &str, rules: &Rules) -> String {
    let granted = Rpc::all().filter(|rpc| rules.0.values().any(|rpcs| rpcs.contains(rpc))).count();
    let mut text = format!(
        "{name} can be used: {} workloads, {granted} of {} RPCs granted to somebody.\n",
        rules.0.len(),
        Rpc::count()
    );
    // Writing to a String does not fail.
    for workload in rules.0.keys().filter(|name| !Rules::standard().0.contains_key(*name)) {
        let meant =
            nearest(workload, SERVICES).map_or(String::new(), |name| format!("; did you mean {name}?"));
        let _ = writeln!(text, "Note: {workload} is none of the mesh's own workloads{meant}");
    }
    let differences = Rules::standard().differences(rules);
    if differences.is_empty() {
        text.push_str("It grants exactly what the built-in table grants.\n");
    } else {
        text.push_str("Against the built-in table:\n");
    }
    for difference in differences {
        let change = if difference.allowed { "+ allows" } else { "- denies" };
        let _ = writeln!(text, "  {change}  {}  {}", difference.workload, difference.rpc);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.toml");
        fs::write(&file, text).unwrap();
        run(&PolicyCommand::Check { file }).map_err(|error| error.to_string())
    }

    /// The example in the documentation is the built-in table: the same rules, to the last cell.
    #[test]
    fn the_example_file_is_the_built_in_table() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.toml");
        let rules = read(&file).unwrap();
        assert_eq!(Rules::standard().differences(&rules), vec![]);
        assert_eq!(rules, Rules::standard());
        let said = run(&PolicyCommand::Check { file }).unwrap();
        assert!(said.ends_with("It grants exactly what the built-in table grants.\n"), "{said}");
    }

    /// The example of Linkerd's own policy says the same of its RPCs as the built-in table: no workload
    /// less, none more.
    #[test]
    fn the_example_for_linkerd_agrees_with_the_table() {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/linkerd.md")).unwrap();
        let after = |line: &str, key: &str| {
            let value = line.split_once(key)?.1;
            Some(value.split([',', '}']).next()?.trim().to_owned())
        };
        let routed = text.lines().filter_map(|line| {
            let (service, method) = (after(line, "- method: {service: ")?, after(line, ", method: ")?);
            Rpc::of_path(&format!("/{service}/{method}"))
        });
        let routed: Vec<Rpc> = routed.collect();
        let identity = ".paymesh.serviceaccount.identity.linkerd.cluster.local";
        let mut named: Vec<&str> =
            text.lines().filter_map(|line| line.trim().strip_prefix("- ")?.strip_suffix(identity)).collect();
        named.sort_unstable();
        assert_eq!((routed.len(), named.len()), (4, 2));
        let standard = Rules::standard();
        for rpc in routed {
            // In the order of their names, as the table is.
            let may = standard.0.keys().map(String::as_str).filter(|name| standard.allow(name, rpc));
            assert_eq!(may.collect::<Vec<_>>(), named, "{rpc}");
        }
    }

    #[test]
    fn a_check_says_what_would_change_and_what_looks_mistyped() {
        let said = check(
            r#"
            [[grant]]
            workload = "svc-payment"
            rpcs = ["paymesh.tax.v1.TaxService/Calculate"]
        "#,
        )
        .unwrap();
        for told in [
            "did you mean svc-payments?",
            "+ allows  svc-payment  paymesh.tax.v1.TaxService/Calculate",
            "- denies  svc-payments  paymesh.tax.v1.TaxService/Calculate",
        ] {
            assert!(said.contains(told), "{told}: {said}");
        }
    }

    #[test]
    fn a_bad_file_is_an_error_with_every_fault() {
        let said = check("[[grant]]\nworkload = \"X\"\nrpcs = [\"a.B/C\"]").unwrap_err();
        assert!(said.contains("grant[0].workload") && said.contains("grant[0].rpcs[0]"), "{said}");
    }

    #[test]
    fn what_is_shown_as_a_file_can_be_read_again() {
        let shown = run(&PolicyCommand::Show { file: None, json: false, toml: true }).unwrap();
        assert_eq!(PolicyFile::parse(&shown), Ok(Rules::standard()));
        let json = run(&PolicyCommand::Show { file: None, json: true, toml: false }).unwrap();
        let json: PolicyFile = serde_json::from_str(&json).unwrap();
        assert_eq!(json.rules(), Ok(Rules::standard()));
        let matrix = run(&PolicyCommand::Show { file: None, json: false, toml: false }).unwrap();
        assert!(matrix.contains("svc-payments") && matrix.contains("BatchDetokenize"), "{matrix}");
    }
}
