//! What may be written behind `switchback token`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};

use super::{connection::Connection, values};
use crate::model::{name::Name, role::Role};

/// Make, list and revoke the tokens of the admin API
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token and print it, this once; only its SHA-256 is kept
    #[command(
        after_help = "Examples:\n  switchback token new --role operator --name ci --expires 90d\n  export SWITCHBACK_TOKEN=$(switchback token new --role viewer)\n  switchback token new --role viewer --name board --instance shop"
    )]
    New {
        /// What it allows: viewer (reads), operator (moves traffic) or admin (everything)
        #[arg(long, value_name = "viewer|operator|admin")]
        role: Role,
        /// Its name, which stands in the history as the author of changes; its role and six digits by default
        #[arg(long, value_parser = values::name)]
        name: Option<Name>,
        /// How long it counts, such as 90d; without it, until it is revoked
        #[arg(long, value_name = "DURATION", value_parser = values::lasts)]
        expires: Option<Duration>,
        #[command(flatten)]
        place: Place,
    },
    /// Show names, roles and ends of the tokens
    #[command(
        after_help = "Examples:\n  switchback token list\n  switchback token list --admin http://127.0.0.1:9900"
    )]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Make a token count no more
    #[command(
        after_help = "Examples:\n  switchback token revoke ci\n  switchback token revoke ci --instance shop"
    )]
    Revoke {
        /// The token's name
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Where the tokens are: in a file, or with a running instance, which --admin or --instance names.
#[derive(Debug, Args)]
pub struct Place {
    /// The file that `[admin] tokens` names, which `new` makes if it is not there [default: tokens.toml, where neither
    /// --admin nor --instance is given]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    pub connection: Connection,
}

impl Token {
    /// Where the tokens are.
    pub fn place(&mut self) -> &mut Place {
        match self {
            Self::New { place, .. } | Self::List { place } | Self::Revoke { place, .. } => place,
        }
    }
}

impl Place {
    /// The file; `None` is the instance of the connection. The environment and the client file say which instance is
    /// called where one is, not that one is called: the first token can only be made in the file.
    pub fn file(&self) -> Result<Option<&Path>, String> {
        let is_live = self.connection.admin.is_some() || self.connection.instance.is_some();
        match &self.file {
            Some(_) if is_live => {
                Err("the tokens are either in --file or with the instance of --admin or --instance".into())
            }
            Some(file) => Ok(Some(file)),
            None if is_live => Ok(None),
            None => Ok(Some(Path::new("tokens.toml"))),
        }
    }
}
