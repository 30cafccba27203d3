//! What can be asked of the control plane.

use std::time::SystemTime;

use crate::model::{name::Name, weights::Weights};

/// A wish to change the live state.
///
/// Names are as the caller wrote them: [`super::state::State::apply`] resolves them, so that what is wrong with a
/// command is found, and said, in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Puts a whole set of weights in force. A pool of the split that is not named gets 0.
    SetWeights {
        /// The split.
        split: String,
        /// Pools with their weights.
        weights: Vec<(String, u64)>,
        /// What becomes of pins; without it they are kept.
        pins: Option<PinsOnChange>,
    },
    /// Sends all new traffic to one pool: weight 100 for it, 0 for the others.
    Switch {
        /// The split.
        split: String,
        /// The pool.
        to: String,
        /// What becomes of pins; without it they are kept.
        pins: Option<PinsOnChange>,
    },
    /// Goes back to earlier weights.
    Rollback {
        /// The split.
        split: String,
        /// The revision whose weights come back; without it, those before the last rise
        /// (see [`super::history::History::before_last_rise`]).
        to_revision: Option<u64>,
        /// What becomes of pins; without it they are released.
        pins: Option<PinsOnChange>,
    },
}

/// What a change of weights does to the sessions that are pinned to pools of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PinsOnChange {
    /// They stay where they are.
    Keep,
    /// Those move, with their next request, that are pinned to a pool whose share falls; where it was asked for in so many
    /// words, those of every pool that has weight 0 then, too.
    Release,
}

/// What made a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The weights that the file declares, at the start.
    Declared,
    /// [`Command::SetWeights`].
    Weights,
    /// [`Command::Switch`].
    Switch,
    /// [`Command::Rollback`].
    Rollback,
}

/// Where a change came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration file.
    File,
    /// The admin API.
    Admin,
}

/// What a command did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The revision that holds the weights `after`: a new one, or the one in force if nothing changed.
    pub revision: u64,
    /// The split.
    pub split: Name,
    /// What was asked for.
    pub kind: Kind,
    /// Who asked.
    pub origin: Origin,
    /// When.
    pub at: SystemTime,
    /// The weights before.
    pub before: Weights,
    /// The weights in force now.
    pub after: Weights,
    /// What becomes of pins.
    pub pins: PinsOnChange,
    /// The pools whose pins were released.
    pub released: Vec<Name>,
}

impl Kind {
    /// Its name, as the API and the metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Weights => "weights",
            Self::Switch => "switch",
            Self::Rollback => "rollback",
        }
    }
}

impl Origin {
    /// Who it was, for the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Admin => "api",
        }
    }
}

impl Change {
    /// Whether anything is different now.
    pub fn changed(&self) -> bool {
        self.before != self.after || !self.released.is_empty()
    }
}

impl Command {
    /// What kind of change it asks for.
    pub fn kind(&self) -> Kind {
        match self {
            Self::SetWeights { .. } => Kind::Weights,
            Self::Switch { .. } => Kind::Switch,
            Self::Rollback { .. } => Kind::Rollback,
        }
    }

    /// What becomes of pins, if it says so.
    pub fn pins(&self) -> Option<PinsOnChange> {
        match self {
            Self::SetWeights { pins, .. } | Self::Switch { pins, .. } | Self::Rollback { pins, .. } => *pins,
        }
    }

    /// The split that it names.
    pub fn split(&self) -> &str {
        match self {
            Self::SetWeights { split, .. } | Self::Switch { split, .. } | Self::Rollback { split, .. } => {
                split
            }
        }
    }
}
