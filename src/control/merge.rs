//! Two sources, one truth: what a file that is loaded makes of the live state. Pure.
//!
//! Invariant: a field of the live state moves only if the file says something else about it than the file before did. So
//! an edit of one route never undoes a live switch, and an edit of a split's weights does take effect. The fields are
//! a split's weights as one, an endpoint's presence, its weight and its drain, and a pool's drain.

use std::{collections::BTreeMap, time::SystemTime};

use crate::model::{
    endpoint_address::EndpointAddress,
    live_state::{Drain, LiveEndpoint, LivePool, LiveState},
    name::Name,
};

/// What becomes of `live` when the declaration was `before` and is `now`.
pub fn merged(before: &LiveState, now: &LiveState, live: &LiveState) -> LiveState {
    let weights = now.weights.iter().map(|(split, declared)| {
        let kept = live.weights.get(split).filter(|_| before.weights.get(split) == Some(declared));
        (split.clone(), kept.unwrap_or(declared).clone())
    });
    let nothing = LivePool::default();
    let pools = now.pools.iter().map(|(name, declared)| {
        let merged = match live.pools.get(name) {
            Some(live) => pool(before.pools.get(name).unwrap_or(&nothing), declared, live),
            None => declared.clone(),
        };
        (name.clone(), merged)
    });
    let weights: BTreeMap<_, _> = weights.collect();
    let released = live.released.iter().filter(|((split, pool), _)| {
        weights.get(split).is_some_and(|weights| weights.of(pool.as_str()).is_some())
    });
    let released = released.map(|(key, at)| (key.clone(), *at)).collect();
    LiveState { pools: pools.collect(), released, weights }
}

/// What becomes of a live state when that of an earlier revision is restored `at` a moment: everything in it that is still
/// declared is as it was then; what was not declared then stays as it is. A drain that begins by it has all of its time.
pub fn restored(then: &LiveState, live: &LiveState, at: SystemTime) -> LiveState {
    let mut next = live.clone();
    for (split, weights) in &mut next.weights {
        let Some(earlier) = then.weights.get(split) else { continue };
        let pools = |of: &crate::model::weights::Weights| -> Vec<Name> {
            let mut names: Vec<_> = of.iter().map(|(pool, _)| pool.clone()).collect();
            names.sort();
            names
        };
        // A split whose pools are others today has no weights to go back to.
        if pools(earlier) == pools(weights) {
            *weights = earlier.clone();
        }
    }
    for (name, pool) in &mut next.pools {
        if let Some(earlier) = then.pools.get(name) {
            *pool = restored_pool(earlier, pool, at);
        }
    }
    next
}

fn restored_pool(then: &LivePool, live: &LivePool, at: SystemTime) -> LivePool {
    let endpoint = |earlier: &LiveEndpoint| {
        let now = find(live, &earlier.address).and_then(|endpoint| endpoint.drain);
        LiveEndpoint { drain: restored_drain(earlier.drain, now, at), ..earlier.clone() }
    };
    LivePool {
        endpoints: then.endpoints.iter().map(endpoint).collect(),
        drain: restored_drain(then.drain, live.drain, at),
    }
}

/// The deadlines of a drain count from its beginning: one on the same terms goes on, and any other begins now.
fn restored_drain(then: Option<Drain>, now: Option<Drain>, at: SystemTime) -> Option<Drain> {
    let then = then?;
    let goes_on = now.filter(|now| Drain { since: now.since, ..then } == *now);
    Some(goes_on.unwrap_or(Drain { since: at, ..then }))
}

fn pool(before: &LivePool, now: &LivePool, live: &LivePool) -> LivePool {
    let mut endpoints: Vec<LiveEndpoint> =
        now.endpoints.iter().filter_map(|declared| endpoint(before, declared, live)).collect();
    // Those that were added live stay; those that the file has taken out go.
    let added = live.endpoints.iter().filter(|endpoint| {
        find(now, &endpoint.address).is_none() && find(before, &endpoint.address).is_none()
    });
    endpoints.extend(added.cloned());
    let drain = if before.drain.is_some() == now.drain.is_some() { live.drain } else { now.drain };
    LivePool { endpoints, drain }
}

/// What becomes of an endpoint that is declared; `None` is one that was deleted live.
fn endpoint(before: &LivePool, declared: &LiveEndpoint, live: &LivePool) -> Option<LiveEndpoint> {
    let earlier = find(before, &declared.address);
    let Some(live) = find(live, &declared.address) else {
        let is_same = earlier.is_some_and(|earlier| {
            earlier.weight == declared.weight && earlier.drain.is_some() == declared.drain.is_some()
        });
        return (!is_same).then(|| declared.clone());
    };
    let Some(earlier) = earlier else {
        // It was added live, and the file declares it now: what the file says of it is new, a drain goes on.
        return Some(LiveEndpoint { weight: declared.weight, is_leaving: false, ..live.clone() });
    };
    let weight = if earlier.weight == declared.weight { live.weight } else { declared.weight };
    let keeps_drain = earlier.drain.is_some() == declared.drain.is_some();
    let drain = if keeps_drain { live.drain } else { declared.drain };
    Some(LiveEndpoint { weight, drain, ..live.clone() })
}

fn find<'a>(pool: &'a LivePool, address: &EndpointAddress) -> Option<&'a LiveEndpoint> {
    pool.endpoints.iter().find(|endpoint| endpoint.address == *address)
}
