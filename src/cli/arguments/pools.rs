//! What may be written on the command line about pools and their endpoints.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{
    connection::{Connection, Intent},
    values,
};
use crate::model::weights::Weights;

/// What is drained, and how.
#[derive(Debug, Args)]
pub struct Drain {
    /// The pool
    pub pool: String,
    /// The endpoint; without one the whole pool is drained
    pub address: Option<String>,
    #[command(flatten)]
    pub terms: Terms,
    /// What becomes of pinned sessions; a pool keeps them by default, an endpoint moves them
    #[arg(long, value_name = "WHAT")]
    pub pins: Option<Pins>,
    #[command(flatten)]
    pub wait: Wait,
    #[command(flatten)]
    pub intent: Intent,
    #[command(flatten)]
    pub connection: Connection,
}

/// How long a drain takes.
#[derive(Debug, Args)]
pub struct Terms {
    /// When what is left is cut: 30s, 10m, or off [default: the pool's]
    #[arg(long, value_name = "DURATION", value_parser = values::deadline)]
    pub deadline: Option<String>,
    /// Over which time tunnels and event streams are closed, one after the other [default: the pool's, but no longer
    /// than the deadline]
    #[arg(long, value_name = "DURATION", value_parser = values::deadline)]
    pub stream_deadline: Option<String>,
}

/// Whether to wait for the end of a drain.
#[derive(Debug, Args)]
pub struct Wait {
    /// Wait until nothing is in flight; exit code 1 if that takes too long
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, at most 10m [default: until the last deadline]
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = values::patience)]
    pub timeout: Option<Duration>,
}

/// What becomes of pinned sessions.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Pins {
    /// They go on until the deadline
    Keep,
    /// They go elsewhere with their next request
    Move,
}

/// What takes traffic again.
#[derive(Debug, Args)]
pub struct Undrain {
    /// The pool
    pub pool: String,
    /// The endpoint; without one the whole pool, whose endpoints that are drained for themselves stay so
    pub address: Option<String>,
    #[command(flatten)]
    pub intent: Intent,
    #[command(flatten)]
    pub connection: Connection,
}

/// What is done to an endpoint.
#[derive(Debug, Subcommand)]
pub enum Endpoint {
    /// Add an endpoint, or change its weight
    #[command(after_help = "Example:\n  switchback endpoint set blue 10.0.0.7:9000 --weight 2")]
    Set {
        /// The pool
        pool: String,
        /// HOST:PORT, or srv:NAME
        address: String,
        /// Its share within the pool; 0 takes no traffic
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=i64::from(Weights::MAX)))]
        weight: u32,
        #[command(flatten)]
        intent: Intent,
        #[command(flatten)]
        connection: Connection,
    },
    /// Drain an endpoint, then remove it
    #[command(after_help = "Example:\n  switchback endpoint remove blue 10.0.0.7:9000 --deadline 1m --wait")]
    Remove {
        /// The pool
        pool: String,
        /// Its address, as it was added
        address: String,
        #[command(flatten)]
        terms: Terms,
        #[command(flatten)]
        wait: Wait,
        #[command(flatten)]
        intent: Intent,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Endpoint {
    pub fn connection(&mut self) -> &mut Connection {
        match self {
            Self::Set { connection, .. } | Self::Remove { connection, .. } => connection,
        }
    }
}

impl Pins {
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Move => "move",
        }
    }
}
