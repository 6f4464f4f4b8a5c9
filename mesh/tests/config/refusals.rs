//! What is refused, in which words; all of it at once, and never with the value.

use crate::services::{NEEDED, SvcOne, load, problems, tree};

#[test]
fn each_layer_names_itself_the_path_and_what_would_be_right() {
    type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], &'c [(&'c [&'c str], &'c str)], &'c str);
    let cases: [Case<'_>; 21] = [
        (
            "[mesh.telemetry]\nlgo = 1",
            &[],
            &[],
            "paymesh.toml:2:1: mesh.telemetry.lgo: unknown; did you mean log?",
        ),
        ("[svc-on]\n", &[], &[], "paymesh.toml:1:1: svc-on: unknown; did you mean svc-one?"),
        (
            "[svc-one]\nlimit_max = \"5\"",
            &[],
            &[],
            "paymesh.toml:2:1: svc-one.limit_max: must be an integer, 1 to 100, not a string",
        ),
        (
            "[svc-one]\n  limit_max = 0",
            &[],
            &[],
            "paymesh.toml:2:3: svc-one.limit_max: must be an integer, 1 to 100",
        ),
        ("svc-one.limit_max = 4_294_967_296", &[], &[], "svc-one.limit_max: must be an integer, 1 to 100"),
        ("svc-one.on = 1", &[], &[], "svc-one.on: must be true or false, not an integer"),
        ("svc-one.mode = \"quick\"", &[], &[], "svc-one.mode: must be one of \"slow\", \"fast\""),
        ("svc-one.tags = \"a\"", &[], &[], "svc-one.tags: must be an array of strings, not a string"),
        ("svc-one.tags = [1]", &[], &[], "svc-one.tags.0: must be a string, not an integer"),
        (
            "svc-one.weights = { x = 1.5 }",
            &[],
            &[],
            "svc-one.weights.x: must be an integer, not a number with a fraction",
        ),
        (
            "[[svc-one.people]]\nname = \"a\"\nkey = \"s3cret\"",
            &[],
            &[],
            "paymesh.toml:3:1: svc-one.people.0.key: unknown; a secret is given by the name of its file: key_file",
        ),
        ("[[svc-one.people]]\n", &[], &[], "svc-one.people.0.name: must be given: A name."),
        (
            "svc-one.db_password = \"s3cret\"",
            &[],
            &[],
            "svc-one.db_password: unknown; secrets are never given inline",
        ),
        (
            "svc-one.form = { kind = \"free\", from = 1, too = 2 }",
            &[],
            &[],
            "svc-one.form.too: unknown; did you mean to?",
        ),
        ("svc-one.label = 1979-05-27", &[], &[], "paymesh.toml:1:17: must be a string, true or false"),
        ("[svc-one]\nlabel = s3cret", &[], &[], "paymesh.toml:2:9: not TOML"),
        (
            "",
            &[("PAYMESH_MESH__TELEMETRY__LGO", "s3cret")],
            &[],
            "environment PAYMESH_MESH__TELEMETRY__LGO: mesh.telemetry.lgo: unknown; did you mean log?",
        ),
        (
            "",
            &[("PAYMESH_SVC_ONE__LIMIT_MAX", "s3cret")],
            &[],
            "environment PAYMESH_SVC_ONE__LIMIT_MAX: svc-one.limit_max: must be an integer, 1 to 100",
        ),
        (
            "",
            &[("PAYMESH_SVC_ONE__PEOPLE__0__NAME", "a")],
            &[],
            "svc-one.people: is an array: give all of it",
        ),
        ("", &[], &[(&["svc-one", "on"], "yes")], "flag --set: svc-one.on: must be true or false"),
        (
            "",
            &[],
            &[(&["svc-one", "label", "x"], "yes")],
            "flag --set: svc-one.label.x: unknown; svc-one.label is string",
        ),
    ];
    for (file, variables, flags, told) in cases {
        let said = problems(file, variables, flags).join("\n");
        assert!(said.contains(told), "{file:?} {variables:?} {flags:?}:\n{said}");
        assert!(!said.contains("s3cret"), "a value is never shown: {said}");
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let file = "[mesh.telemetry]\nlgo = 1\nsample_per_mille = 1001\n[svc-one]\nlimt_max = 1\n";
    let said = problems(file, &[("PAYMESH_SVC_ONE__ONN", "1")], &[(&["svc-two", "x"], "1")]);
    assert_eq!(said.len(), 5, "{said:#?}");
}

#[test]
fn a_wrong_value_is_wrong_even_where_a_later_layer_hides_it() {
    let said = problems("svc-one.limit_max = 0", &[("PAYMESH_SVC_ONE__LIMIT_MAX", "5")], &[]);
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn syntax_errors_say_where_and_never_quote_the_line() {
    let said = problems("[svc-one]\nlabel = \"s3cret\n", &[], &[]).join("\n");
    assert!(said.contains("paymesh.toml:2:") && said.contains("not TOML"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    let twice = problems("[svc-one]\non = true\non = false\n", &[], &[]).join("\n");
    assert!(twice.contains("paymesh.toml:3:1"), "{twice}");
}

#[test]
fn what_a_type_refuses_by_itself_has_its_place() {
    let file = NEEDED.replace("[svc-one]", "[svc-one]\npeer = \"nowhere\"");
    let said = load(&file, &[], &[]).service::<SvcOne>().unwrap_err().to_string();
    assert!(said.contains(":3:1: svc-one.peer: ") && !said.contains("nowhere"), "{said}");
}

#[test]
fn what_is_missing_is_said_with_what_it_is_for() {
    let said =
        tree().load_text("f", "[svc-one.nested]\n").unwrap().service::<SvcOne>().unwrap_err().to_string();
    for told in [
        "svc-one.rpc_listen: must be given: Where RPCs are taken",
        "svc-one.admin_listen: must be given",
        "svc-one.settings.data_dir: must be given",
        "svc-one.nested.depth: must be given: A depth that must be said.",
    ] {
        assert!(said.contains(told), "{told}:\n{said}");
    }
    assert!(tree().load_text("f", NEEDED).unwrap().service::<SvcOne>().is_ok());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let sources = mesh::config::Sources::new(Some("/nonexistent/p.toml".into()), []);
    let said = tree().load(&sources).unwrap_err().to_string();
    assert!(said.contains("/nonexistent/p.toml: cannot be read"), "{said}");
}
