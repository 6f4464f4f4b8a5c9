//! The OpenAPI document, judged by a validator of other makers: openapi-spec-validator, a Python package
//! that is put below the target directory the first time.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    error::Error,
    process::{answers, cargo, root, shown, succeeds},
};

/// The package, by the name and version that pip takes.
const PACKAGE: &str = "openapi-spec-validator==0.9.0";

fn target() -> PathBuf {
    let root = root();
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

fn python(packages: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages).args(arguments).stdin(Stdio::null());
    command
}

/// Has the edge's tests write the document, and the validator read it.
pub(crate) fn report() -> Result<bool, Error> {
    let mut write = cargo();
    write.args(["test", "--quiet", "--locked", "-p", "edge-gateway", "--test", "openapi"]);
    println!("── openapi: {}", shown(&write));
    if !succeeds(&mut write)? {
        return Ok(false);
    }
    let packages = target().join("tools").join(PACKAGE.replace("==", "-"));
    if !answers(&mut python(&packages, &["-c", "import openapi_spec_validator"])) {
        install(&packages)?;
    }
    let document = target().join("tmp/openapi.json");
    let mut check = python(&packages, &["-m", "openapi_spec_validator"]);
    check.arg(document);
    println!("── openapi: {}", shown(&check));
    succeeds(&mut check)
}

fn install(packages: &Path) -> Result<(), Error> {
    let mut pip = python(packages, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.arg("--target").arg(packages).arg(PACKAGE);
    println!("── openapi: {}", shown(&pip));
    if answers(Command::new("python3").arg("--version")) && succeeds(&mut pip)? {
        return Ok(());
    }
    Err(Error::Missing {
        program: "openapi-spec-validator".to_owned(),
        install: format!("python3 -m pip install --target {} {PACKAGE}", packages.display()),
    })
}
