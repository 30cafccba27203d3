//! What may be written on the command line, and the help that teaches it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use super::{file_arguments, pool_arguments, sidecar, token_arguments, upgrade};
use crate::{admin, model::weights::Weights};

const EXAMPLES: &str = "\
Try it:
  switchback demo                                two sample apps, a split and the admin API

Serve:
  switchback check -c switchback.toml            say everything that is wrong with a file
  switchback run -c switchback.toml              serve
  switchback sidecar --app 127.0.0.1:3000        serve one app, with no file

Release:
  switchback status                              what is in force, and what came of it
  switchback weights shop blue=90 green=10       10 % of new traffic to green
  switchback switch shop green --wait            all of it, and wait until blue is idle
  switchback rollback shop                       back to before the release
  switchback drain blue 10.0.0.7:9000 --wait     no new requests there, and wait until it is idle
  switchback undrain blue 10.0.0.7:9000          let it take requests again
  switchback explain http://shop.example.com/    why a request goes where it goes

Declare:
  switchback apply -f switchback.toml            put a whole file in force
  switchback drift                               what was changed live since
  switchback config export                       write it back as a file

Operate:
  switchback upgrade                             replace the running binary; no connection is lost

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

/// The options of a call, where they stand before its name. Help shows them with the calls alone.
#[derive(Debug, Args)]
struct Early {
    #[arg(long = "admin", id = "early_admin", hide = true)]
    admin: Option<String>,
    #[arg(long = "token", id = "early_token", hide = true)]
    token: Option<String>,
    #[arg(long = "json", id = "early_json", hide = true)]
    json: bool,
}

impl Arguments {
    /// The command, with the options that stood before its name.
    pub fn whole_command(self) -> Command {
        let Self { early, mut command } = self;
        match &mut command {
            Command::Call(call) => {
                let connection = call.connection_mut();
                connection.admin = early.admin.unwrap_or_else(|| std::mem::take(&mut connection.admin));
                connection.token = early.token.or(connection.token.take());
                connection.form.json |= early.json;
            }
            Command::Check { form, .. } => form.json |= early.json,
            Command::Token(token) => token.form_mut().json |= early.json,
            Command::Run { .. } | Command::Schema | Command::Demo { .. } | Command::Sidecar(_) => {}
        }
        command
    }
}

/// Which instance is called, and how its answer is shown.
#[derive(Debug, Args)]
pub struct Connection {
    /// The admin API of the instance: http://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL", env = "SWITCHBACK_ADMIN", default_value = "http://127.0.0.1:9900")]
    pub admin: String,
    /// A token to show to the admin API
    #[arg(long, value_name = "TOKEN", env = "SWITCHBACK_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    #[command(flatten)]
    pub form: Form,
}

/// How a result is shown.
#[derive(Debug, Args)]
pub struct Form {
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
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
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900", value_parser = loopback)]
        admin_listen: SocketAddr,
        /// Requests a second that the demo sends itself, so that there is something to see
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
        rate: u32,
    },
    /// Serve one app instance on this host, with no file
    Sidecar(Box<sidecar::Sidecar>),
    /// Make, list and revoke the tokens of the admin API, in their file
    #[command(subcommand)]
    Token(token_arguments::Token),
    #[command(flatten)]
    Call(Call),
}

/// The commands that call a running instance.
#[derive(Debug, Subcommand)]
pub enum Call {
    /// Show what is in force and what came of it
    #[command(after_help = "Examples:\n  switchback status\n  switchback status --json | jq .splits")]
    Status {
        #[command(flatten)]
        connection: Connection,
    },
    /// Set the weights of a split; a pool that is not named gets 0
    #[command(after_help = "Example:\n  switchback weights shop blue=90 green=10")]
    Weights {
        /// The split
        split: String,
        /// Pools with their weights
        #[arg(required = true, value_name = "POOL=WEIGHT", value_parser = weight)]
        weights: Vec<(String, u64)>,
        /// What becomes of pinned sessions: they stay, or those of pools whose share falls move
        #[arg(long, value_name = "keep|release", value_parser = ["keep", "release"])]
        pins: Option<String>,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        connection: Connection,
    },
    /// Send all new traffic of a split to one pool
    #[command(
        after_help = "Examples:\n  switchback switch shop green\n  switchback switch shop green --wait --timeout 2m"
    )]
    Switch {
        /// The split
        split: String,
        /// The pool that takes it
        pool: String,
        /// Wait until nothing is in flight on the split's other pools; exit code 1 if that takes too long
        #[arg(long)]
        wait: bool,
        /// How long to wait, at most 10m
        #[arg(long, value_name = "DURATION", default_value = "30s", requires = "wait", value_parser = patience)]
        timeout: Duration,
        /// What becomes of sessions that are pinned to the other pools: they stay (the default), or move
        #[arg(long, value_name = "keep|release", value_parser = ["keep", "release"])]
        pins: Option<String>,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        connection: Connection,
    },
    /// Go back to the weights before the last release; repeating it changes nothing
    #[command(
        after_help = "Examples:\n  switchback rollback shop\n  switchback rollback shop --to-revision 3"
    )]
    Rollback {
        /// The split
        split: String,
        /// Go back to the weights of this revision instead
        #[arg(long, value_name = "N")]
        to_revision: Option<u64>,
        /// What becomes of sessions that are pinned to a pool whose share falls: they move (the default), or stay
        #[arg(long, value_name = "keep|release", value_parser = ["keep", "release"])]
        pins: Option<String>,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        connection: Connection,
    },
    /// Let a pool, or one of its endpoints, take nothing new; what it has ends, or is cut at a deadline
    #[command(
        after_help = "Examples:\n  switchback drain blue 10.0.0.7:9000 --deadline 30s --wait\n  switchback drain blue --deadline 10m --pins move"
    )]
    Drain(pool_arguments::Drain),
    /// Let a pool, or one of its endpoints, take traffic again
    #[command(after_help = "Examples:\n  switchback undrain blue 10.0.0.7:9000\n  switchback undrain blue")]
    Undrain(pool_arguments::Undrain),
    /// Add, change or remove an endpoint of a pool
    #[command(subcommand)]
    Endpoint(pool_arguments::Endpoint),
    /// Write, check or reload the configuration file of a running instance
    #[command(subcommand)]
    Config(file_arguments::Config),
    /// Put a whole file in force in a running instance, as one revision
    #[command(
        after_help = "Examples:\n  switchback apply -f switchback.toml --dry-run\n  switchback apply -f switchback.toml"
    )]
    Apply(file_arguments::Apply),
    /// Say where what is in force differs from what the file declares
    #[command(
        after_help = "Example:\n  switchback drift --exit-code || echo 'somebody changed something live'"
    )]
    Drift {
        /// Tell by the exit code whether anything differs: 4 if so, 0 if not
        #[arg(long)]
        exit_code: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Say where a request would go, and why, without sending it
    #[command(
        after_help = "Example:\n  switchback explain http://shop.example.com/cart?x=1 -X POST -H 'canary: true'"
    )]
    Explain {
        /// The URL of the request
        url: String,
        /// A header of the request; may be repeated
        #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
        headers: Vec<(String, String)>,
        /// Its method
        #[arg(short = 'X', long, default_value = "GET")]
        method: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Replace the running process by a new one, of a new version perhaps, without losing a connection
    #[command(
        after_help = "Examples:\n  switchback upgrade\n  switchback upgrade --binary /opt/switchback/2.0/switchback"
    )]
    Upgrade(upgrade::Upgrade),
    /// Ask whether the instance is ready, for container health checks
    #[command(after_help = "Example (Dockerfile):\n  HEALTHCHECK CMD [\"/switchback\", \"health\"]")]
    Health {
        /// Ask only whether the process works, not whether it takes traffic
        #[arg(long)]
        live: bool,
        /// How long it may take to answer
        #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = patience)]
        timeout: Duration,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Command {
    /// Whether the result is to be JSON.
    pub fn is_json(&self) -> bool {
        match self {
            Self::Check { form, .. } => form.json,
            Self::Token(token) => token.is_json(),
            Self::Call(call) => call.connection().form.json,
            Self::Run { .. } | Self::Schema | Self::Demo { .. } | Self::Sidecar(_) => false,
        }
    }
}

impl Call {
    fn connection_mut(&mut self) -> &mut Connection {
        match self {
            Self::Status { connection }
            | Self::Weights { connection, .. }
            | Self::Switch { connection, .. }
            | Self::Rollback { connection, .. }
            | Self::Explain { connection, .. }
            | Self::Health { connection, .. }
            | Self::Drift { connection, .. }
            | Self::Apply(file_arguments::Apply { connection, .. })
            | Self::Drain(pool_arguments::Drain { connection, .. })
            | Self::Upgrade(upgrade::Upgrade { connection, .. })
            | Self::Undrain(pool_arguments::Undrain { connection, .. }) => connection,
            Self::Endpoint(endpoint) => endpoint.connection_mut(),
            Self::Config(config) => config.connection_mut(),
        }
    }

    /// Which instance is called.
    pub fn connection(&self) -> &Connection {
        match self {
            Self::Status { connection }
            | Self::Weights { connection, .. }
            | Self::Switch { connection, .. }
            | Self::Rollback { connection, .. }
            | Self::Explain { connection, .. }
            | Self::Health { connection, .. }
            | Self::Drift { connection, .. }
            | Self::Apply(file_arguments::Apply { connection, .. })
            | Self::Drain(pool_arguments::Drain { connection, .. })
            | Self::Upgrade(upgrade::Upgrade { connection, .. })
            | Self::Undrain(pool_arguments::Undrain { connection, .. }) => connection,
            Self::Endpoint(endpoint) => endpoint.connection(),
            Self::Config(config) => config.connection(),
        }
    }
}

#[derive(Debug, Args)]
pub struct DryRun {
    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

fn weight(text: &str) -> Result<(String, u64), String> {
    let max = Weights::MAX;
    let (pool, weight) = text.split_once('=').ok_or("write it as POOL=WEIGHT, such as green=10")?;
    let weight = weight.parse().ok().filter(|weight| *weight <= u64::from(max));
    let weight = weight.ok_or_else(|| format!("a weight is a whole number from 0 to {max}"))?;
    if pool.is_empty() { Err("the name of the pool is missing".into()) } else { Ok((pool.into(), weight)) }
}

/// An address that only this machine reaches.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(_) => {
            Err("whoever reaches the admin API can move all traffic: only a loopback address is taken".into())
        }
        Err(_) => Err("an address and a port, such as 127.0.0.1:9900".into()),
    }
}

/// A duration of at most what the admin API would wait.
pub fn patience(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= admin::MAX_WAIT => Ok(duration),
        Ok(_) => Err(format!("at most {}", humantime::format_duration(admin::MAX_WAIT))),
        Err(error) => Err(format!("{error}; write it as 30s or 2m")),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().into(), value.trim().into())),
        _ => Err("write it as 'name: value'".into()),
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
    fn weights_and_headers_are_read_strictly() {
        assert_eq!(weight("green=10"), Ok(("green".into(), 10)));
        for bad in ["green", "green=", "green=-1", "green=1.5", "=1", "green=1000001", "green=10%"] {
            assert!(weight(bad).is_err(), "{bad}");
        }
        assert_eq!(header("Canary: true:1"), Ok(("Canary".into(), "true:1".into())));
        assert!(header("canary").is_err() && header(": x").is_err());
    }
}
