//! From a method and a path to one annotated RPC. Built once from all templates; two RPCs that
//! would answer the same requests are an error then, not a surprise later.
//!
//! A path whose last segment ends in a verb that some route has is tried with that verb first. Then, among
//! the templates that match, the most exact one wins (`overlap` says which that is, and sees to it that
//! there is one); where it lacks the method, the next one that has it is taken.

use std::{borrow::Cow, collections::HashMap};

use http::Method;

use super::{
    overlap::{self, Overlap},
    request::percent_decode,
    template::{Segment, Template, Variable},
};

/// Longer paths than this match nothing.
const SEGMENTS_MAX: usize = 32;

/// One way in.
#[derive(Debug)]
struct Entry {
    /// None: every method.
    method: Option<Method>,
    verb: Option<String>,
    target: usize,
    variables: Vec<Variable>,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, Node>,
    any: Option<Box<Node>>,
    /// Templates that end here.
    here: Vec<Entry>,
    /// Templates that end in `**` here.
    rest: Vec<Entry>,
}

/// All routes.
#[derive(Debug, Default)]
pub struct Router {
    root: Node,
    /// What was added, to find conflicts.
    added: Vec<(Option<Method>, Template, usize)>,
}

/// A route that was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Match<'p> {
    /// What was given to [`Router::add`].
    pub target: usize,
    /// The values of the variables, decoded, in the order of the template.
    pub captures: Vec<Cow<'p, str>>,
}

/// Why there is no route.
#[derive(Debug, PartialEq, Eq)]
pub enum NoMatch {
    /// No template matches the path.
    NotFound,
    /// The path has routes, but for these methods.
    MethodNotAllowed(Vec<Method>),
}

impl Router {
    /// Adds a route, for every method where there is none; where it is left to chance which of it and an
    /// earlier one answers a request, answers with that one's target.
    pub fn add(&mut self, method: Option<Method>, template: &Template, target: usize) -> Result<(), usize> {
        for (other, earlier, taken) in &self.added {
            let pair = ((other.as_ref(), earlier), (method.as_ref(), template));
            if overlap::compare(pair.0, pair.1) == Overlap::Conflict {
                return Err(*taken);
            }
        }
        self.added.push((method.clone(), template.clone(), target));
        let mut node = &mut self.root;
        let mut open = false;
        for segment in &template.segments {
            match segment {
                Segment::Literal(text) => node = node.literals.entry(text.clone()).or_default(),
                Segment::Any => node = node.any.get_or_insert_default(),
                Segment::Rest => open = true,
            }
        }
        let entries = if open { &mut node.rest } else { &mut node.here };
        let (verb, variables) = (template.verb.clone(), template.variables.clone());
        entries.push(Entry { method, verb, target, variables });
        Ok(())
    }

    /// The route of a request. `path` is the raw path, still percent-encoded.
    pub fn find<'p>(&self, method: &Method, path: &'p str) -> Result<Match<'p>, NoMatch> {
        let mut allowed = Vec::new();
        let found = path.strip_prefix('/').and_then(|rest| self.search(method, rest, &mut allowed));
        match found {
            Some(found) => Ok(found),
            None if allowed.is_empty() => Err(NoMatch::NotFound),
            None => {
                allowed.sort_by(|left: &Method, right| left.as_str().cmp(right.as_str()));
                allowed.dedup();
                Err(NoMatch::MethodNotAllowed(allowed))
            }
        }
    }

    fn search<'p>(&self, method: &Method, rest: &'p str, allowed: &mut Vec<Method>) -> Option<Match<'p>> {
        // A colon in the last segment may begin a verb or be part of a value: the verb comes first.
        if let Some((stem, verb)) = rest.rsplit_once(':').filter(|(_, verb)| !verb.contains('/'))
            && let Some(verb) = percent_decode(verb, |_| true)
        {
            let mut search = Search { method, verb: Some(&verb), raw: split(stem)?, allowed };
            if let Some(found) = search.node(&self.root, 0) {
                return Some(found);
            }
        }
        Search { method, verb: None, raw: split(rest)?, allowed }.node(&self.root, 0)
    }
}

fn split(path: &str) -> Option<Vec<&str>> {
    let segments: Vec<&str> = path.split('/').take(SEGMENTS_MAX + 1).collect();
    (segments.len() <= SEGMENTS_MAX).then_some(segments)
}

struct Search<'a, 'p> {
    method: &'a Method,
    verb: Option<&'a str>,
    raw: Vec<&'p str>,
    allowed: &'a mut Vec<Method>,
}

impl<'p> Search<'_, 'p> {
    fn node(&mut self, node: &Node, depth: usize) -> Option<Match<'p>> {
        if let Some(segment) = self.raw.get(depth).copied() {
            let text = percent_decode(segment, |_| true)?;
            if let Some(next) = node.literals.get(text.as_ref())
                && let Some(found) = self.node(next, depth + 1)
            {
                return Some(found);
            }
            if let Some(next) = &node.any
                && !text.is_empty()
                && let Some(found) = self.node(next, depth + 1)
            {
                return Some(found);
            }
        } else if let Some(found) = self.entry(&node.here) {
            return Some(found);
        }
        self.entry(&node.rest)
    }

    fn entry(&mut self, entries: &[Entry]) -> Option<Match<'p>> {
        let mut found: Option<&Entry> = None;
        for entry in entries.iter().filter(|entry| entry.verb.as_deref() == self.verb) {
            match &entry.method {
                Some(method) if method == self.method => found = Some(entry),
                Some(method) => self.allowed.push(method.clone()),
                None => found = found.or(Some(entry)),
            }
        }
        let entry = found?;
        let captures: Option<Vec<_>> =
            entry.variables.iter().map(|variable| self.capture(variable)).collect();
        Some(Match { target: entry.target, captures: captures? })
    }

    fn capture(&self, variable: &Variable) -> Option<Cow<'p, str>> {
        let segments = self.raw.get(variable.start..variable.end.min(self.raw.len())).unwrap_or_default();
        match segments {
            [one] if !variable.is_multi() => percent_decode(one, |_| true),
            // Over several segments a slash that was escaped must not become a separator.
            several => {
                Some(Cow::Owned(percent_decode(&several.join("/"), |byte| byte != b'/')?.into_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn router(templates: &[(Method, &str)]) -> Router {
        let mut router = Router::default();
        for (target, (method, template)) in templates.iter().enumerate() {
            router.add(Some(method.clone()), &Template::parse(template).unwrap(), target).unwrap();
        }
        router
    }

    fn sample() -> Router {
        router(&[
            (Method::GET, "/v1/payments"),
            (Method::POST, "/v1/payments"),
            (Method::GET, "/v1/payments/{id}"),
            (Method::POST, "/v1/payments/{id}/capture"),
            (Method::GET, "/v1/payments/special"),
            (Method::POST, "/v1/payments/{id}:cancel"),
            (Method::GET, "/v1/{name=shelves/*/books/*}/pages/{page}"),
            (Method::GET, "/v1/files/{path=**}"),
            (Method::DELETE, "/v1/*/special"),
        ])
    }

    #[test]
    fn the_table_of_paths() {
        let router = sample();
        let cases: &[(Method, &str, usize, &[&str])] = &[
            (Method::GET, "/v1/payments", 0, &[]),
            (Method::POST, "/v1/payments", 1, &[]),
            (Method::GET, "/v1/payments/pay_1", 2, &["pay_1"]),
            (Method::POST, "/v1/payments/pay_1/capture", 3, &["pay_1"]),
            (Method::GET, "/v1/payments/special", 4, &[]),
            (Method::POST, "/v1/payments/pay_1:cancel", 5, &["pay_1"]),
            (Method::GET, "/v1/payments/a:b", 2, &["a:b"]),
            (Method::POST, "/v1/payments/pay_1:c%61ncel", 5, &["pay_1"]),
            (Method::POST, "/v1/payments/a:b:cancel", 5, &["a:b"]),
            (Method::GET, "/v1/payments/a%3Acancel", 2, &["a:cancel"]),
            (Method::GET, "/v1/payments/%E2%82%AC", 2, &["€"]),
            (Method::GET, "/v1/payments/+", 2, &["+"]),
            (Method::GET, "/v1/files/a%2Fb/%c3%a9", 7, &["a%2Fb/é"]),
            (Method::GET, "/v1/files/a%2Fb", 7, &["a%2Fb"]),
            (Method::GET, "/v1/payments/a%2Fb%20c", 2, &["a/b c"]),
            (Method::GET, "/v1/p%61yments/x", 2, &["x"]),
            (Method::GET, "/v1/shelves/1/books/2/pages/3", 6, &["shelves/1/books/2", "3"]),
            (Method::GET, "/v1/shelves/a%2fb/books/%41/pages/3", 6, &["shelves/a%2fb/books/A", "3"]),
            (Method::GET, "/v1/files/a/b/c", 7, &["a/b/c"]),
            (Method::GET, "/v1/files", 7, &[""]),
            // The literal has no DELETE; the wildcard has.
            (Method::DELETE, "/v1/payments/special", 8, &[]),
        ];
        for (method, path, target, captures) in cases {
            let captures = captures.iter().map(|text| Cow::Borrowed(*text)).collect();
            assert_eq!(router.find(method, path), Ok(Match { target: *target, captures }), "{method} {path}");
        }
    }

    #[test]
    fn not_found_differs_from_not_allowed() {
        let router = sample();
        for path in [
            "",
            "/",
            "/v1",
            "/v2/payments",
            "/v1/payments/",
            "/v1//x",
            "/v1/payments/a/b",
            "/v1/payments/%zz",
        ] {
            assert_eq!(router.find(&Method::GET, path), Err(NoMatch::NotFound), "{path}");
        }
        let deep = format!("/v1/files{}", "/x".repeat(64));
        assert_eq!(router.find(&Method::GET, &deep), Err(NoMatch::NotFound));
        let allowed = |path| match router.find(&Method::PATCH, path) {
            Err(NoMatch::MethodNotAllowed(methods)) => {
                methods.iter().map(Method::to_string).collect::<Vec<_>>().join(",")
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(allowed("/v1/payments"), "GET,POST");
        assert_eq!(allowed("/v1/payments/special"), "DELETE,GET");
        assert_eq!(allowed("/v1/payments/x:cancel"), "GET,POST");
    }

    #[test]
    fn the_same_requests_twice_are_a_conflict() {
        let mut router = sample();
        let mut add = |method, text| router.add(Some(method), &Template::parse(text).unwrap(), 99);
        assert_eq!(add(Method::GET, "/v1/payments/{other}"), Err(2));
        assert_eq!(add(Method::GET, "/v1/payments/*"), Err(2));
        assert_eq!(add(Method::GET, "/v1/files/**"), Err(7));
        assert_eq!(add(Method::POST, "/v1/payments/{x}:cancel"), Err(5));
        assert_eq!(add(Method::GET, "/v1/shops/{x}/extra"), Ok(()));
        assert_eq!(
            add(Method::GET, "/v1/{x}/special/extra"),
            Err(7),
            "both would take /v1/files/special/extra"
        );
        assert_eq!(add(Method::DELETE, "/v1/payments/{id}"), Err(8), "both would take /v1/payments/special");
        assert_eq!(add(Method::PUT, "/v1/payments/{other}"), Ok(()));
        assert_eq!(add(Method::POST, "/v1/payments/{x}:refund"), Ok(()));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(path in "\\PC*") {
            let _ = sample().find(&Method::GET, &path);
        }
    }
}
