//! The judges' programs, which others wrote: installed once, at versions that are said here, below
//! `target/tools`; testssl.sh comes as the system's package.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::process::{answers, root, shown, succeeds};
use crate::servers;

const SCHEMATHESIS: &str = "schemathesis==4.32.5";
const OPENAPI_VALIDATOR: &str = "openapi-spec-validator==0.9.0";
const H2SPEC: &str = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible";

/// What cargo builds into.
pub(crate) fn target() -> PathBuf {
    let root = root();
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// schemathesis, a Python package.
pub(crate) fn schemathesis() -> Result<PathBuf, Error> {
    python(SCHEMATHESIS)
}

/// openapi-spec-validator, a Python package.
pub(crate) fn openapi_validator() -> Result<PathBuf, Error> {
    python(OPENAPI_VALIDATOR)
}

/// h2spec, a Go module.
pub(crate) fn h2spec() -> Result<PathBuf, Error> {
    let directory = target().join("tools/bin");
    let program = directory.join("h2spec");
    if !program.is_file() {
        let mut command = Command::new("go");
        command.args(["install", H2SPEC]).env("GOBIN", &directory);
        install(&mut command, "Go 1.21 or later (Debian: apt-get install golang-go)")?;
    }
    Ok(program)
}

/// testssl.sh, from the system: Debian calls the program `testssl`, everybody else `testssl.sh`.
pub(crate) fn testssl() -> Result<PathBuf, Error> {
    let found =
        || ["testssl", "testssl.sh"].into_iter().find(|name| answers(Command::new(name).arg("--help")));
    if found().is_none() {
        servers::install_package("testssl.sh");
    }
    found().map(PathBuf::from).ok_or_else(|| Error::Missing {
        program: "testssl.sh".to_owned(),
        install: "testssl.sh 3.0 or later (Debian: apt-get install testssl.sh)".to_owned(),
    })
}

/// The program of the package's name, in an environment of its own.
fn python(package: &str) -> Result<PathBuf, Error> {
    let environment = target().join("tools").join(package.replace("==", "-"));
    let program = environment.join("bin").join(package.split("==").next().unwrap_or(package));
    // Written last: an installation that was broken off is made anew.
    let stamp = environment.join("installed");
    if !stamp.is_file() {
        let advice = "Python 3.10 or later with venv (Debian: apt-get install python3-venv)";
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&environment);
        install(&mut make, advice)?;
        let mut pip = Command::new(environment.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", package]);
        install(&mut pip, advice)?;
        std::fs::write(&stamp, package).map_err(Error::io(format!("write {}", stamp.display())))?;
    }
    Ok(program)
}

fn install(command: &mut Command, advice: &str) -> Result<(), Error> {
    let program = Path::new(command.get_program()).display().to_string();
    println!("── tools: {}", shown(command));
    match succeeds(command.stdin(Stdio::null())) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(Error::Missing { program, install: advice.to_owned() }),
    }
}
