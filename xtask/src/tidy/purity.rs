//! Rules about the services' pure cores: effects come in as arguments and go out as values.
//!
//! Two views of the code: lines, for what is named where it is used, and whole `use` declarations, for
//! what a group imports far from the `std` that it belongs to. They are no type checker: a new name for
//! an effect is found where it is imported, not where it is used.

use std::collections::BTreeMap;

use super::code::{code_only, is_word};
use super::text::{has, lines, places};
use super::{File, Finding, Rule, Tree};

/// All rules of this module.
pub(super) const RULES: &[Rule] = &[pure_cores];

/// What a pure core may not name, and what it would bring in.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "the runtime"),
    ("async", "the runtime"),
    ("await", "the runtime"),
    ("fs::", "files"),
    ("io::", "input and output"),
    ("net::", "the network"),
    ("env::", "the environment"),
    ("process::", "other processes"),
    ("thread::", "threads"),
    ("print!", "the terminal"),
    ("println!", "the terminal"),
    ("eprint!", "the terminal"),
    ("eprintln!", "the terminal"),
    ("SystemTime", "the clock"),
    ("Instant", "the clock"),
    ("rand", "randomness"),
    ("getrandom", "randomness"),
    ("thread_rng", "randomness"),
    ("OsRng", "randomness"),
    ("SystemRandom", "randomness"),
    ("new_v4", "randomness"),
    ("now_v7", "the clock and randomness"),
    ("tonic", "the wire"),
    ("rusqlite", "the store"),
];

/// What a pure core may not import from `std`, by name or in a group.
const IMPURE_STD: &[(&str, &str)] = &[
    ("fs", "files"),
    ("io", "input and output"),
    ("net", "the network"),
    ("env", "the environment"),
    ("process", "other processes"),
    ("thread", "threads"),
];

/// The type of a generator that is handed in. The generator itself stays outside.
const HANDED_IN: &str = "ring::rand::SecureRandom";

/// Where addresses are types alone: sockets are in `std`.
const ADDRESSES: &str = "core::net::";

fn pure_cores(tree: &Tree) -> Vec<Finding> {
    tree.rust().filter(|file| file.is_domain()).flat_map(offences).collect()
}

/// At most one for each line.
fn offences(file: &File) -> Vec<Finding> {
    let code = code_only(&file.text).replace(HANDED_IN, "").replace(ADDRESSES, "");
    let named = lines(&code).filter_map(|(at, line)| {
        let (name, what) = IMPURE.iter().find(|(name, _)| has(line, name))?;
        Some((at, (*name, *what)))
    });
    let found: BTreeMap<usize, (&str, &str)> = named.chain(imported(&code)).collect();
    found
        .into_iter()
        .map(|(at, (name, what))| {
            let what = format!("{name} brings {what} into the domain: take it as an argument");
            file.finding(at, "pure-core", what)
        })
        .collect()
}

/// The effects of `std` in `use` declarations, with their lines.
fn imported(code: &str) -> Vec<(usize, (&'static str, &'static str))> {
    let mut found = Vec::new();
    for start in places(code, "use") {
        let declaration = code.get(start..).and_then(|rest| rest.split(';').next()).unwrap_or_default();
        // `use<'a>` in a bound is another `use`.
        let path = declaration.trim_start_matches("use").trim_start();
        if !path.starts_with(|c| is_word(c) || c == ':' || c == '{') || !has(path, "std") {
            continue;
        }
        for (name, what) in IMPURE_STD {
            for at in places(declaration, name) {
                let before = code.get(..start + at).unwrap_or_default();
                found.push((before.matches('\n').count() + 1, (*name, *what)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<usize> {
        found_in("svc-fraud/src/domain/rules.rs", text)
    }

    fn found_in(path: &str, text: &str) -> Vec<usize> {
        pure_cores(&Tree::of(&[(path, text)])).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn effects_are_found_where_they_are_named() {
        for offence in [
            "use tokio::sync::Mutex;",
            "let t = Instant::now();",
            "let s = SystemTime::now();",
            "let r = rand::random();",
            "use rand::Rng;",
            "async fn f() {}",
            "let x = y.await;",
            "let text = std::fs::read(path);",
            "let text = fs::read(path);",
            "let home = env::var(\"HOME\");",
            "std::io::stdout().flush();",
            "fn f(e: io::Error) {}",
            "std::thread::spawn(f);",
            "process::exit(1);",
            "let a: net::IpAddr = b;",
            "let id = Uuid::new_v4();",
            "let id = uuid::Uuid::now_v7();",
            "println!(\"{x}\");",
            "eprintln!(\"{x}\");",
            "getrandom::fill(&mut bytes);",
        ] {
            assert_eq!(found(&format!("//! Rules.\n{offence}\n")), [2], "{offence}");
            assert_eq!(found_in("svc-tax/src/domain.rs", offence), [1], "{offence}");
            assert_eq!(found_in("svc-tax/src/store/embedded.rs", offence), [], "{offence}");
        }
    }

    #[test]
    fn a_generator_may_be_handed_in_but_not_made() {
        assert_eq!(found("use ring::rand::SecureRandom;\nfn f(random: &dyn SecureRandom) {}\n"), []);
        assert_eq!(found("use core::net::{IpAddr, Ipv4Addr};\nuse std::net::IpAddr;\n"), [2]);
        for offence in
            ["use ring::rand::SystemRandom;", "use ring::rand;", "let r = ring::rand::SystemRandom::new();"]
        {
            assert_eq!(found(offence), [1], "{offence}");
        }
    }

    #[test]
    fn effects_are_found_in_imports_of_every_shape() {
        for offence in [
            "use std::fs;",
            "use std::fs as files;",
            "pub(crate) use ::std::env::{self, VarError};",
            "use std::{fmt, env};",
            "use std::{collections::BTreeMap, fmt, process::{self, Command}};",
            "use std::{fmt, io};",
            "use {std::{fmt, net}, uuid::Uuid};",
            "    use std::{thread, time::Duration};",
        ] {
            assert_eq!(found(&format!("//! Rules.\n{offence}\n")), [2], "{offence}");
        }
        let group = "use std::{\n    env,\n    fmt,\n    fs,\n    process,\n};\nuse std::io;\n";
        assert_eq!(found(group), [2, 4, 5, 7]);
    }

    #[test]
    fn what_only_looks_like_an_effect_is_fine() {
        let fine = "//! Never reads std::fs, never calls println!.\n\
                    use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};\n\
                    use super::{net, env};\n\
                    use rust_decimal::Decimal;\n\
                    let operand = random_id; let net = gross - tax; let io = 1;\n\
                    let text = \"use std::fs; env::var()\";\n\
                    fn f<'a>() -> impl Iterator<Item = u8> + use<'a> { my_fs::read(); std::mem::take(x) }\n";
        assert_eq!(found(fine), []);
    }
}
