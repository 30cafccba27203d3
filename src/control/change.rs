//! What a command did: its revision, who made it, and every effect with what was before and what is after.
//!
//! Its JSON is kept in the store for as long as the history lasts: a name here that changes is a new format there.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::command::PinsOnChange;
use crate::model::{
    as_text,
    endpoint_address::EndpointAddress,
    live_state::{Drain, LiveEndpoint},
    name::Name,
    weights::Weights,
};

/// What made a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What the file declares, at the first start.
    Declared,
    /// [`super::command::Command::SetWeights`].
    Weights,
    /// [`super::command::Command::Switch`].
    Switch,
    /// [`super::command::Command::Rollback`].
    Rollback,
    /// [`super::command::Command::DrainEndpoint`] or [`super::command::Command::DrainPool`].
    Drain,
    /// [`super::command::Command::UndrainEndpoint`] or [`super::command::Command::UndrainPool`].
    Undrain,
    /// [`super::command::Command::PutEndpoint`].
    PutEndpoint,
    /// [`super::command::Command::DeleteEndpoint`].
    DeleteEndpoint,
    /// [`super::command::Command::Forget`].
    ForgetEndpoint,
    /// [`super::command::Command::Restore`].
    Restore,
    /// [`super::command::Command::Load`].
    Load,
}

/// By which way a change came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration file.
    File,
    /// The admin API.
    Api,
    /// The command line, by the admin API.
    Cli,
    /// The control plane itself, at the end of what it was asked for.
    Switchback,
}

/// Who made a change, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Author {
    /// By which way it came.
    pub origin: Origin,
    /// The name of the token, or the peer of the socket; none for what came from no caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// The reason that the caller gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a command did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The revision that holds what is in force now: a new one, or an earlier one if nothing changed.
    pub revision: u64,
    /// What was asked for.
    pub kind: Kind,
    /// Who asked.
    #[serde(flatten)]
    pub author: Author,
    /// When.
    #[serde(with = "as_text::time")]
    pub at: SystemTime,
    /// What it was about. A command about one object has one effect, even if nothing is different after it.
    pub effects: Vec<Effect>,
}

/// One thing that a change was about, as it was before and as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum Effect {
    /// The weights of a split.
    Weights {
        /// The split.
        split: Name,
        /// The weights before.
        before: Weights,
        /// The weights in force now.
        after: Weights,
        /// What becomes of pins.
        pins: PinsOnChange,
        /// The pools whose pins were released.
        released: Vec<Name>,
    },
    /// One endpoint; `None` is one that is not there.
    Endpoint {
        /// Its pool.
        pool: Name,
        /// Its address.
        address: EndpointAddress,
        /// What it was.
        before: Option<LiveEndpoint>,
        /// What it is now.
        after: Option<LiveEndpoint>,
    },
    /// The drain of a pool.
    Pool {
        /// The pool.
        pool: Name,
        /// Its drain before.
        before: Option<Drain>,
        /// Its drain now.
        after: Option<Drain>,
    },
    /// A split that is declared from now on, with its weights, or no longer.
    Split {
        /// The split.
        split: Name,
        /// Its weights; `None` is a split that is gone.
        weights: Option<Weights>,
    },
    /// A setting of the file.
    Setting {
        /// Where it stands in the file: `route.shop.timeout`.
        key: String,
        /// What it was, as the file writes it.
        before: Option<serde_json::Value>,
        /// What it is now.
        after: Option<serde_json::Value>,
    },
}

impl Kind {
    /// Its name, as the API and the metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Weights => "weights",
            Self::Switch => "switch",
            Self::Rollback => "rollback",
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::PutEndpoint => "put_endpoint",
            Self::DeleteEndpoint => "delete_endpoint",
            Self::ForgetEndpoint => "forget_endpoint",
            Self::Restore => "restore",
            Self::Load => "load",
        }
    }
}

impl Origin {
    /// Its name, for the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
            Self::Cli => "cli",
            Self::Switchback => "switchback",
        }
    }
}

impl From<Origin> for Author {
    fn from(origin: Origin) -> Self {
        Self { origin, who: None, reason: None }
    }
}

impl Change {
    /// Whether anything is different now.
    pub fn changed(&self) -> bool {
        self.effects.iter().any(Effect::changed)
    }

    /// The effect of a command that is about one object.
    pub fn effect(&self) -> &Effect {
        self.effects.first().expect("a command about one object has one effect")
    }
}

impl Effect {
    /// Whether it is different now.
    pub fn changed(&self) -> bool {
        match self {
            Self::Weights { before, after, released, .. } => before != after || !released.is_empty(),
            Self::Endpoint { before, after, .. } => before != after,
            Self::Pool { before, after, .. } => before != after,
            Self::Split { .. } => true,
            Self::Setting { before, after, .. } => before != after,
        }
    }
}
