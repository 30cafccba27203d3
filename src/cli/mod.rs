//! The command line: starts an instance, checks a file, or calls a running instance's admin API.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not reachable, 4
//! something changed or differs, where `--exit-code` asks for that.

mod arguments;
mod calls;
mod client;
mod ending;
mod explain;
mod files;
mod generated;
mod history;
mod output;
mod pools;
mod progress;
mod sidecar;
mod splits;
mod start;
mod tokens;
mod upgrade;
mod watch;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::{CommandFactory as _, Parser as _};

use crate::{app, config::ConfigErrors};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It went wrong: exit code 1. The text says everything.
    #[error("{0}")]
    Failed(String),
    /// The instance refused it: exit code 1.
    #[error("{words}")]
    Refused {
        /// Why, for people.
        words: String,
        /// The problem document of the admin API.
        problem: serde_json::Value,
    },
    /// The file is wrong: exit code 1.
    #[error(transparent)]
    File(#[from] ConfigErrors),
    /// The arguments make no sense together: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Something changed, or differs, and the exit code was to tell: exit code 4. It is no mistake.
    #[error("something changed, or differs")]
    Changed,
    /// Nobody answers there: exit code 3.
    #[error("{0}")]
    NotReachable(String),
}

/// Runs the command line and answers the process' exit code.
pub fn main() -> ExitCode {
    // Wrong usage ends here, with 2; so do --help and --version, with 0.
    let mut command = match Arguments::parse().whole_command() {
        Ok(command) => command,
        Err(wrong) => return ended(Err(Failure::Usage(wrong)), false),
    };
    let json = command.is_json();
    let result = match command {
        Command::Run { config } => start::run(&config),
        Command::Check { config, .. } => start::check(&config, json),
        Command::Schema => start::schema(),
        Command::Demo { listen, admin_listen, rate } => {
            start::demo(&app::demo::Options { listen, admin: admin_listen, rate })
        }
        Command::Sidecar(sidecar) => sidecar::run(*sidecar),
        Command::Token(token) => tokens::run(token),
        Command::Completions { shell } => generated::completions(shell),
        Command::Man { out } => generated::manual(out.as_deref()),
        Command::Call(call) => calls::call(call),
    };
    ended(result, json)
}

/// The definition of the command line, from which its documentation is made.
pub fn command() -> clap::Command {
    Arguments::command()
}

fn ended(result: Result<(), Failure>, json: bool) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if !matches!(failure, Failure::Changed) {
        output::complain(&failure, json);
    }
    ExitCode::from(match failure {
        Failure::Failed(_) | Failure::Refused { .. } | Failure::File(_) => 1,
        Failure::Usage(_) => 2,
        Failure::NotReachable(_) => 3,
        Failure::Changed => 4,
    })
}
