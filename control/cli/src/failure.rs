//! How a command fails: what is said about it, and with which exit status.

use std::io;
use std::process::ExitCode;

use levee_api::diagnostic::Diagnostic;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A daemon could not be reached, or refused: status 1.
    #[error("{message}{}", help.as_ref().map(|help| format!("\n  help: {help}")).unwrap_or_default())]
    Daemon {
        /// What went wrong, with the socket's path.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// What was given is wrong: status 2.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Input(Vec<Diagnostic>),
    /// All has been said about it already: this status.
    #[error("")]
    Told(u8),
    /// Standard output could not be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// A daemon's failure.
    pub(crate) fn daemon(message: impl Into<String>, help: impl Into<String>) -> Self {
        Failure::Daemon { message: message.into(), help: Some(help.into()) }
    }

    /// Something wrong on the command line that clap cannot know of.
    pub(crate) fn argument(name: &str, message: impl Into<String>) -> Self {
        Failure::Input(vec![Diagnostic::new(name, message)])
    }

    /// Says it, and gives the exit status.
    pub(crate) fn exit(self) -> ExitCode {
        match &self {
            // `levee flow list | head`: whoever reads has seen enough.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Failure::Told(_) => {}
            Failure::Input(_) => eprintln!("{self}"),
            Failure::Daemon { .. } | Failure::Output(_) => eprintln!("levee: {self}"),
        }
        match self {
            Failure::Daemon { .. } | Failure::Output(_) => ExitCode::from(1),
            Failure::Input(_) => ExitCode::from(2),
            Failure::Told(status) => ExitCode::from(status),
        }
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Failure::Input(vec![diagnostic])
    }
}
