//! What is wrong with a configuration: where, which setting, and what would be right. Never the value.

use std::fmt;

use super::given::Origin;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    origin: Option<Origin>,
    path: String,
    what: String,
}

impl Problem {
    /// Something wrong with the setting at a path, given at an origin.
    pub fn new(origin: Option<Origin>, path: &str, what: impl Into<String>) -> Self {
        Self { origin, path: path.to_owned(), what: what.into() }
    }

    /// Whether both are of one place: what is wrong in the common table is wrong in every service.
    pub(super) fn is_that_of(&self, other: &Self) -> bool {
        let same_place = self.origin.is_some() || self.path == other.path;
        self.origin == other.origin && self.what == other.what && same_place
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)
    }
}

/// Why a configuration is refused: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            let separator = if number > 0 { "\n  " } else { "" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The name among those known that was probably meant, if any is near.
pub fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let normal = |text: &str| text.to_lowercase().replace('-', "_");
    let name = normal(name);
    let known: Vec<&str> = known.into_iter().collect();
    // Whoever leaves out the unit at the end means the whole name.
    let begun = known.iter().filter(|known| name.len() > 2 && normal(known).starts_with(&name));
    if let Some(whole) = begun.min_by_key(|known| known.len()) {
        return Some(whole);
    }
    let near = known.into_iter().map(|known| (strsim::damerau_levenshtein(&name, &normal(known)), known));
    // A third of the letters may be wrong, and two always: beyond that it is a guess.
    let (distance, known) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= (name.chars().count() / 3).max(2) && distance < name.chars().count()).then_some(known)
}

/// What to say of a key that is not known.
pub(super) fn unknown<'n>(name: &str, known: impl IntoIterator<Item = &'n str> + Clone) -> String {
    let by_file = format!("{name}_file");
    if known.clone().into_iter().any(|known| known == by_file) {
        return format!("unknown; a secret is given by the name of its file: {by_file}");
    }
    if let Some(meant) = nearest(name, known.clone()) {
        return format!("unknown; did you mean {meant}?");
    }
    let words = ["password", "secret", "token", "passphrase", "credential"];
    if words.iter().any(|word| name.to_lowercase().contains(word)) {
        return "unknown; secrets are never given inline, only by the name of a file".into();
    }
    let mut known: Vec<&str> = known.into_iter().collect();
    if known.is_empty() {
        return "unknown; there is nothing to set here".into();
    }
    known.sort_unstable();
    format!("unknown; there are {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let known = ["log", "format", "otlp_endpoint", "key_file", "header_timeout_ms"];
        for (name, told) in [
            ("lgo", "did you mean log?"),
            ("otlp-endpoint", "did you mean otlp_endpoint?"),
            ("header_time", "did you mean header_timeout_ms?"),
            ("heder_timeout_m", "did you mean header_timeout_ms?"),
            ("key", "the name of its file: key_file"),
            ("db_password", "never given inline"),
            ("xyzzy", "there are format, header_timeout_ms, key_file, log, otlp_endpoint"),
        ] {
            let said = unknown(name, known);
            assert!(said.contains(told), "{name}: {said}");
        }
    }
}
