//! Rust source with its comments and literals blanked, so that a rule about code is not set off by
//! what is said about code.

/// The same lines and columns; comments, and what stands between quotes, become spaces.
pub(super) fn code_only(source: &str) -> String {
    let mut scanner = Scanner { rest: source, out: String::with_capacity(source.len()), after_word: false };
    while !scanner.rest.is_empty() {
        scanner.step();
    }
    scanner.out
}

struct Scanner<'a> {
    rest: &'a str,
    out: String,
    /// The last character could be a part of a name, so an `r` here does not start a literal.
    after_word: bool,
}

impl Scanner<'_> {
    fn step(&mut self) {
        let literal = if self.after_word { None } else { prefixed_literal(self.rest) };
        if self.rest.starts_with("//") {
            self.blank(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.blank(block_comment(self.rest));
        } else if let Some(length) = literal {
            self.blank(length);
        } else if self.rest.starts_with('"') {
            self.blank(string(self.rest));
        } else if let Some(length) = character(self.rest) {
            self.blank(length);
        } else {
            self.keep();
        }
    }

    fn keep(&mut self) {
        let mut characters = self.rest.chars();
        if let Some(c) = characters.next() {
            self.after_word = is_word(c);
            self.out.push(c);
        }
        self.rest = characters.as_str();
    }

    fn blank(&mut self, length: usize) {
        let (blanked, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.out.extend(blanked.chars().map(|c| if c == '\n' { c } else { ' ' }));
        self.rest = rest;
        self.after_word = false;
    }
}

/// Whether a character can be a part of a name.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a string with escapes, from its opening quote.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a literal that starts with a letter: `r"…"`, `br#"…"#`, `b"…"`, `c"…"`, `b'…'`.
fn prefixed_literal(text: &str) -> Option<usize> {
    for prefix in ["br", "cr", "r"] {
        let Some(rest) = text.strip_prefix(prefix) else { continue };
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let Some(body) = rest.get(hashes..).and_then(|rest| rest.strip_prefix('"')) else { continue };
        let end = format!("\"{}", "#".repeat(hashes));
        let start = prefix.len() + hashes + 1;
        return Some(body.find(&end).map_or(text.len(), |at| start + at + end.len()));
    }
    let rest = text.strip_prefix(['b', 'c'])?;
    if rest.starts_with('"') {
        return Some(1 + string(rest));
    }
    character(rest).map(|length| 1 + length)
}

/// The length of a character literal; nothing for a lifetime.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let mut characters = body.char_indices();
    let (_, first) = characters.next()?;
    if first == '\\' {
        let (after, _) = characters.nth(1)?;
        return body.get(after - 1..)?.find('\'').map(|at| after + at + 1);
    }
    let (at, second) = characters.next()?;
    (second == '\'').then_some(at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let source = "let a = 1; // f64\n/* f64 /* f64 */\nf64 */ let b = \"f64 \\\" f64\";\nlet c = r#\"f64 \" f64\"#;";
        let code = code_only(source);
        assert!(!code.contains("f64"), "{code}");
        assert_eq!(code.lines().count(), source.lines().count());
        for kept in ["let a = 1;", "let b =", "let c ="] {
            assert!(code.contains(kept), "{kept} in {code}");
        }
    }

    #[test]
    fn columns_stay() {
        assert_eq!(code_only("x(\"ab\", y)"), "x(    , y)");
    }

    #[test]
    fn lifetimes_are_code_and_characters_are_not() {
        let code = code_only(
            "fn f<'a>(x: &'a f64) { if c == '\"' || c == '\\'' || c == '\\u{20}' || b == b'\"' { g() } }",
        );
        assert!(code.contains("&'a f64") && code.contains("g()"), "{code}");
        assert!(!code.contains("u{20}"), "{code}");
    }

    #[test]
    fn names_that_end_like_a_prefix_are_names() {
        assert_eq!(code_only("for r in attr { b(r, c) }"), "for r in attr { b(r, c) }");
        assert_eq!(code_only("concat_str\"f64\""), "concat_str     ");
    }

    #[test]
    fn unfinished_literals_do_not_hang_or_panic() {
        for source in ["\"", "\"\\", "/*", "/* /*", "r#\"", "'", "'\\", "b'", "ä", "'ä", "'ä'", "\"ä"] {
            assert_eq!(code_only(source).chars().count(), source.chars().count(), "{source}");
        }
    }
}
