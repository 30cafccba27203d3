//! What may be written to move traffic between the pools of a split.

use std::time::Duration;

use clap::Args;

use super::{
    connection::{Connection, Intent},
    values,
};

/// A whole set of weights.
#[derive(Debug, Args)]
pub struct Weights {
    /// The split
    pub split: String,
    /// Pools with their weights
    #[arg(required = true, value_name = "POOL=WEIGHT", value_parser = values::weight)]
    pub weights: Vec<(String, u64)>,
    /// What becomes of pinned sessions: they stay, or those of pools whose share falls move
    #[arg(long, value_name = "keep|release", value_parser = ["keep", "release"])]
    pub pins: Option<String>,
    #[command(flatten)]
    pub intent: Intent,
    #[command(flatten)]
    pub connection: Connection,
}

/// All new traffic to one pool.
#[derive(Debug, Args)]
pub struct Switch {
    /// The split
    pub split: String,
    /// The pool that takes it
    pub pool: String,
    /// Wait until nothing is in flight on the split's other pools; exit code 1 if that takes too long
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, at most 10m
    #[arg(long, value_name = "DURATION", default_value = "30s", requires = "wait", value_parser = values::patience)]
    pub timeout: Duration,
    /// What becomes of sessions that are pinned to the other pools: they stay (the default), or move
    #[arg(long, value_name = "keep|release", value_parser = ["keep", "release"])]
    pub pins: Option<String>,
    #[command(flatten)]
    pub intent: Intent,
    #[command(flatten)]
    pub connection: Connection,
}

/// Back to earlier weights.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The split
    pub split: String,
    /// Go back to the weights of this revision instead
    #[arg(long, value_name = "N")]
    pub to_revision: Option<u64>,
    /// What becomes of sessions that are pinned to a pool whose share falls: they move (the default), or stay
    #[arg(long, value_name = "keep|release", value_parser = ["keep", "release"])]
    pub pins: Option<String>,
    #[command(flatten)]
    pub intent: Intent,
    #[command(flatten)]
    pub connection: Connection,
}
