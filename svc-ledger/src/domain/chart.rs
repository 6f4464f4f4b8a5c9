//! The chart of accounts, and what transfers are for: the codes that the configuration names.

use std::collections::BTreeSet;

use super::{
    text::{Code, TextError},
    types::Given,
};

/// The codes that are in use, of accounts or of transfers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Codes(BTreeSet<Code>);

impl Codes {
    /// These codes.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, TextError> {
        names.into_iter().map(str::parse).collect::<Result<_, _>>().map(Self)
    }

    /// What a request gives as a code. One that is in use is shared, not copied.
    pub fn given(&self, text: &str) -> Given<Code> {
        if let Some(code) = self.0.get(text) {
            return Given::Value(code.clone());
        }
        match Given::parse(text, str::parse) {
            Given::Value(code) => Given::Unlisted(code),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_in_use_or_is_not_or_is_none() {
        let codes = Codes::new(["cash", "fees"]).unwrap();
        assert_eq!(codes.given("cash"), Given::Value("cash".parse().unwrap()));
        assert_eq!(codes.given("cass"), Given::Unlisted("cass".parse().unwrap()));
        assert_eq!((codes.given(""), codes.given("No Code")), (Given::Nothing, Given::Malformed));
        assert_eq!(Codes::new(["No Code"]), Err(TextError::Code));
    }
}
