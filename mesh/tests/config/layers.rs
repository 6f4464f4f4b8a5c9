//! Which layer wins, and what a service gets.

use mesh::config::{Sources, Tree};

use crate::services::{Form, Mode, NEEDED, One, SvcOne, load, sources, tree};

#[test]
fn a_later_layer_wins_and_the_rest_stays() {
    let file = format!("{NEEDED}\n[mesh.settings]\nin_flight_max = 2\nreflection = true\n");
    let limit = |variables: &[(&str, &str)], flags: &[(&[&str], &str)]| {
        let (mesh, _) = load(&file, variables, flags).service::<SvcOne>().unwrap();
        assert!(mesh.settings.reflection, "what a later layer does not name stays");
        assert_eq!(mesh.settings.data_dir.to_str(), Some("one"));
        mesh.settings.in_flight_max
    };
    let common = ("PAYMESH_MESH__SETTINGS__IN_FLIGHT_MAX", "3");
    let own = ("PAYMESH_SVC_ONE__SETTINGS__IN_FLIGHT_MAX", "4");
    let flag: (&[&str], &str) = (&["svc-one", "settings", "in_flight_max"], "5");
    assert_eq!(load(NEEDED, &[], &[]).service::<SvcOne>().unwrap().0.settings.in_flight_max, 8_192);
    assert_eq!(limit(&[], &[]), 2);
    assert_eq!(limit(&[common], &[]), 3);
    assert_eq!(limit(&[common, own], &[]), 4, "a service's own table is over the common one");
    assert_eq!(limit(&[common, own], &[flag]), 5);
}

#[test]
fn what_the_command_starts_from_is_below_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = NEEDED.replace("[svc-one]", "[svc-one]\nlabel = \"file\"");
    let mut sources = sources(dir.path(), &file, &[], &[]);
    sources.supply("test", &["svc-one", "label"], "supplied");
    sources.supply("test", &["svc-one", "limit_max"], 7);
    let (_, one) = tree().load(&sources).unwrap().service::<SvcOne>().unwrap();
    assert_eq!((one.label.as_str(), one.limit_max), ("file", 7));
}

#[test]
fn variables_have_the_type_that_the_tree_says() {
    let variables = [
        ("PAYMESH_SVC_ONE__LABEL", "5"),
        ("PAYMESH_SVC_ONE__ON", "true"),
        ("PAYMESH_SVC_ONE__LIMIT_MAX", "5"),
        ("PAYMESH_SVC_ONE__MODE", "fast"),
        ("PAYMESH_SVC_ONE__TAGS", "[\"a\", \"b\"]"),
        ("PAYMESH_SVC_ONE__WEIGHTS", "{ x = 1 }"),
        ("PAYMESH_SVC_ONE__WEIGHTS__Y", "2"),
        ("PAYMESH_SVC_ONE__FORM", "{ kind = \"free\", from = 1, to = 2 }"),
        ("PAYMESH_SVC_ONE__SETTINGS__UPSTREAMS__SVC_TWO", "two:1"),
        ("PAYMESH_SERVICE_HOST", "10.0.0.1"),
        ("PAYMESH_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    let (mesh, one) = load(NEEDED, &variables, &[]).service::<SvcOne>().unwrap();
    let expected = One {
        label: "5".into(),
        on: true,
        limit_max: 5,
        mode: Mode::Fast,
        tags: vec!["a".into(), "b".into()],
        weights: [("x".to_owned(), 1), ("y".to_owned(), 2)].into(),
        form: Form::Free { from: 1, to: 2 },
        ..One::default()
    };
    assert_eq!(one, expected);
    assert_eq!(mesh.settings.upstreams["svc-two"], "two:1", "a free key is spelled as the service is");
}

#[test]
fn a_service_of_its_own_reads_past_the_tables_of_others() {
    let file = format!("{NEEDED}\n[svc-three]\nwhatever = 1\n");
    let loaded = Tree::only::<SvcOne>().load_text("paymesh.toml", &file).unwrap();
    assert!(loaded.service::<SvcOne>().is_ok());
    let misspelled = NEEDED.replace("svc-one", "svc-oen");
    let said = Tree::only::<SvcOne>().load_text("f", &misspelled).unwrap_err().to_string();
    assert!(said.contains("svc-oen: unknown; did you mean svc-one?"), "{said}");
    let sources = Sources::new(None, [("PAYMESH_SVC_THREE__WHATEVER".into(), "1".into())]);
    assert!(Tree::only::<SvcOne>().load(&sources).is_ok());
    assert!(tree().load(&sources).is_err(), "who knows all services knows that there is no such one");
}
