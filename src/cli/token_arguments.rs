//! What may be written behind `switchback token`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::arguments::Form;
use crate::model::{name::Name, role::Role};

/// Make, list and revoke the tokens of the admin API, in their file
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token and print it, this once; only its SHA-256 is kept
    #[command(
        after_help = "Examples:\n  switchback token new --role operator --name ci --expires 90d\n  export SWITCHBACK_TOKEN=$(switchback token new --role viewer)"
    )]
    New {
        /// What it allows: viewer (reads), operator (moves traffic) or admin (everything)
        #[arg(long, value_name = "viewer|operator|admin")]
        role: Role,
        /// Its name, which stands in the history as the author of changes; its role and six digits by default
        #[arg(long, value_parser = name)]
        name: Option<Name>,
        /// How long it counts, such as 90d; without it, until it is revoked
        #[arg(long, value_name = "DURATION", value_parser = lasts)]
        expires: Option<Duration>,
        #[command(flatten)]
        place: Place,
    },
    /// Show names, roles and ends of the tokens
    #[command(after_help = "Example:\n  switchback token list")]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Make a token count no more
    #[command(after_help = "Example:\n  switchback token revoke ci")]
    Revoke {
        /// The token's name
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Which file, and how the result is shown.
#[derive(Debug, Args)]
pub struct Place {
    /// The file that `[admin] tokens` names; `new` makes it if it is not there
    #[arg(long, value_name = "FILE", default_value = "tokens.toml")]
    pub file: PathBuf,
    #[command(flatten)]
    pub form: Form,
}

impl Token {
    /// How the result is shown.
    pub fn form_mut(&mut self) -> &mut Form {
        match self {
            Self::New { place, .. } | Self::List { place } | Self::Revoke { place, .. } => &mut place.form,
        }
    }

    /// Whether the result is to be JSON.
    pub fn is_json(&self) -> bool {
        match self {
            Self::New { place, .. } | Self::List { place } | Self::Revoke { place, .. } => place.form.json,
        }
    }
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

fn lasts(text: &str) -> Result<Duration, String> {
    /// Ten years, as the API has it.
    const MOST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
    match humantime::parse_duration(text) {
        Ok(lasts) if !lasts.is_zero() && lasts <= MOST => Ok(lasts),
        Ok(_) => Err("from 1s to ten years".into()),
        Err(error) => Err(format!("{error}; write it as 12h or 90d")),
    }
}
