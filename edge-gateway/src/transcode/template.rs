//! Path templates as google.api.http writes them (google/api/http.proto, "Path template syntax"):
//! `/v1/{name=shelves/*}/books/{id}:archive`.
//!
//! Knows neither messages nor methods: a variable is a dotted name over a range of segments.

use std::fmt;

use super::request::percent_decode;

/// One segment of a template, with the variables flattened away.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Exactly this text, percent-decoded.
    Literal(String),
    /// `*`: one segment that is not empty.
    Any,
    /// `**`: all that is left, also nothing. Only at the end.
    Rest,
}

/// A field that takes its value from the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// The field, dotted where nested.
    pub field: String,
    /// Its first segment.
    pub start: usize,
    /// One after its last segment; `usize::MAX` where it ends in `**`.
    pub end: usize,
}

impl Variable {
    /// Whether the value may span segments; then `%2F` inside stays escaped.
    pub fn is_multi(&self) -> bool {
        self.end == usize::MAX || self.end - self.start > 1
    }
}

/// A parsed path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The segments, in order.
    pub segments: Vec<Segment>,
    /// The part after the last `:`.
    pub verb: Option<String>,
    /// What is captured.
    pub variables: Vec<Variable>,
}

/// Why a template was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It must begin with a slash.
    #[error("must begin with '/'")]
    NoLeadingSlash,
    /// Two slashes in a row, or one at the end.
    #[error("has an empty segment")]
    EmptySegment,
    /// Brackets that do not match, or a bracket within a variable.
    #[error("has brackets that do not match")]
    Brackets,
    /// A variable's name is not a dotted field name.
    #[error("has a variable whose name is not a field path")]
    VariableName,
    /// The same field twice.
    #[error("captures the field {0} twice")]
    VariableTwice(String),
    /// `**` in the middle.
    #[error("has '**' before its end")]
    RestNotLast,
    /// A character that has to be escaped, or `*` within a literal.
    #[error("has a literal with a character that cannot be in a path segment")]
    Literal,
    /// A colon with nothing after it.
    #[error("has an empty verb")]
    EmptyVerb,
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let rest = text.strip_prefix('/').ok_or(TemplateError::NoLeadingSlash)?;
        let (path, verb) = split_verb(rest)?;
        let mut template = Self { segments: Vec::new(), verb, variables: Vec::new() };
        for part in split_outside_brackets(path)? {
            template.part(part)?;
        }
        let last = template.segments.len().saturating_sub(1);
        if template.segments.iter().take(last).any(|segment| *segment == Segment::Rest) {
            return Err(TemplateError::RestNotLast);
        }
        Ok(template)
    }

    fn part(&mut self, part: &str) -> Result<(), TemplateError> {
        let Some(inner) = part.strip_prefix('{') else {
            self.segments.push(segment(part)?);
            return Ok(());
        };
        let inner = inner.strip_suffix('}').ok_or(TemplateError::Brackets)?;
        let (field, pattern) = inner.split_once('=').unwrap_or((inner, "*"));
        if !field.split('.').all(is_identifier) {
            return Err(TemplateError::VariableName);
        }
        if self.variables.iter().any(|variable| variable.field == field) {
            return Err(TemplateError::VariableTwice(field.to_owned()));
        }
        let start = self.segments.len();
        for part in pattern.split('/') {
            self.segments.push(segment(part)?);
        }
        let open = self.segments.last() == Some(&Segment::Rest);
        let end = if open { usize::MAX } else { self.segments.len() };
        self.variables.push(Variable { field: field.to_owned(), start, end });
        Ok(())
    }
}

fn split_verb(path: &str) -> Result<(&str, Option<String>), TemplateError> {
    // A colon inside a variable's pattern belongs to the pattern; the verb follows the last bracket.
    let after_brackets = path.rfind('}').map_or(0, |at| at + 1);
    let after_slash = path.rfind('/').map_or(0, |at| at + 1);
    let from = after_brackets.max(after_slash);
    let Some(colon) = path[from..].rfind(':') else { return Ok((path, None)) };
    let (path, verb) = (&path[..from + colon], &path[from + colon + 1..]);
    if verb.is_empty() {
        return Err(TemplateError::EmptyVerb);
    }
    Ok((path, Some(literal(verb)?)))
}

fn split_outside_brackets(path: &str) -> Result<Vec<&str>, TemplateError> {
    let (mut parts, mut from, mut inside) = (Vec::new(), 0, false);
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            b'{' if inside => return Err(TemplateError::Brackets),
            b'{' => inside = true,
            b'}' if !inside => return Err(TemplateError::Brackets),
            b'}' => inside = false,
            b'/' if !inside => {
                parts.push(&path[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(TemplateError::Brackets);
    }
    parts.push(&path[from..]);
    Ok(parts)
}

fn segment(text: &str) -> Result<Segment, TemplateError> {
    match text {
        "" => Err(TemplateError::EmptySegment),
        "*" => Ok(Segment::Any),
        "**" => Ok(Segment::Rest),
        _ if text.contains(['{', '}']) => Err(TemplateError::Brackets),
        _ => Ok(Segment::Literal(literal(text)?)),
    }
}

/// A literal: reserved characters come percent-encoded, as they do in a request.
fn literal(text: &str) -> Result<String, TemplateError> {
    let legal = |byte| is_plain(byte) || byte == b'%';
    let decoded = percent_decode(text, |_| true).filter(|_| text.bytes().all(legal));
    decoded.map(std::borrow::Cow::into_owned).ok_or(TemplateError::Literal)
}

/// What a segment may hold as it is: `unreserved` and those `sub-delims` that mean nothing in a template
/// (RFC 3986, section 2).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;@".contains(&byte)
}

/// A literal as it stands in a path.
fn write_literal(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for byte in text.bytes() {
        if is_plain(byte) {
            write!(f, "{}", char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl fmt::Display for Template {
    /// As OpenAPI writes a path: a variable of one segment is `{name}`, one of several is spelled
    /// out with a name per wildcard.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            f.write_str("/")?;
            match segment {
                Segment::Literal(text) => write_literal(f, text)?,
                Segment::Any | Segment::Rest => write!(f, "{{{}}}", self.parameter(index))?,
            }
        }
        match &self.verb {
            Some(verb) => {
                f.write_str(":")?;
                write_literal(f, verb)
            }
            None => Ok(()),
        }
    }
}

impl Template {
    /// The name that documentation gives to the wildcard at this segment.
    pub fn parameter(&self, index: usize) -> String {
        let holder = self.variables.iter().find(|variable| (variable.start..variable.end).contains(&index));
        match holder {
            Some(variable) => {
                let wild = |at: &usize| !matches!(self.segments[*at], Segment::Literal(_));
                let end = variable.end.min(self.segments.len());
                if (variable.start..end).filter(wild).count() == 1 {
                    variable.field.clone()
                } else {
                    let number = (variable.start..=index).filter(wild).count();
                    format!("{}_{number}", variable.field)
                }
            }
            None => format!("segment_{}", index + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Segment {
        Segment::Literal(text.to_owned())
    }

    #[test]
    fn every_form_parses() {
        let captured = |field: &str, start, end| Variable { field: field.to_owned(), start, end };
        let cases = [
            ("/v1/payments", vec![literal("v1"), literal("payments")], None, vec![]),
            ("/v1/{id}", vec![literal("v1"), Segment::Any], None, vec![captured("id", 1, 2)]),
            (
                "/v1/{name=a/*/b}/c",
                vec![literal("v1"), literal("a"), Segment::Any, literal("b"), literal("c")],
                None,
                vec![captured("name", 1, 4)],
            ),
            ("/v1/*/x", vec![literal("v1"), Segment::Any, literal("x")], None, vec![]),
            (
                "/v1/{path=**}",
                vec![literal("v1"), Segment::Rest],
                None,
                vec![captured("path", 1, usize::MAX)],
            ),
            (
                "/v1/{a.b_c}:cancel",
                vec![literal("v1"), Segment::Any],
                Some("cancel"),
                vec![captured("a.b_c", 1, 2)],
            ),
            ("/v1/files:scan", vec![literal("v1"), literal("files")], Some("scan"), vec![]),
            ("/v1/**", vec![literal("v1"), Segment::Rest], None, vec![]),
            ("/**", vec![Segment::Rest], None, vec![]),
            ("/v1/{a=b}/*", vec![literal("v1"), literal("b"), Segment::Any], None, vec![captured("a", 1, 2)]),
            (
                "/v1/{a=x/**}:go",
                vec![literal("v1"), literal("x"), Segment::Rest],
                Some("go"),
                vec![captured("a", 1, usize::MAX)],
            ),
            ("/v1/a%20b/@me:%C3%A9", vec![literal("v1"), literal("a b"), literal("@me")], Some("é"), vec![]),
        ];
        for (text, segments, verb, variables) in cases {
            let expected = Template { segments, verb: verb.map(str::to_owned), variables };
            assert_eq!(Template::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_template_is_refused_with_its_cause() {
        use TemplateError as E;
        let cases = [
            ("", E::NoLeadingSlash),
            ("v1", E::NoLeadingSlash),
            ("/", E::EmptySegment),
            ("/v1/", E::EmptySegment),
            ("/v1//x", E::EmptySegment),
            ("/v1/{id", E::Brackets),
            ("/v1/id}", E::Brackets),
            ("/v1/{a{b}}", E::Brackets),
            ("/v1/x{id}", E::Brackets),
            ("/v1/{}", E::VariableName),
            ("/v1/{1a}", E::VariableName),
            ("/v1/{a..b}", E::VariableName),
            ("/v1/{id}/{id}", E::VariableTwice("id".into())),
            ("/v1/**/x", E::RestNotLast),
            ("/v1/{a=**}/x", E::RestNotLast),
            ("/v1/a b", E::Literal),
            ("/v1/a*", E::Literal),
            ("/v1/***", E::Literal),
            ("/v1/x:", E::EmptyVerb),
            ("/v1/{a=}", E::EmptySegment),
            ("/v1/%zz", E::Literal),
            ("/v1/%ff", E::Literal),
            ("/v1/a?b", E::Literal),
            ("/v1/a#b", E::Literal),
            ("/v1/a:b/c", E::Literal),
            ("/v1/x:a:b", E::Literal),
            ("/v1/{a=x/{b}}", E::Brackets),
        ];
        for (text, error) in cases {
            assert_eq!(Template::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn documentation_shows_one_name_per_wildcard() {
        let shown = |text| Template::parse(text).unwrap().to_string();
        assert_eq!(shown("/v1/{id}/x:go"), "/v1/{id}/x:go");
        assert_eq!(shown("/v1/{name=a/*/b/*}"), "/v1/a/{name_1}/b/{name_2}");
        assert_eq!(shown("/v1/{name=a/**}"), "/v1/a/{name}");
        assert_eq!(shown("/v1/*"), "/v1/{segment_2}");
        assert_eq!(shown("/v1/a%2fb/@me:%C3%A9"), "/v1/a%2Fb/@me:%C3%A9");
    }
}
