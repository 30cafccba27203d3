//! What can be read of the control plane at one moment.
//!
//! Invariant: a snapshot is made by the controller alone and never changes; whoever holds one sees one moment.

use std::{collections::BTreeMap, sync::Arc};

use super::{drains::Draining, state::State};
use crate::{
    config::{Config, StatePlace},
    model::{name::Name, resolved::Resolved},
    routing::table::Table,
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
    /// For each split, the requests that each of its pools had taken when its weights last changed.
    pub(super) taken: BTreeMap<Name, Arc<[u64]>>,
    /// The endpoints that drain.
    pub draining: BTreeMap<EndpointId, Draining>,
}

impl Snapshot {
    /// Whether changes survive the process.
    pub fn is_durable(&self) -> bool {
        matches!(self.config.state, Some(StatePlace::File(_)))
    }

    /// The requests that each pool of a split had taken when the split's weights last changed, in declared order.
    pub fn taken_at_change(&self, split: &str) -> &[u64] {
        self.taken.get(split).map(Arc::as_ref).unwrap_or_default()
    }
}
