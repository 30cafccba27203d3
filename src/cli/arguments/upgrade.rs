//! What may be said to `upgrade`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{connection::Connection, values};

/// A successor.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// The program of the successor, an absolute path on the machine of the instance; the path that the instance was
    /// started from if not given
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
    /// How long the successor has to serve; if it does not, the old process goes on
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = values::patience)]
    pub timeout: Duration,
    #[command(flatten)]
    pub connection: Connection,
}
