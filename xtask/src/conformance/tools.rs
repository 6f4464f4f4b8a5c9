//! The judges' programs: installed once, at versions that are said here, below `target/tools`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Judge;
use crate::error::Error;
use crate::process::{root, succeeds};

const SCHEMATHESIS: &str = "schemathesis==4.32.5";
const VALIDATOR: &str = "openapi-spec-validator==0.7.2";
const H2SPEC: &str = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible";

/// Where the programs are.
pub(super) struct Tools {
    directory: PathBuf,
}

impl Tools {
    /// Installs what is missing.
    pub(super) fn install(judges: &[Judge]) -> Result<Self, Error> {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let tools = Self { directory: target.join("tools") };
        std::fs::create_dir_all(&tools.directory)
            .map_err(Error::io(format!("make {}", tools.directory.display())))?;
        if judges.contains(&Judge::Openapi) || judges.contains(&Judge::Schemathesis) {
            tools.install_python()?;
        }
        if judges.contains(&Judge::H2spec) && !tools.binary("h2spec").is_file() {
            let mut command = Command::new("go");
            command.args(["install", H2SPEC]).env("GOBIN", tools.directory.join("bin"));
            install(&mut command, "Go 1.21 or later (Debian: apt-get install golang-go)")?;
        }
        Ok(tools)
    }

    fn install_python(&self) -> Result<(), Error> {
        let packages = [SCHEMATHESIS, VALIDATOR];
        let (venv, stamp) = (self.directory.join("python"), self.directory.join("python.installed"));
        if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == packages.join(" ")) {
            return Ok(());
        }
        let advice = "Python 3.10 or later with venv (Debian: apt-get install python3-venv)";
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(&venv);
        install(&mut make, advice)?;
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(packages);
        install(&mut pip, advice)?;
        std::fs::write(&stamp, packages.join(" ")).map_err(Error::io(format!("write {}", stamp.display())))
    }

    /// A program that a Python package brought.
    pub(super) fn python(&self, name: &str) -> PathBuf {
        self.directory.join("python/bin").join(name)
    }

    /// A program that was built.
    pub(super) fn binary(&self, name: &str) -> PathBuf {
        self.directory.join("bin").join(name)
    }
}

fn install(command: &mut Command, advice: &str) -> Result<(), Error> {
    let program = Path::new(command.get_program()).display().to_string();
    println!("── tools: {}", crate::process::shown(command));
    let missing = || Error::Missing { program: program.clone(), install: advice.to_owned() };
    match succeeds(command.stdin(Stdio::null())) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(missing()),
    }
}
