//! What a load moves, and what it leaves alone, over all small files and live states.

use std::time::{Duration, SystemTime};

use proptest::{collection::vec, option, prelude::*};

use super::merge::merged;
use crate::model::{
    live_state::{Drain, LiveEndpoint, LivePool, LiveState, PinsOnDrain},
    name::Name,
    weights::Weights,
};

const POOLS: [&str; 2] = ["blue", "green"];
const SPLITS: [&str; 2] = ["shop", "blog"];
const ADDRESSES: u16 = 4;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn drain(is_drained: bool, second: u64) -> Option<Drain> {
    is_drained.then(|| Drain {
        since: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
        deadline: Some(Duration::from_secs(second)),
        stream_deadline: None,
        pins: PinsOnDrain::Keep,
    })
}

/// An endpoint at each address: whether it is there, its weight, and whether it drains.
type Endpoints = Vec<Option<(u32, bool)>>;

fn pool(endpoints: Endpoints, is_drained: bool, second: u64) -> LivePool {
    let there =
        endpoints.into_iter().zip(1..=ADDRESSES).filter_map(|(endpoint, port)| Some((endpoint?, port)));
    let endpoints = there.map(|((weight, is_drained), port)| LiveEndpoint {
        address: format!("10.0.0.1:{port}").parse().unwrap(),
        weight,
        drain: drain(is_drained, second),
        is_leaving: false,
    });
    LivePool { endpoints: endpoints.collect(), drain: drain(is_drained, second) }
}

/// A file's declaration, or a live state, whose drains began at `second`.
fn state(second: u64) -> impl Strategy<Value = LiveState> {
    let endpoints = vec(option::of((1..4_u32, any::<bool>())), usize::from(ADDRESSES));
    let pools = vec((endpoints, any::<bool>()), POOLS.len());
    (pools, vec((1..4_u32, 0..4_u32), SPLITS.len())).prop_map(move |(pools, splits)| {
        let pools = POOLS
            .iter()
            .zip(pools)
            .map(|(of, (endpoints, is_drained))| (name(of), pool(endpoints, is_drained, second)));
        let weights = SPLITS.iter().zip(splits).map(|(of, (blue, green))| {
            let weights = vec![(name("blue"), blue), (name("green"), green)];
            (name(of), Weights::new(weights).unwrap())
        });
        LiveState { pools: pools.collect(), weights: weights.collect(), released: Default::default() }
    })
}

/// The same, in one order: the order of endpoints is the file's, and says nothing.
fn sorted(mut state: LiveState) -> LiveState {
    for pool in state.pools.values_mut() {
        pool.endpoints.sort_by_key(|endpoint| endpoint.address.to_string());
    }
    state
}

fn find<'a>(state: &'a LiveState, pool: &str, address: &str) -> Option<&'a LiveEndpoint> {
    state.pools.get(pool)?.endpoints.iter().find(|endpoint| endpoint.address.to_string() == address)
}

proptest! {
    #[test]
    fn the_same_file_again_moves_nothing(file in state(1), live in state(2)) {
        prop_assert_eq!(sorted(merged(&file, &file, &live)), sorted(live));
    }

    #[test]
    fn where_nothing_was_changed_live_the_file_is_what_holds(before in state(1), now in state(2)) {
        let merged = sorted(merged(&before, &now, &before));
        for (pool, declared) in &now.pools {
            let live = &merged.pools[pool];
            prop_assert_eq!(live.drain.is_some(), declared.drain.is_some());
            let shown = |pool: &LivePool| -> Vec<_> {
                let of = |it: &LiveEndpoint| (it.address.to_string(), it.weight, it.drain.is_some());
                pool.endpoints.iter().map(of).collect()
            };
            prop_assert_eq!(shown(live), shown(declared));
        }
        prop_assert_eq!(merged.weights, now.weights);
    }

    #[test]
    fn a_field_moves_only_if_the_file_says_something_else_of_it(
        before in state(1), now in state(2), live in state(3)
    ) {
        let merged = merged(&before, &now, &live);
        for split in SPLITS {
            let is_edited = before.weights[split] != now.weights[split];
            let expected = if is_edited { &now } else { &live };
            prop_assert_eq!(&merged.weights[split], &expected.weights[split]);
        }
        for pool in POOLS {
            let is_edited = before.pools[pool].drain.is_some() != now.pools[pool].drain.is_some();
            let expected = if is_edited { &now } else { &live };
            prop_assert_eq!(merged.pools[pool].drain, expected.pools[pool].drain);
            for port in 1..=ADDRESSES {
                let address = format!("10.0.0.1:{port}");
                let at = |state| find(state, pool, &address);
                let (before, now, live, merged) = (at(&before), at(&now), at(&live), at(&merged));
                match (before, now) {
                    // The file does not know it: it is as it was added live, or is not there.
                    (None, None) => prop_assert_eq!(merged, live),
                    (Some(_), None) => prop_assert_eq!(merged, None, "the file has taken it out"),
                    (None, Some(now)) => {
                        let merged = merged.expect("the file has put it in");
                        prop_assert_eq!(merged.weight, now.weight);
                        // A drain that goes on is never touched by a file that does not speak of one.
                        prop_assert_eq!(merged.drain, live.map_or(now.drain, |live| live.drain));
                    }
                    (Some(before), Some(now)) => {
                        let weight_moved = before.weight != now.weight;
                        let drain_moved = before.drain.is_some() != now.drain.is_some();
                        let Some(live) = live else {
                            prop_assert_eq!(merged.is_some(), weight_moved || drain_moved);
                            continue;
                        };
                        let merged = merged.expect("it is declared and there");
                        prop_assert_eq!(merged.weight, if weight_moved { now.weight } else { live.weight });
                        prop_assert_eq!(merged.drain, if drain_moved { now.drain } else { live.drain });
                    }
                }
            }
        }
    }
}

#[test]
fn a_drain_that_comes_back_with_a_revision_has_all_of_its_time() {
    let state = |drained: Option<Drain>| LiveState {
        pools: [(name("blue"), LivePool { drain: drained, ..pool(vec![Some((1, true))], false, 7) })].into(),
        ..LiveState::default()
    };
    let (then, now) = (state(drain(true, 7)), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
    let undrained = LiveState {
        pools: [(name("blue"), pool(vec![Some((1, false))], false, 0))].into(),
        ..LiveState::default()
    };
    let restored = super::merge::restored(&then, &undrained, now);
    let begins = |of: &LiveState| {
        let pool = &of.pools["blue"];
        [pool.drain, pool.endpoints[0].drain].map(|drain| drain.expect("it drains").since)
    };
    assert_eq!(begins(&restored), [now, now], "it had ended meanwhile, and begins");
    let later = now + Duration::from_secs(1);
    assert_eq!(super::merge::restored(&then, &restored, later), restored, "a second time changes nothing");
    assert_eq!(super::merge::restored(&then, &then, now), then, "one that goes on goes on");
}
