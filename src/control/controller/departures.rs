//! How endpoints leave for good: those whose drain was to end so are taken out of the state, and those that are in no
//! table and drain no more are let go of.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::Controller;
use crate::{
    control::{change::Origin, command::Command, handle::Request, snapshot::Snapshot},
    model::{endpoint_address::EndpointAddress, name::Name},
    routing::table::Table,
    upstream::endpoint::{Endpoint, EndpointId},
};

/// How long a removal that could not be written is left alone.
const FORGETS_AFTER: Duration = Duration::from_secs(5);
/// Endpoints that are removed in one revision: a record of so many effects is below a megabyte.
const MAX_FORGOTTEN: usize = 1_000;

impl Controller {
    /// Removes the endpoints whose drain was to end so: all of a tick in one revision, so that thousands that end at once
    /// are one build and one commit, and calls are heard before the next.
    pub(super) async fn forget(&mut self) {
        if !self.custody.may_write() || self.forgets_again.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let all = self.ended();
        if !all.is_empty() {
            let request = Request::new(Command::Forget { all }, Origin::Switchback.into());
            // What can't be removed now is tried again.
            let failed = self.obey(request).await.is_err();
            self.forgets_again = failed.then(|| Instant::now() + FORGETS_AFTER);
        }
    }

    /// Lets go of the endpoints that have left for good. Never while a change is being made durable: the table that is to
    /// come has endpoints that no table in force has yet.
    pub(super) fn retire(&mut self) {
        if self.is_any_to_retire() {
            let table = Arc::clone(&self.snapshot.borrow().table);
            let in_table: HashSet<EndpointId> =
                endpoints_of(&table).map(|(endpoint, _)| endpoint.id).collect();
            let is_needed =
                |endpoint: &Endpoint| in_table.contains(&endpoint.id) || self.drains.has(endpoint);
            self.endpoints.retire(is_needed, &self.series);
        }
    }

    /// Whether there are endpoints that are neither in the table nor drain: their connections are being closed.
    pub(super) fn is_any_to_retire(&self) -> bool {
        let in_table = endpoints_of(&self.snapshot.borrow().table).count();
        self.endpoints.len() > in_table + self.drains.gone()
    }

    /// The endpoints that are to be removed and whose drain has ended, at most [`MAX_FORGOTTEN`] of them.
    fn ended(&self) -> BTreeMap<Name, HashSet<EndpointAddress>> {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let unended = self.drains.unended(&self.succession);
        let mut ended: BTreeMap<Name, HashSet<EndpointAddress>> = BTreeMap::new();
        let leaving = leaving(&snapshot).filter(|leaving| !unended.contains(leaving));
        for (pool, address) in leaving.take(MAX_FORGOTTEN) {
            ended.entry(pool.clone()).or_default().insert(address.clone());
        }
        ended
    }

    pub(super) fn is_anyone_leaving(&self) -> bool {
        leaving(&self.snapshot.borrow()).next().is_some()
    }
}

/// The endpoints that are to be removed when their drain has ended.
fn leaving(snapshot: &Snapshot) -> impl Iterator<Item = (&Name, &EndpointAddress)> {
    let pools = snapshot.state.live().pools.iter();
    pools.flat_map(|(name, pool)| {
        let leaving = pool.endpoints.iter().filter(|endpoint| endpoint.is_leaving);
        leaving.map(move |endpoint| (name, &endpoint.address))
    })
}

/// The endpoints that a table has.
pub(super) fn endpoints_of(table: &Table) -> impl Iterator<Item = &(Arc<Endpoint>, u32)> {
    table.pools.iter().flat_map(|pool| &pool.endpoints)
}
