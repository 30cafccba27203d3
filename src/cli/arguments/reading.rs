//! What may be written to look at a running instance.

use std::time::Duration;

use clap::Args;

use super::{connection::Connection, values};

/// The whole picture, once or again and again.
#[derive(Debug, Args)]
pub struct Status {
    /// Show it anew until interrupted
    #[arg(long)]
    pub watch: bool,
    /// How often, from 200ms on
    #[arg(long, value_name = "DURATION", default_value = "2s", requires = "watch", value_parser = values::interval)]
    pub interval: Duration,
    #[command(flatten)]
    pub connection: Connection,
}

/// Where the live state differs from the file.
#[derive(Debug, Args)]
pub struct Drift {
    /// Tell by the exit code whether anything differs: 4 if so, 0 if not
    #[arg(long)]
    pub exit_code: bool,
    #[command(flatten)]
    pub connection: Connection,
}

/// An imagined request.
#[derive(Debug, Args)]
pub struct Explain {
    /// The URL of the request
    pub url: String,
    /// A header of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = values::header)]
    pub headers: Vec<(String, String)>,
    /// Its method
    #[arg(short = 'X', long, default_value = "GET")]
    pub method: String,
    #[command(flatten)]
    pub connection: Connection,
}

/// A probe.
#[derive(Debug, Args)]
pub struct Health {
    /// Ask only whether the process works, not whether it takes traffic
    #[arg(long)]
    pub live: bool,
    /// How long it may take to answer
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = values::patience)]
    pub timeout: Duration,
    #[command(flatten)]
    pub connection: Connection,
}
