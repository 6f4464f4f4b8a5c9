//! The edge's OpenAPI document, judged by a validator of other makers: that of the edge's tests, and that
//! of a running edge (`conformance`).

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::process::{cargo, shown, succeeds};
use crate::tools;

/// Has the edge's tests write the document, and the validator read it.
pub(crate) fn report() -> Result<bool, Error> {
    let mut write = cargo();
    write.args(["test", "--quiet", "--locked", "-p", "edge-gateway", "--test", "openapi"]);
    println!("── openapi: {}", shown(&write));
    Ok(succeeds(&mut write)? && is_valid(&tools::target().join("tmp/openapi.json"))?)
}

/// Whether a document is valid OpenAPI 3.1; the validator says what is not.
pub(crate) fn is_valid(document: &Path) -> Result<bool, Error> {
    let mut check = Command::new(tools::openapi_validator()?);
    check.args(["--schema", "3.1"]).arg(document).stdin(Stdio::null());
    println!("── openapi: {}", shown(&check));
    succeeds(&mut check)
}
