//! What a server says, without the values of a statement, and its numbers.

use std::fmt::Write as _;

use tokio_postgres::error::{Error, Severity};

use crate::store::StoreError;

/// Whether the server itself refused the statement, so that nothing of it was done. After anything else
/// what was under way may have been done or not.
pub fn was_refused(error: &Error) -> bool {
    error.as_db_error().is_some_and(|refusal| refusal.parsed_severity() == Some(Severity::Error))
}

/// What went wrong, without any value of a statement: those are in an error's detail, which is left out.
pub fn said(error: &Error) -> String {
    if let Some(refusal) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", refusal.message(), refusal.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        // Some repeat their cause in their own words.
        let said = source.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = source.source();
    }
    text
}

/// As an error of the store, for `map_err`.
#[allow(clippy::needless_pass_by_value)]
pub fn failed(error: Error) -> StoreError {
    StoreError::Server(said(&error))
}

/// A number as the server keeps it.
///
/// # Errors
/// [`StoreError::Corrupt`] for one beyond the end of `i64`, which what counts never comes near.
pub fn as_bigint(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Corrupt("a number is beyond a bigint".to_owned()))
}

/// A number from the server that is never negative.
///
/// # Errors
/// [`StoreError::Corrupt`] for one that is.
pub fn from_bigint(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt("a number that counts is negative".to_owned()))
}
