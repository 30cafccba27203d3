//! What may be written on the command line, and the help that teaches it.

mod call;
pub mod connection;
pub mod files;
pub mod history;
pub mod pools;
pub mod reading;
pub mod splits;
pub mod tokens;
pub mod upgrade;
mod values;

use std::{net::SocketAddr, path::PathBuf};

pub use call::Call;
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use connection::{Early, Form};

use super::sidecar;

const EXAMPLES: &str = "\
Try it:
  switchback demo                                two sample apps, a split and the admin API

Serve:
  switchback check -c switchback.toml            say everything that is wrong with a file
  switchback run -c switchback.toml              serve
  switchback sidecar --app 127.0.0.1:3000        serve one app, with no file

Release:
  switchback status --watch                      what is in force, and what came of it
  switchback weights shop blue=90 green=10       10 % of new traffic to green
  switchback switch shop green --wait            all of it, and wait until blue is idle
  switchback rollback shop                       back to before the release
  switchback drain blue 10.0.0.7:9000 --wait     no new requests there, and wait until it is idle
  switchback undrain blue 10.0.0.7:9000          let it take requests again
  switchback explain http://shop.example.com/    why a request goes where it goes

Look back:
  switchback history                             who changed what, when and why
  switchback revision 12                         one change, whole
  switchback restore 9                           what was in force then, again
  switchback events                              what happens now

Declare:
  switchback apply -f switchback.toml            put a whole file in force
  switchback drift                               what was changed live since
  switchback config export                       write it back as a file

Operate:
  switchback upgrade                             replace the running binary; no connection is lost
  switchback token new --role operator           who may call
  switchback completions bash                    for your shell; switchback man for its manual

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not reachable; with --exit-code, 4 something changed.";

/// A layer-7 reverse proxy for releases: move live traffic between versions, and switch back in one call.
#[derive(Debug, Parser)]
#[command(name = "switchback", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    early: Early,
    #[command(subcommand)]
    command: Command,
}

impl Arguments {
    /// The command, with the options that stood before its name.
    pub fn whole_command(self) -> Result<Command, String> {
        let Self { early, mut command } = self;
        match &mut command {
            Command::Call(call) => early.join(call.connection())?,
            Command::Token(token) => early.join(&mut token.place().connection)?,
            Command::Check { form, .. } => form.json |= early.json,
            Command::Run { .. }
            | Command::Schema
            | Command::Demo { .. }
            | Command::Completions { .. }
            | Command::Man { .. }
            | Command::Sidecar(_) => {}
        }
        Ok(command)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve what a file declares, until SIGTERM or SIGINT
    #[command(after_help = "Example:\n  switchback run -c switchback.toml")]
    Run {
        /// The configuration file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a file and say everything that is wrong with it
    #[command(after_help = "Example:\n  switchback check -c switchback.toml && echo good")]
    Check {
        /// The configuration file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        form: Form,
    },
    /// Print the JSON Schema of the configuration file, for editors
    #[command(after_help = "Example:\n  switchback schema > switchback.schema.json")]
    Schema,
    /// Start two sample apps, a split in front of them and the admin API, with nothing to set up
    #[command(
        after_help = "Example:\n  switchback demo\n  then, in another terminal: switchback switch shop green"
    )]
    Demo {
        /// The address that the demo serves on
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// The address of the demo's admin API: a loopback address
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900", value_parser = values::loopback)]
        admin_listen: SocketAddr,
        /// Requests a second that the demo sends itself, so that there is something to see
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
        rate: u32,
    },
    /// Serve one app instance on this host, with no file
    ///
    /// Each option can be a variable of the environment instead. On SIGTERM readiness fails at once, the listener closes
    /// after the delay, what is in flight ends or is cut at the deadline, and the exit code is 0.
    Sidecar(Box<sidecar::Sidecar>),
    /// Make, list and revoke the tokens of the admin API
    #[command(subcommand)]
    Token(tokens::Token),
    /// Print the completions of a shell
    #[command(
        after_help = "Examples:\n  switchback completions bash > ~/.local/share/bash-completion/completions/switchback\n  switchback completions zsh > \"${fpath[1]}/_switchback\"\n  switchback completions fish > ~/.config/fish/completions/switchback.fish"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands into a folder
    #[command(
        after_help = "Examples:\n  switchback man | man -l -\n  switchback man --out ~/.local/share/man/man1"
    )]
    Man {
        /// The folder, which is made if it is not there
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    #[command(flatten)]
    Call(Call),
}

impl Command {
    /// Whether the result is to be JSON.
    pub fn is_json(&mut self) -> bool {
        match self {
            Self::Check { form, .. } => form.json,
            Self::Token(token) => token.place().connection.form.json,
            Self::Call(call) => call.connection().form.json,
            Self::Run { .. }
            | Self::Schema
            | Self::Demo { .. }
            | Self::Completions { .. }
            | Self::Man { .. }
            | Self::Sidecar(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_instance_may_be_named_before_the_command_or_behind_it_but_once() {
        let connection = |line: &str| {
            let command = Arguments::try_parse_from(line.split(' ')).unwrap().whole_command()?;
            let Command::Call(mut call) = command else { panic!("{line} is no call") };
            let connection = call.connection();
            let parts = [&connection.admin, &connection.instance, &connection.token];
            Ok::<_, String>(parts.map(|part| part.clone().unwrap_or_default()))
        };
        let is = |parts: [&str; 3]| Ok(parts.map(str::to_owned));
        assert_eq!(connection("switchback --admin a --token t status"), is(["a", "", "t"]));
        assert_eq!(connection("switchback --token t status --instance i"), is(["", "i", "t"]));
        for twice in [
            "switchback --admin a --token t status --admin b",
            "switchback --admin a status --instance i",
            "switchback status --admin a --instance i",
        ] {
            assert!(connection(twice).is_err(), "{twice}");
        }
    }
}
