//! Which endpoints drain, by a state and the tables before and after it. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    drains::{Draining, Parts},
    schedule::Schedule,
};
use crate::{
    config::{Config, PinTo},
    model::{
        live_state::{Drain, LiveEndpoint, LivePool, LiveState, PinsOnDrain},
        name::Name,
        resolved::Resolved,
    },
    routing::table::{Pool, Table},
    upstream::endpoint::{Endpoint, EndpointId},
};

/// What is compiled from what: all that decides which endpoints drain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation<'a> {
    pub(super) config: &'a Config,
    pub(super) state: &'a LiveState,
    pub(super) resolved: &'a Resolved,
    /// The table that comes into force.
    pub(super) table: &'a Table,
    /// The table that was in force, if any.
    pub(super) previous: Option<&'a Table>,
    /// Names stand for other addresses, and nothing else is different from before.
    pub(super) is_resolved_anew: bool,
    pub(super) at: SystemTime,
}

/// What a new table brings and takes away.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// The endpoints that the table before had not.
    pub(super) came: Vec<Arc<Endpoint>>,
    /// Those that it alone had, with the drain that they get if they do not drain already.
    pub(super) left: Vec<Draining>,
}

impl Situation<'_> {
    /// The endpoints that the state drains, by their own drain or their pool's.
    pub(super) fn draining(&self) -> impl Iterator<Item = Draining> {
        self.table.pools.iter().flat_map(|pool| self.draining_of(pool))
    }

    fn draining_of(&self, pool: &Pool) -> Vec<Draining> {
        let settings = &pool.settings;
        let live = &self.state.pools[&settings.name];
        if live.drain.is_none() && live.endpoints.iter().all(|endpoint| endpoint.drain.is_none()) {
            return Vec::new();
        }
        let pins = Pinned::to(self.config, &settings.name);
        // Of an address that two names stand for, the first counts, as in the table.
        let mut left: HashMap<_, _> =
            pool.endpoints.iter().map(|(endpoint, _)| (endpoint.address, endpoint)).collect();
        let mut draining = Vec::new();
        for declared in &live.endpoints {
            let parts = parts(live, declared, pins, settings.drain.deadline);
            let schedule = parts.into_iter().flatten().reduce(Schedule::or_sooner);
            let targets = self.resolved.targets(&declared.address);
            for endpoint in targets.iter().filter_map(|target| left.remove(&target.address)) {
                draining.extend(schedule.map(|schedule| Draining {
                    endpoint: Arc::clone(endpoint),
                    declared: declared.address.clone(),
                    schedule,
                    parts,
                    ends: None,
                    is_gone: false,
                }));
            }
        }
        draining
    }

    /// The endpoints that came and those that left.
    pub(super) fn moved(&self) -> Moved {
        let before = self.previous.map_or(&[][..], |table| &table.pools);
        let before: BTreeMap<_, _> = before.iter().map(|pool| (&pool.settings.name, pool)).collect();
        let mut moved = Moved::default();
        for pool in &self.table.pools {
            let known = before.get(&pool.settings.name).copied();
            if known.is_some_and(|known| Arc::ptr_eq(known, pool)) {
                continue;
            }
            let then = known.map_or(&[][..], |known| &known.endpoints);
            let (there, were) = (ids(&pool.endpoints), ids(then));
            let came = pool.endpoints.iter().filter(|(endpoint, _)| !were.contains(&endpoint.id));
            moved.came.extend(came.map(|(endpoint, _)| Arc::clone(endpoint)));
            let left = then.iter().filter(|(endpoint, _)| !there.contains(&endpoint.id));
            moved.left.extend(left.map(|(endpoint, _)| self.gone(pool, endpoint)));
        }
        let names: HashSet<_> = self.table.pools.iter().map(|pool| &pool.settings.name).collect();
        for pool in before.values().filter(|pool| !names.contains(&pool.settings.name)) {
            moved.left.extend(pool.endpoints.iter().map(|(endpoint, _)| self.gone(pool, endpoint)));
        }
        moved
    }

    /// The drain of an endpoint that has left the table without one. Whoever removes an endpoint wants it to be over at
    /// its pool's deadlines. That a name stands for other addresses says nothing of those that are there no more: some
    /// name servers answer with a part of them each time, and a long answer is not to end by that.
    fn gone(&self, pool: &Pool, endpoint: &Arc<Endpoint>) -> Draining {
        let settings = pool.settings.drain;
        let unless_resolved = |deadline| (!self.is_resolved_anew).then_some(deadline);
        let drain = Drain {
            since: self.at,
            deadline: unless_resolved(settings.deadline),
            stream_deadline: unless_resolved(settings.stream_deadline),
            pins: PinsOnDrain::Move,
        };
        let schedule = Schedule::of(&drain, false, settings.deadline);
        Draining {
            endpoint: Arc::clone(endpoint),
            declared: endpoint.address.into(),
            schedule,
            parts: [Some(schedule), None],
            ends: None,
            is_gone: true,
        }
    }
}

fn ids(endpoints: &[(Arc<Endpoint>, u32)]) -> HashSet<EndpointId> {
    endpoints.iter().map(|(endpoint, _)| endpoint.id).collect()
}

/// The schedules of an endpoint that drains by itself, with its pool, or both.
fn parts(live: &LivePool, endpoint: &LiveEndpoint, pins: Pinned, in_flight: Duration) -> Parts {
    let own = endpoint.drain.map(|drain| Schedule::of(&drain, pins.to_endpoints, in_flight));
    let pools = live.drain.map(|drain| Schedule::of(&drain, pins.to_pool, in_flight));
    [own, pools]
}

/// What sessions can be pinned to.
#[derive(Debug, Clone, Copy)]
struct Pinned {
    to_pool: bool,
    to_endpoints: bool,
}

impl Pinned {
    fn to(config: &Config, pool: &Name) -> Self {
        let splits = config.splits.iter().filter(|split| split.weights.of(pool.as_str()).is_some());
        let sticky = splits.filter_map(|split| split.sticky.as_ref());
        sticky.fold(Self { to_pool: false, to_endpoints: false }, |pinned, sticky| Self {
            to_pool: true,
            to_endpoints: pinned.to_endpoints || sticky.to == PinTo::Endpoint,
        })
    }
}
