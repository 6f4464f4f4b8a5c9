//! The router against a reference that says as plainly as can be which templates match a path and which
//! of them is the most exact. `PROPTEST_CASES=1000000 cargo test -p edge-gateway --test router` runs longer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails ends its test")]

use std::{collections::BTreeSet, fmt::Write as _};

use edge_gateway::transcode::{NoMatch, Overlap, Router, Segment, Template, compare};
use http::Method;
use proptest::prelude::*;

fn template() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        4 => Just("a"), 4 => Just("b"), 1 => Just("%61"), 4 => Just("*"), 1 => Just("{v}"), 1 => Just("{w=*}"),
    ];
    let tail =
        prop_oneof![6 => Just(""), 1 => Just("/**"), 1 => Just("/{rest=**}"), 1 => Just("/{deep=*/b}")];
    let verb = prop_oneof![4 => Just(""), 1 => Just(":go"), 1 => Just(":do")];
    (proptest::collection::vec(segment, 1..4), tail, verb)
        .prop_map(|(segments, tail, verb)| format!("/{}{tail}{verb}", segments.join("/")))
}

fn method() -> impl Strategy<Value = Option<Method>> {
    prop_oneof![4 => Just(Some(Method::GET)), 2 => Just(Some(Method::POST)), 1 => Just(None)]
}

/// A route, if its template is one: a variable may not be there twice.
fn parsed(routes: &[(Option<Method>, String)]) -> Vec<(Option<Method>, Template)> {
    let parse =
        |(method, text): &(Option<Method>, String)| Some((method.clone(), Template::parse(text).ok()?));
    routes.iter().filter_map(parse).collect()
}

fn matches(template: &Template, path: &[&str], verb: Option<&str>) -> bool {
    if template.verb.as_deref() != verb {
        return false;
    }
    let rest = template.segments.last() == Some(&Segment::Rest);
    let fixed = template.segments.len() - usize::from(rest);
    let length = if rest { path.len() >= fixed } else { path.len() == fixed };
    length
        && template.segments.iter().take(fixed).zip(path).all(|(segment, text)| match segment {
            Segment::Literal(literal) => literal == text,
            _ => !text.is_empty(),
        })
}

/// Less is more exact.
fn rank((method, template): &(Option<Method>, Template)) -> (Vec<u8>, bool) {
    let mut ranks: Vec<u8> = template
        .segments
        .iter()
        .map(|segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Any => 1,
            Segment::Rest => 3,
        })
        .collect();
    // Where a template ends, one that goes on with `**` is less exact.
    ranks.push(2);
    (ranks, method.is_none())
}

/// Every request of a small world: two methods and one that no route names, up to four segments.
fn world() -> Vec<(Method, Vec<&'static str>, Option<&'static str>)> {
    let mut paths: Vec<Vec<&str>> = vec![vec![]];
    let mut all = Vec::new();
    for _ in 0..4 {
        paths = paths
            .iter()
            .flat_map(|path| ["a", "b", "x"].map(|segment| [&path[..], &[segment]].concat()))
            .collect();
        all.extend(paths.iter().cloned());
    }
    let methods = [Method::GET, Method::POST, Method::PUT];
    methods
        .iter()
        .flat_map(|method| all.iter().map(|path| (method.clone(), path.clone(), None)))
        .chain(all.iter().take(12).map(|path| (Method::GET, path.clone(), Some("go"))))
        .collect()
}

proptest! {
    #[test]
    fn the_most_exact_template_that_matches_is_found(
        routes in proptest::collection::vec((method(), template()), 1..10),
        path in proptest::collection::vec(
            prop_oneof![4 => Just("a"), 4 => Just("b"), 2 => Just("x"), 1 => Just("")], 1..6),
        verb in prop_oneof![Just(None), Just(Some("go")), Just(Some("no"))],
        method in prop_oneof![Just(Method::GET), Just(Method::POST), Just(Method::PUT)],
    ) {
        let (mut router, mut added) = (Router::default(), Vec::new());
        for route in parsed(&routes) {
            if router.add(route.0.clone(), &route.1, added.len()).is_ok() {
                added.push(route);
            }
        }
        let suffix = verb.map(|verb| format!(":{verb}")).unwrap_or_default();
        let raw = format!("/{}{suffix}", path.join("/"));
        // Without a route for the verb it is a part of the last segment.
        let last = format!("{}{suffix}", path.last().unwrap());
        let whole = [&path[..path.len() - 1], &[last.as_str()]].concat();
        let best = |path: &[&str], verb: Option<&str>| {
            let fits = |route: &(Option<Method>, Template)| {
                matches(&route.1, path, verb) && route.0.as_ref().is_none_or(|of| *of == method)
            };
            let found = added.iter().enumerate().filter(|(_, route)| fits(route));
            found.min_by_key(|(_, route)| rank(route)).map(|(index, _)| index)
        };
        let with_verb = verb.and_then(|verb| best(&path, Some(verb)));
        let expected = with_verb.or_else(|| best(&whole, None));
        match router.find(&method, &raw) {
            Ok(found) => prop_assert_eq!(Some(found.target), expected, "{} {}", method, raw),
            Err(error) => {
                prop_assert_eq!(expected, None, "{} {}", method, raw);
                let others: BTreeSet<String> = added
                    .iter()
                    .filter(|(_, template)| {
                        matches(template, &whole, None) || verb.is_some_and(|verb| matches(template, &path, Some(verb)))
                    })
                    .filter_map(|(of, _)| Some(of.as_ref()?.to_string()))
                    .collect();
                let told: BTreeSet<String> = match error {
                    NoMatch::NotFound => BTreeSet::new(),
                    NoMatch::MethodNotAllowed(methods) => methods.iter().map(ToString::to_string).collect(),
                };
                prop_assert_eq!(told, others, "{} {}", method, raw);
            }
        }
    }

    /// Two routes are a conflict exactly where they meet in some request and neither one's requests are a
    /// part of the other's.
    #[test]
    fn a_conflict_is_where_chance_would_decide(first in (method(), template()), second in (method(), template())) {
        let routes = parsed(&[first, second]);
        prop_assume!(routes.len() == 2);
        let taken = |(method, template): &(Option<Method>, Template)| -> BTreeSet<usize> {
            let fits = |(of, path, verb): &(Method, Vec<&str>, Option<&str>)| {
                method.as_ref().is_none_or(|method| method == of) && matches(template, path, *verb)
            };
            world().iter().enumerate().filter(|(_, request)| fits(request)).map(|(index, _)| index).collect()
        };
        let (left, right) = (taken(&routes[0]), taken(&routes[1]));
        let expected = if left.is_disjoint(&right) {
            Overlap::Apart
        } else if left != right && left.is_subset(&right) {
            Overlap::FirstIsMoreExact
        } else if left != right && right.is_subset(&left) {
            Overlap::SecondIsMoreExact
        } else {
            Overlap::Conflict
        };
        // The small world has few requests with verbs, and none as long as `/*/*/*/*/b`.
        prop_assume!(routes.iter().all(|(_, template)| template.verb.is_none() && template.segments.len() <= 4));
        let (left, right) = (&routes[0], &routes[1]);
        prop_assert_eq!(compare((left.0.as_ref(), &left.1), (right.0.as_ref(), &right.1)), expected);
    }

    /// A capture is what the client encoded, whatever it encoded.
    #[test]
    fn what_is_encoded_is_captured(value in "\\PC{1,20}") {
        let mut router = Router::default();
        router.add(Some(Method::GET), &Template::parse("/v1/{one}/x").unwrap(), 0).unwrap();
        router.add(Some(Method::GET), &Template::parse("/v2/{several=**}").unwrap(), 1).unwrap();
        let mut encoded = String::new();
        for byte in value.bytes() {
            write!(encoded, "%{byte:02X}").unwrap();
        }
        let path = format!("/v1/{encoded}/x");
        prop_assert_eq!(&router.find(&Method::GET, &path).unwrap().captures[0], &value);
        // Over several segments an escaped slash stays escaped (google/api/http.proto).
        let path = format!("/v2/{encoded}");
        prop_assert_eq!(&router.find(&Method::GET, &path).unwrap().captures[0], &value.replace('/', "%2F"));
    }
}
