//! Names of endpoints: from the live state to the discovery, and from what it finds to the table.
//!
//! Invariant: what DNS says is no revision. It changes which addresses a name stands for, never what was declared or
//! drained: an address that comes back is as its name's drain says.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, mpsc::SyncSender},
};

use tokio::sync::mpsc;

use super::controller::{Control, ControlError, Snapshot};
pub use crate::discovery::book::{Book, Entry};
use crate::{
    config,
    discovery::{
        ask::Ask,
        watch::{Finding, Watch},
    },
    model::{
        endpoint_address::EndpointAddress,
        live_state::LiveState,
        resolved::{Resolved, Target},
    },
    routing::table::Table,
    upstream::endpoint::EndpointId,
};

/// Findings on their way to the controller. What is over that holds the discovery back.
const MAX_WAITING: usize = 64;

/// What names stand for from now on.
pub type Findings = BTreeMap<EndpointAddress, Vec<Target>>;

/// Resolves the names that the live state has, as they come and go, until the process ends. `first` is told when each
/// of the names that there were at first has been asked for, and what was found is in the table.
pub async fn follow<A: Ask>(control: Control, ask: A, settings: config::Dns, first: SyncSender<()>) {
    let (found, mut findings) = mpsc::channel(MAX_WAITING);
    let mut watch = Watch::new(ask, settings, Arc::clone(control.names()), found);
    let mut changes = control.changes();
    let mut wanted = in_use(changes.borrow_and_update().state.live());
    watch.follow(&wanted);
    let mut awaited = Some((watch.names().cloned().collect::<BTreeSet<_>>(), first));
    loop {
        awaited = told(awaited);
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = in_use(changes.borrow_and_update().state.live());
                if now != wanted {
                    wanted = now;
                    watch.follow(&wanted);
                }
            }
            Some(finding) = findings.recv() => {
                let batch = gathered(finding, &mut findings, awaited.as_mut().map(|(names, _)| names));
                // The controller's table does not know names that are not used any more.
                let batch: Findings = batch.into_iter().filter(|(name, _)| wanted.contains(name)).collect();
                match control.resolve(batch).await {
                    Ok(()) => {}
                    Err(ControlError::Stopped) => return,
                    // The next round finds the same.
                    Err(error) => tracing::error!(%error, "addresses of names could not be put in force"),
                }
            }
        }
    }
}

/// The names among the endpoints of all pools.
pub fn in_use(live: &LiveState) -> BTreeSet<EndpointAddress> {
    let endpoints = live.pools.values().flat_map(|pool| &pool.endpoints);
    endpoints
        .map(|endpoint| &endpoint.address)
        .filter(|address| address.socket().is_none())
        .cloned()
        .collect()
}

/// A finding and all that wait behind it: of a name that was found twice, the newest.
fn gathered(
    finding: Finding,
    more: &mut mpsc::Receiver<Finding>,
    mut awaited: Option<&mut BTreeSet<EndpointAddress>>,
) -> Findings {
    let mut batch = Findings::new();
    let mut next = Some(finding);
    while let Some(Finding { name, targets }) = next {
        if let Some(awaited) = &mut awaited {
            awaited.remove(&name);
        }
        if let Some(targets) = targets {
            batch.insert(name, targets);
        }
        next = more.try_recv().ok();
    }
    batch
}

/// Tells whoever waits for the first names, once none is left.
fn told(
    awaited: Option<(BTreeSet<EndpointAddress>, SyncSender<()>)>,
) -> Option<(BTreeSet<EndpointAddress>, SyncSender<()>)> {
    let (names, first) = awaited?;
    if names.is_empty() {
        // Who waited may have lost patience.
        let _ = first.try_send(());
        return None;
    }
    Some((names, first))
}

/// What names stand for after these findings; `None` if that is what they stood for before.
pub(super) fn applied(before: &Snapshot, findings: Findings) -> Option<Resolved> {
    let live = before.state.live();
    let mut resolved = Resolved::clone(&before.resolved);
    for (name, targets) in findings {
        resolved.set(name, targets);
    }
    let wanted = in_use(live);
    resolved.retain(|name| wanted.contains(name));
    (resolved != *before.resolved).then_some(resolved)
}

/// Drains the endpoints that a table does not have any more, and lets those that it has anew take requests, unless the
/// live state has them drained. Answers how many came and how many left.
///
/// Call it before the new table is published for those that come, and after for those that leave: so no request finds
/// its only endpoint drained while its table still has no other.
pub(super) fn undrain_new(before: &Table, after: &Table, live: &LiveState, resolved: &Resolved) -> usize {
    let known = endpoints_of(before);
    let mut new = 0;
    for pool in &after.pools {
        let Some(state) = live.pools.get(&pool.settings.name) else { continue };
        let drained: HashSet<_> = state
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.drain.is_some())
            .flat_map(|endpoint| resolved.targets(&endpoint.address))
            .map(|target| target.address)
            .collect();
        for (endpoint, _) in pool.endpoints.iter().filter(|(endpoint, _)| !known.contains(&endpoint.id)) {
            new += 1;
            endpoint.occupancy.undrain();
            if drained.contains(&endpoint.address) {
                endpoint.occupancy.drain();
            } else if state.drain.is_some() {
                endpoint.occupancy.reserve();
            }
        }
    }
    new
}

/// Drains the endpoints that a table does not have any more: what is in flight on them ends, their idle connections
/// are closed. Answers how many there are.
pub(super) fn drain_left(before: &Table, after: &Table) -> usize {
    let kept = endpoints_of(after);
    let left = before
        .pools
        .iter()
        .flat_map(|pool| &pool.endpoints)
        .filter(|(endpoint, _)| !kept.contains(&endpoint.id));
    left.map(|(endpoint, _)| endpoint.occupancy.drain()).count()
}

fn endpoints_of(table: &Table) -> HashSet<EndpointId> {
    table.pools.iter().flat_map(|pool| &pool.endpoints).map(|(endpoint, _)| endpoint.id).collect()
}
