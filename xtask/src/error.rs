//! The ways in which a task can fail.

use std::fmt;
use std::io;

/// Why a task did not succeed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The operating system refused something.
    Io {
        /// What was being done, to follow "could not".
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program that a task needs is not installed.
    Missing {
        /// The program.
        program: String,
        /// How to get it.
        install: String,
    },
    /// Steps that failed, each with the command that runs it alone.
    Steps(Vec<(&'static str, String)>),
    /// A server that the tests need can neither be found nor started.
    Server(String),
    /// A run of fuzzing could not be had as it was asked for, or found something.
    Fuzz(String),
    /// The command that was run with the servers ended with this code.
    Exit(u8),
}

impl Error {
    /// For `map_err`: adds what was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, source } => write!(f, "could not {doing}: {source}"),
            Self::Missing { program, install } => {
                write!(f, "{program} is missing; install it with: {install}")
            }
            Self::Steps(failed) => {
                for (name, alone) in failed {
                    writeln!(f, "step {name} failed; run it alone with: {alone}")?;
                }
                write!(f, "{} failed", if failed.len() == 1 { "one step" } else { "several steps" })
            }
            Self::Server(text) | Self::Fuzz(text) => f.write_str(text),
            Self::Exit(code) => write!(f, "the command ended with code {code}"),
        }
    }
}
