//! Rules about the text of files: length, white space, words that must not stay, floats.

use super::code::{code_only, is_word};
use super::{File, Finding, Rule, Tree};

/// All rules of this module.
pub(super) const RULES: &[Rule] =
    &[length, white_space, unfinished, leftovers, module_docs, floats, short_mains];

/// More lines than one reads in one sitting.
const LINES_MAX: usize = 1_000;
/// A service's main calls its library and nothing else.
const MAIN_LINES_MAX: usize = 40;

/// Words that stand for work not done, spelled so that this file does not contain them.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("HA", "CK")];

/// Code that must not stay, and why.
const LEFTOVERS: &[(&str, &str)] = &[
    ("dbg!", "prints to wherever; use tracing"),
    ("todo!", "is not done"),
    ("unimplemented!", "is not done"),
    ("#[ignore", "a test that does not run proves nothing"),
    ("thread::sleep", "blocks a runtime thread, and a test that sleeps is slow or wrong"),
];

fn length(tree: &Tree) -> Vec<Finding> {
    let written = tree.files.iter().filter(|file| file.is(".rs") || file.is(".proto") || file.is(".sh"));
    written
        .filter_map(|file| {
            let lines = file.text.lines().count();
            let what = format!("{lines} lines, at most {LINES_MAX}: split it");
            (lines > LINES_MAX).then(|| file.finding(LINES_MAX + 1, "length", what))
        })
        .collect()
}

fn white_space(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| !file.is("Cargo.lock")) {
        for (at, line) in lines(&file.text) {
            if line.contains('\t') {
                findings.push(file.finding(at, "white-space", "a tab; indent with spaces"));
            }
            if line.ends_with([' ', '\r']) {
                findings.push(file.finding(at, "white-space", "white space at the end of the line"));
            }
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            let last = file.text.lines().count();
            findings.push(file.finding(last, "white-space", "no newline at the end of the file"));
        }
    }
    findings
}

fn unfinished(tree: &Tree) -> Vec<Finding> {
    words(
        tree.files.iter().filter(|file| !file.is("Cargo.lock")),
        |file| file.text.clone(),
        |file, at, line| {
            let word = UNFINISHED.iter().find(|word| has(line, word))?;
            Some(file.finding(
                at,
                "unfinished",
                format!("{word}: do it, or open an issue and remove the note"),
            ))
        },
    )
}

fn leftovers(tree: &Tree) -> Vec<Finding> {
    words(
        tree.rust(),
        |file| code_only(&file.text),
        |file, at, line| {
            let (code, why) = LEFTOVERS.iter().find(|(code, _)| has(line, code))?;
            Some(file.finding(at, "leftovers", format!("{code} {why}")))
        },
    )
}

fn module_docs(tree: &Tree) -> Vec<Finding> {
    let modules = tree.rust().filter(|file| file.path.contains("/src/") || file.path.contains("/tests/"));
    modules
        .filter(|file| !file.text.trim_start().starts_with("//!"))
        .map(|file| {
            file.finding(
                1,
                "module-docs",
                "open the module with `//!`: what it is for, and what it may not know",
            )
        })
        .collect()
}

fn floats(tree: &Tree) -> Vec<Finding> {
    let exact = tree.rust().filter(|file| file.room() == "money" || file.is_domain());
    words(
        exact,
        |file| code_only(&file.text),
        |file, at, line| {
            let float = ["f32", "f64"].into_iter().find(|float| has_suffixed(line, float))?;
            Some(file.finding(
                at,
                "floats",
                format!("{float} where amounts are decided: use integer minor units"),
            ))
        },
    )
}

fn short_mains(tree: &Tree) -> Vec<Finding> {
    let mains = tree.rust().filter(|file| file.is_service() && file.is("/src/main.rs"));
    mains
        .filter(|file| file.text.lines().count() >= MAIN_LINES_MAX)
        .map(|file| {
            let what = format!(
                "a service's main has fewer than {MAIN_LINES_MAX} lines: the rest belongs to its library"
            );
            file.finding(MAIN_LINES_MAX, "short-main", what)
        })
        .collect()
}

/// At most one finding for each line of each file.
fn words<'a>(
    files: impl Iterator<Item = &'a File>,
    view: impl Fn(&File) -> String,
    rule: impl Fn(&File, usize, &str) -> Option<Finding>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let text = view(file);
        findings.extend(lines(&text).filter_map(|(at, line)| rule(file, at, line)));
    }
    findings
}

/// Lines with their numbers, from 1; a carriage return stays a part of its line.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split('\n').enumerate().map(|(at, line)| (at + 1, line))
}

/// Whether `needle` stands in the line as a word of its own.
pub(super) fn has(line: &str, needle: &str) -> bool {
    places(line, needle).next().is_some()
}

/// Where `needle` stands as a word of its own.
pub(super) fn places<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(needle).map(|(at, _)| at).filter(move |at| {
        let (at, line) = (*at, text);
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + needle.len()..).and_then(|text| text.chars().next());
        let joined_before = needle.starts_with(is_word) && before.is_some_and(is_word);
        let joined_after = needle.ends_with(is_word) && after.is_some_and(is_word);
        !joined_before && !joined_after
    })
}

/// As [`has`], or as the suffix of a number: `1f64`, `1_f64`.
fn has_suffixed(line: &str, float: &str) -> bool {
    line.match_indices(float).any(|(at, _)| {
        let before = line.get(..at).map_or("", |text| text.trim_end_matches('_')).chars().next_back();
        let after = line.get(at + float.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(char::is_alphabetic) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a rule finds in one planted file: line numbers.
    fn found(rule: Rule, path: &str, text: &str) -> Vec<usize> {
        rule(&Tree::of(&[(path, text)])).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(found(length, "a/src/lib.rs", &"x\n".repeat(1_000)), []);
        assert_eq!(found(length, "a/src/lib.rs", &"x\n".repeat(1_001)), [1_001]);
        assert_eq!(found(length, "Cargo.lock", &"x\n".repeat(5_000)), []);
    }

    #[test]
    fn white_space_is_found() {
        assert_eq!(found(white_space, "a.md", "fine\n\ttab\ntrailing \ndos\r\nno newline"), [2, 3, 4, 5]);
        assert_eq!(found(white_space, "a.rs", "fn main() {}\n"), []);
        assert_eq!(found(white_space, "a.rs", ""), []);
    }

    #[test]
    fn notes_of_unfinished_work_are_found_in_comments_and_code() {
        for word in UNFINISHED {
            assert_eq!(found(unfinished, "a/src/lib.rs", &format!("fine\n// {word}: later\n")), [2]);
            assert_eq!(found(unfinished, "a/a.proto", &format!("// {word}\n")), [1]);
            assert_eq!(found(unfinished, "a.md", &format!("{word}S and MY{word}\n")), []);
        }
    }

    #[test]
    fn leftovers_are_found_in_code_only() {
        let planted = "fn f() {\n    dbg!(1);\n    todo!();\n    unimplemented!();\n    std::thread::sleep(d);\n}\n#[ignore = \"slow\"]\n#[ignore]\n";
        assert_eq!(found(leftovers, "a/src/lib.rs", planted), [2, 3, 4, 5, 7, 8]);
        assert_eq!(
            found(leftovers, "a/src/lib.rs", "//! Never dbg!, todo!.\nlet x = \"todo!()\";\nmy_dbg!(1);\n"),
            []
        );
    }

    #[test]
    fn modules_without_docs_are_found() {
        assert_eq!(found(module_docs, "a/src/b.rs", "use std::fmt;\n"), [1]);
        assert_eq!(found(module_docs, "a/tests/b.rs", "/// An item.\nfn a() {}\n"), [1]);
        assert_eq!(found(module_docs, "a/src/b.rs", "//! For b.\nuse std::fmt;\n"), []);
        assert_eq!(found(module_docs, "a/build.rs", "fn main() {}\n"), []);
    }

    #[test]
    fn floats_are_found_where_money_is_decided() {
        let planted =
            "// f64 is not used\nlet a: f64 = 1.0;\nlet b = 1f32;\nlet c = 1_f64;\nlet leaf64 = 1;\n";
        assert_eq!(found(floats, "money/src/lib.rs", planted), [2, 3, 4]);
        assert_eq!(found(floats, "svc-tax/src/domain/rate.rs", planted), [2, 3, 4]);
        assert_eq!(found(floats, "svc-tax/src/domain.rs", planted), [2, 3, 4]);
        assert_eq!(found(floats, "svc-tax/src/service.rs", planted), []);
        assert_eq!(found(floats, "bench/src/main.rs", planted), []);
    }

    #[test]
    fn long_mains_are_found() {
        assert_eq!(found(short_mains, "svc-tax/src/main.rs", &"x\n".repeat(39)), []);
        assert_eq!(found(short_mains, "svc-tax/src/main.rs", &"x\n".repeat(40)), [40]);
        assert_eq!(found(short_mains, "paymesh/src/main.rs", &"x\n".repeat(400)), []);
    }
}
