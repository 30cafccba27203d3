//! What may be written about what was changed: the history, the way back, and what happens now.

use clap::Args;

use super::connection::{Connection, Intent};

/// A part of the history.
#[derive(Debug, Args)]
pub struct History {
    /// How many revisions to show
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub limit: u64,
    /// Show those before this revision
    #[arg(long, value_name = "N")]
    pub before: Option<u64>,
    #[command(flatten)]
    pub connection: Connection,
}

/// One revision.
#[derive(Debug, Args)]
pub struct Revision {
    /// Its number
    #[arg(value_name = "N")]
    pub number: u64,
    #[command(flatten)]
    pub connection: Connection,
}

/// The way back to a revision.
#[derive(Debug, Args)]
pub struct Restore {
    /// Its number
    #[arg(value_name = "N")]
    pub number: u64,
    #[command(flatten)]
    pub intent: Intent,
    #[command(flatten)]
    pub connection: Connection,
}

/// What happens, as it happens.
#[derive(Debug, Args)]
pub struct Events {
    /// Begin with what came after this revision, not with what comes now
    #[arg(long, value_name = "N")]
    pub since: Option<u64>,
    #[command(flatten)]
    pub connection: Connection,
}
