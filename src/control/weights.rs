//! What a command makes of a split's weights, and whose pins that releases.

use super::{
    history,
    refusal::{Refusal, Unknown, WeightFault},
};
use crate::{
    config::Config,
    model::{name::Name, weights::Weights},
};

/// The weight that a switch gives to the pool that takes everything.
const SWITCHED: u32 = 100;

/// Whether sessions of a split are pinned.
pub fn has_pins(config: &Config, split: &Name) -> bool {
    config.splits.iter().any(|settings| settings.name == *split && settings.sticky.is_some())
}

/// The pools whose pins are released by a change of weights: those whose share falls, and where that `is_asked` for in so
/// many words, every one of weight 0.
pub fn released(before: &Weights, after: &Weights, is_asked: bool) -> Vec<Name> {
    let falls = |pool: &Name| history::gain(pool, before, after) < 0;
    let released = after.iter().filter(|(pool, weight)| falls(pool) || (is_asked && *weight == 0));
    released.map(|(pool, _)| pool.clone()).collect()
}

/// A whole set of weights over the pools of `current`, in their order; a pool that is not named gets 0.
pub fn whole_set(current: &Weights, named: &[(String, u64)]) -> Result<Weights, Vec<WeightFault>> {
    let mut faults = Vec::new();
    let mut set: Vec<(Name, Option<u32>)> = current.iter().map(|(pool, _)| (pool.clone(), None)).collect();
    for (pool, weight) in named {
        let Some((name, place)) = set.iter_mut().find(|(name, _)| name.as_str() == pool) else {
            faults.push(WeightFault::Pool(unknown_pool(current, pool)));
            continue;
        };
        let valid = u32::try_from(*weight).ok().filter(|weight| *weight <= Weights::MAX);
        if place.is_some() {
            faults.push(WeightFault::Repeated(name.clone()));
        } else if valid.is_none() {
            faults.push(WeightFault::TooLarge(name.clone(), *weight));
        }
        *place = Some(valid.unwrap_or(Weights::MAX));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    // The names are the split's own, each once, and the weights are in range: only their sum can be wrong.
    Weights::new(set.into_iter().map(|(pool, weight)| (pool, weight.unwrap_or(0))).collect())
        .map_err(|_| vec![WeightFault::AllZero])
}

/// The weights that are named, and those in force of the pools that are not.
pub fn completed(current: &Weights, named: &[(String, u64)]) -> Vec<(String, u64)> {
    let others = current.iter().filter(|(pool, _)| !named.iter().any(|(name, _)| name == pool.as_str()));
    let others = others.map(|(pool, weight)| (pool.to_string(), weight.into()));
    named.iter().cloned().chain(others).collect()
}

/// All weight to one pool.
pub fn switched(current: &Weights, to: &str) -> Result<Weights, Refusal> {
    if current.of(to).is_none() {
        return Err(Refusal::Pool(unknown_pool(current, to)));
    }
    let weight = |pool: &Name| if pool.as_str() == to { SWITCHED } else { 0 };
    let set = current.iter().map(|(pool, _)| (pool.clone(), weight(pool))).collect();
    Ok(Weights::new(set).expect("one pool of the split has a weight above 0"))
}

fn unknown_pool(current: &Weights, name: &str) -> Unknown {
    let pools: Vec<&Name> = current.iter().map(|(pool, _)| pool).collect();
    Unknown::new(name, pools.iter().copied())
}
