//! Whether two routes can meet in one request, and which of them then says more exactly what it means.
//!
//! Exactness is compared segment by segment: a literal is more exact than `*`, `*` than `**`; one HTTP
//! method is more exact than every method. Two routes that meet, where neither is the more exact in all
//! that they differ in (`/a/*` and `/*/b`), would leave it to chance which one answers.

use http::Method;

use super::template::{Segment, Template};

/// How two routes stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// No request matches both.
    Apart,
    /// All that matches the first matches the second too.
    FirstIsMoreExact,
    /// All that matches the second matches the first too.
    SecondIsMoreExact,
    /// Some requests match both, and neither is more exact: also where they are the same.
    Conflict,
}

/// Compares two routes; a method of `None` is every method. A verb is part of the comparison only in
/// that two different ones never meet: which request has a verb is decided before.
pub fn compare(first: (Option<&Method>, &Template), second: (Option<&Method>, &Template)) -> Overlap {
    if first.1.verb != second.1.verb {
        return Overlap::Apart;
    }
    let (mut first_is, mut second_is) = (false, false);
    match (first.0, second.0) {
        (Some(left), Some(right)) if left != right => return Overlap::Apart,
        (Some(_), None) => first_is = true,
        (None, Some(_)) => second_is = true,
        _ => {}
    }
    let (left, right) = (&first.1.segments, &second.1.segments);
    let mut at = 0;
    loop {
        match (left.get(at), right.get(at)) {
            (Some(Segment::Rest), Some(Segment::Rest)) | (None, None) => break,
            (_, Some(Segment::Rest)) => {
                first_is = true;
                break;
            }
            (Some(Segment::Rest), _) => {
                second_is = true;
                break;
            }
            (None, Some(_)) | (Some(_), None) => return Overlap::Apart,
            (Some(Segment::Literal(left)), Some(Segment::Literal(right))) if left != right => {
                return Overlap::Apart;
            }
            (Some(Segment::Literal(_)), Some(Segment::Any)) => first_is = true,
            (Some(Segment::Any), Some(Segment::Literal(_))) => second_is = true,
            _ => {}
        }
        at += 1;
    }
    match (first_is, second_is) {
        (true, false) => Overlap::FirstIsMoreExact,
        (false, true) => Overlap::SecondIsMoreExact,
        _ => Overlap::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_pairs() {
        use Overlap::{Apart, Conflict, FirstIsMoreExact, SecondIsMoreExact};
        for (first, second, expected) in [
            ("GET /a", "GET /b", Apart),
            ("GET /a", "POST /a", Apart),
            ("GET /a", "GET /a/b", Apart),
            ("GET /a/*", "GET /a", Apart),
            ("GET /a:x", "GET /a:y", Apart),
            ("GET /a:x", "GET /a", Apart),
            ("GET /a/*/c", "GET /a/*/d", Apart),
            ("GET /a/x", "GET /a/{id}", FirstIsMoreExact),
            ("GET /a/{id}", "GET /a/**", FirstIsMoreExact),
            ("GET /a", "GET /a/**", FirstIsMoreExact),
            ("GET /a/b/**", "GET /a/**", FirstIsMoreExact),
            ("GET /a", "* /a", FirstIsMoreExact),
            ("* /**", "GET /a", SecondIsMoreExact),
            ("GET /{x}/b", "GET /a/b", SecondIsMoreExact),
            // The same, in other words.
            ("GET /a/{x}", "GET /a/{y}", Conflict),
            ("GET /a/{x}", "GET /{y=a/*}", Conflict),
            ("GET /a/b", "GET /{y=a/b}", Conflict),
            ("GET /a/%62", "GET /a/b", Conflict),
            ("GET /a/{x=**}", "GET /a/**", Conflict),
            ("* /a", "* /a", Conflict),
            // They meet in /a/b.
            ("GET /a/*", "GET /*/b", Conflict),
            ("GET /a/**", "GET /*/b", Conflict),
            ("GET /a/{x}", "* /a/b", Conflict),
            ("GET /*/b/**", "GET /a/*", Conflict),
        ] {
            let parse = |text: &str| {
                let (method, path) = text.split_once(' ').unwrap();
                let method = (method != "*").then(|| method.parse::<Method>().unwrap());
                (method, Template::parse(path).unwrap())
            };
            let (left, right) = (parse(first), parse(second));
            let found = compare((left.0.as_ref(), &left.1), (right.0.as_ref(), &right.1));
            assert_eq!(found, expected, "{first} and {second}");
            let mirrored = match expected {
                FirstIsMoreExact => SecondIsMoreExact,
                SecondIsMoreExact => FirstIsMoreExact,
                same => same,
            };
            let found = compare((right.0.as_ref(), &right.1), (left.0.as_ref(), &left.1));
            assert_eq!(found, mirrored, "{second} and {first}");
        }
    }
}
