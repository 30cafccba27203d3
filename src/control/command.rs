//! What can be asked of the control plane.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{change::Kind, declaration::Source};
use crate::{
    config::Config,
    model::{
        endpoint_address::EndpointAddress,
        live_state::{LiveState, PinsOnDrain},
        name::Name,
    },
};

/// The longest deadline of a drain: sessions of a week are kept, and a slip of the keyboard is found.
pub const MAX_DEADLINE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A wish to change the live state.
///
/// Names are as the caller wrote them: [`super::state::State::apply`] resolves them, so that what is wrong with a
/// command is found, and said, in one place.
#[derive(Debug, Clone)]
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
    /// Changes the weights of some pools of a split and leaves those of the others.
    MergeWeights {
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
    /// Drains an endpoint, or changes how it is drained.
    DrainEndpoint {
        /// Which one.
        of: EndpointOf,
        /// How.
        terms: Terms,
    },
    /// Lets an endpoint take traffic again; one that was to be removed stays.
    UndrainEndpoint {
        /// Which one.
        of: EndpointOf,
    },
    /// Adds an endpoint or changes its weight; one that was to be removed stays.
    PutEndpoint {
        /// Which one.
        of: EndpointOf,
        /// Its share within its pool.
        weight: u64,
    },
    /// Changes the weight of an endpoint that is there, and nothing else of it.
    WeighEndpoint {
        /// Which one.
        of: EndpointOf,
        /// Its share within its pool; `None` leaves it.
        weight: Option<u64>,
    },
    /// Drains an endpoint and then removes it.
    DeleteEndpoint {
        /// Which one.
        of: EndpointOf,
        /// How it is drained.
        terms: Terms,
    },
    /// Removes endpoints whose drain has ended: the last step of each [`Command::DeleteEndpoint`], taken by the control
    /// plane itself, of many in one revision. One that is to stay after all stays.
    Forget {
        /// Which ones, by their pool.
        all: BTreeMap<Name, HashSet<EndpointAddress>>,
    },
    /// Drains a pool as a whole, or changes how it is drained.
    DrainPool {
        /// The pool.
        pool: String,
        /// How.
        terms: Terms,
    },
    /// Lets a pool take traffic again. Endpoints that are drained for themselves stay so.
    UndrainPool {
        /// The pool.
        pool: String,
    },
    /// Puts the live state of an earlier revision in force again, as far as what it is about is still declared.
    Restore {
        /// The revision.
        revision: u64,
        /// What was in force then.
        live: Arc<LiveState>,
    },
    /// Puts a file in force: what it says differently from the file before it takes effect, and nothing else does
    /// (see [`super::merge`]).
    Load {
        /// The file, checked.
        config: Arc<Config>,
        /// By which way it came.
        source: Source,
    },
}

/// An endpoint, as a caller names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointOf {
    /// Its pool.
    pub pool: String,
    /// Its address.
    pub address: String,
}

/// How a drain is to be. What is not said stays as it is for one that drains already, else the pool's settings say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// How long sessions that are kept have, or requests in flight.
    pub deadline: Option<Bound>,
    /// How long tunnels and event streams have. Where only a deadline is said, they have no longer than that.
    pub stream_deadline: Option<Bound>,
    /// What becomes of pinned sessions.
    pub pins: Option<PinsOnDrain>,
}

/// A time that may have no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// At most so long.
    Within(Duration),
    /// As long as it takes.
    Unbounded,
}

/// What a change of weights does to the sessions that are pinned to pools of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PinsOnChange {
    /// They stay where they are.
    Keep,
    /// Those move, with their next request, that are pinned to a pool whose share falls; where it was asked for in so many
    /// words, those of every pool that has weight 0 then, too.
    Release,
}

impl Command {
    /// What kind of change it asks for.
    pub fn kind(&self) -> Kind {
        match self {
            Self::SetWeights { .. } | Self::MergeWeights { .. } => Kind::Weights,
            Self::Switch { .. } => Kind::Switch,
            Self::Rollback { .. } => Kind::Rollback,
            Self::DrainEndpoint { .. } | Self::DrainPool { .. } => Kind::Drain,
            Self::UndrainEndpoint { .. } | Self::UndrainPool { .. } => Kind::Undrain,
            Self::PutEndpoint { .. } | Self::WeighEndpoint { .. } => Kind::PutEndpoint,
            Self::DeleteEndpoint { .. } => Kind::DeleteEndpoint,
            Self::Forget { .. } => Kind::ForgetEndpoint,
            Self::Restore { .. } => Kind::Restore,
            Self::Load { .. } => Kind::Load,
        }
    }
}

impl Bound {
    /// The time, if it has an end.
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::Within(limit) => Some(limit),
            Self::Unbounded => None,
        }
    }
}
