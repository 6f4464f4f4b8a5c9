//! A random configuration survives being written as a file, and as variables, and being read again.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::services::{Form, Mode, NEEDED, Nested, One, Person, SvcOne, load, tree};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,12}", "[a-z]{1,8}", Just("\"quoted\" \\ 'and' # not\n\ta \u{7f} comment".to_owned())]
}

fn one() -> impl Strategy<Value = One> {
    let person = (text(), proptest::option::of(text())).prop_map(|(name, print)| Person {
        name,
        print,
        key_file: None,
    });
    let form = prop_oneof![
        any::<u16>().prop_map(|at| Form::Fixed { at }),
        any::<(u16, u16)>().prop_map(|(from, to)| Form::Free { from, to })
    ];
    let simple = (1_u32..=100, any::<bool>(), text(), proptest::option::of(any::<std::net::SocketAddr>()));
    let mode = prop_oneof![Just(Mode::Slow), Just(Mode::Fast)];
    let nested = proptest::option::of(any::<u8>().prop_map(|depth| Nested { depth }));
    let many = (
        proptest::collection::vec(text(), 0..4),
        proptest::collection::btree_map("[a-z_]{1,6}", any::<i64>(), 0..4),
        proptest::collection::vec(person, 0..3),
    );
    (simple, mode, nested, many, form).prop_map(|(simple, mode, nested, many, form)| {
        let (limit_max, on, label, peer) = simple;
        // An IPv6 address with a flow or scope has no text of its own.
        let peer = peer.map(|peer| (peer.ip(), peer.port()).into());
        let (tags, weights, people) = many;
        One { limit_max, on, label, peer, mode, tags, weights, people, nested, form, pepper_file: None }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn through_a_file(one in one()) {
        let own = toml::Table::try_from(&one).unwrap();
        let file = toml::to_string(&BTreeMap::from([("svc-one", own)])).unwrap();
        let needed: toml::Table = NEEDED.parse().unwrap();
        let mut whole: toml::Table = file.parse().unwrap();
        let table = whole["svc-one"].as_table_mut().unwrap();
        table.extend(needed["svc-one"].as_table().unwrap().clone());
        let loaded = tree().load_text("f", &toml::to_string(&whole).unwrap()).unwrap();
        prop_assert_eq!(&loaded.service::<SvcOne>().unwrap().1, &one);

        // And through the example, which writes what it was given.
        let again = tree().load_text("example", &loaded.example()).unwrap();
        prop_assert_eq!(again.service::<SvcOne>().unwrap().1, one);
    }

    #[test]
    fn through_variables(one in one()) {
        let own = toml::Table::try_from(&one).unwrap();
        let variables: Vec<(String, String)> = own
            .iter()
            .map(|(key, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (format!("PAYMESH_SVC_ONE__{}", key.to_uppercase()), text)
            })
            .collect();
        let variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let loaded = load(NEEDED, &variables, &[]);
        prop_assert_eq!(loaded.service::<SvcOne>().unwrap().1, one);
    }
}
