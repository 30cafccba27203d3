//! What may be written on the command line about the configuration file of a running instance.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::connection::{Connection, Intent};

/// What is done with the file.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Write what is in force as a file that declares it
    #[command(after_help = "Example:\n  switchback config export > switchback.toml")]
    Export {
        #[command(flatten)]
        connection: Connection,
    },
    /// Have the instance check a file, without putting it in force
    #[command(after_help = "Example:\n  switchback config validate -f switchback.toml")]
    Validate {
        /// The configuration file; - is the standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        connection: Connection,
    },
    /// Have the instance read its file again now
    #[command(after_help = "Example:\n  switchback config reload --dry-run")]
    Reload {
        #[command(flatten)]
        intent: Intent,
        #[command(flatten)]
        connection: Connection,
    },
}

/// A file that is sent to an instance.
#[derive(Debug, Args)]
pub struct Apply {
    /// The configuration file; - is the standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Tell by the exit code whether anything changed, or would: 4 if so, 0 if not
    #[arg(long)]
    pub exit_code: bool,
    #[command(flatten)]
    pub intent: Intent,
    #[command(flatten)]
    pub connection: Connection,
}

impl Config {
    /// Which instance is called.
    pub fn connection(&mut self) -> &mut Connection {
        match self {
            Self::Export { connection }
            | Self::Validate { connection, .. }
            | Self::Reload { connection, .. } => connection,
        }
    }
}
