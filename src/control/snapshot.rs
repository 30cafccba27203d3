//! What can be read of the control plane at one moment.
//!
//! Invariant: a snapshot is made by the controller alone and never changes; whoever holds one sees one moment.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    drains::Draining,
    state::State,
    taken::{Passed, Taken},
};
use crate::{
    config::{Config, StatePlace},
    model::{name::Name, resolved::Resolved},
    routing::table::Table,
    telemetry::registry::Registry,
    upstream::endpoint::EndpointId,
};

/// All that can be read of the control plane at one moment: a state and the table that was compiled from it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The file that is in force.
    pub config: Arc<Config>,
    /// The live state.
    pub state: State,
    /// The table in force.
    pub table: Arc<Table>,
    /// What names of endpoints stand for, as the table was compiled with it.
    pub resolved: Arc<Resolved>,
    pub(super) taken: Taken,
    /// The endpoints that drain.
    pub draining: BTreeMap<EndpointId, Draining>,
}

impl Snapshot {
    /// Whether changes survive the process.
    pub fn is_durable(&self) -> bool {
        matches!(self.config.state, Some(StatePlace::File(_)))
    }

    /// The requests that each pool of a split has taken since the split's weights last changed.
    pub fn taken_since_change(&self, split: &str, series: &Registry) -> BTreeMap<Name, u64> {
        self.taken.since_change(&self.state, split, series)
    }

    /// The same of every split, for a successor.
    pub fn passed_taken(&self, series: &Registry) -> Passed {
        self.taken.passed(&self.state, series)
    }
}
