//! `config explain`: each setting with its value and where it came from; nothing that is not to be shown.

use serde_json::json;

use crate::services::{NEEDED, load};

#[test]
fn one_setting_is_explained_in_full() {
    let loaded = load(NEEDED, &[("PAYMESH_SVC_ONE__LIMIT_MAX", "20")], &[]);
    let entries = loaded.explain(Some("svc-one.limit_max")).unwrap();
    let full = entries[0].full();
    for told in [
        "svc-one.limit_max = 20",
        "type      integer, 1 to 100",
        "default   10",
        "from      environment PAYMESH_SVC_ONE__LIMIT_MAX",
        "A limit. It limits nothing.",
    ] {
        assert!(full.contains(told), "{told}\n{full}");
    }
    let mode = &load("", &[], &[]).explain(Some("svc-one.mode")).unwrap()[0];
    assert_eq!(mode.value, Some(json!("slow")));
    assert_eq!(mode.origin, "default");
    assert!(mode.full().contains("fast: Fast."), "{}", mode.full());
}

#[test]
fn a_value_of_the_common_table_is_shown_where_it_holds() {
    let loaded = load(&format!("[mesh.telemetry]\nlog = \"debug\"\n{NEEDED}"), &[], &[]);
    let entry = &loaded.explain(Some("svc-one.telemetry.log")).unwrap()[0];
    assert_eq!(entry.value, Some(json!("debug")));
    assert!(entry.origin.ends_with("paymesh.toml:2:1"), "{}", entry.origin);
    let all = loaded.explain(None).unwrap();
    let paths: Vec<&str> = all.iter().map(|entry| entry.path.as_str()).collect();
    for path in ["mesh.telemetry.log", "svc-one.limit_max", "svc-one.settings.data_dir"] {
        assert_eq!(paths.iter().filter(|other| **other == path).count(), 1, "{path}");
    }
    assert!(!paths.contains(&"svc-one.telemetry.log"), "said once, in the common table");
    let missing = loaded.explain(Some("svc-two.rpc_listen")).unwrap();
    assert_eq!(missing[0].origin, "missing");
}

#[test]
fn what_is_hidden_is_never_shown() {
    let file = "svc-one.people = [{ name = \"a\", print = \"s3cret\", key_file = \"k\" }]";
    let entries = load(file, &[], &[]).explain(Some("svc-one.people")).unwrap();
    let json = serde_json::to_string(&entries).unwrap();
    assert!(json.contains("(not shown)") && json.contains("\"k\"") && !json.contains("s3cret"), "{json}");
    assert!(!entries[0].full().contains("s3cret"));
}

#[test]
fn a_path_that_is_none_is_refused_with_a_suggestion() {
    let said = load("", &[], &[]).explain(Some("svc-one.limit")).unwrap_err().to_string();
    assert!(said.contains("svc-one.limit: unknown; did you mean limit_max?"), "{said}");
}
