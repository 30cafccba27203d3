//! How many requests each pool of a split has taken since the split's weights last changed, whichever process served them.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::state::State;
use crate::{
    model::name::Name,
    telemetry::registry::{Key, Registry as Series},
};

/// For each split, where the counter of each of its pools stood when the split's weights last changed, in declared order.
/// A predecessor's requests are before its first one: they make it negative.
#[derive(Debug, Clone, Default)]
pub struct Taken(BTreeMap<Name, Arc<[i64]>>);

/// What the pools of splits have taken, for a successor to go on from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Passed(BTreeMap<String, OfSplit>);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OfSplit {
    /// The revision that set the weights which these requests were drawn by.
    revision: u64,
    requests: BTreeMap<String, u64>,
}

impl Taken {
    /// Counts from now on, for every split.
    pub(super) fn begun(state: &State, series: &Series) -> Self {
        let mut taken = Self::default();
        state.live().weights.keys().for_each(|split| taken.begin(state, split, series));
        taken
    }

    /// Counts from now on for a split whose weights have changed.
    pub(super) fn begin(&mut self, state: &State, split: &Name, series: &Series) {
        let pools = state.live().weights[split].iter();
        self.0.insert(split.clone(), pools.map(|(pool, _)| stand(series, split, pool)).collect());
    }

    /// Lets go of the splits that are no more.
    pub(super) fn keep_those_of(&mut self, state: &State) {
        self.0.retain(|split, _| state.live().weights.contains_key(split));
    }

    /// Adds what a predecessor passed on of the splits whose weights are still those.
    pub(super) fn recall(&mut self, passed: &Passed, state: &State) {
        for (split, stands) in &mut self.0 {
            let Some(of_split) = passed.0.get(split.as_str()) else { continue };
            if Some(of_split.revision) != revision(state, split) {
                continue;
            }
            let before = |pool: &Name| of_split.requests.get(pool.as_str()).copied().unwrap_or(0);
            let pools = state.live().weights[split].iter().zip(stands.iter());
            *stands = pools.map(|((pool, _), stand)| stand.saturating_sub_unsigned(before(pool))).collect();
        }
    }

    /// What each pool of a split has taken since the split's weights last changed.
    pub(super) fn since_change(&self, state: &State, split: &str, series: &Series) -> BTreeMap<Name, u64> {
        let (Some((split, stands)), Some(weights)) =
            (self.0.get_key_value(split), state.live().weights.get(split))
        else {
            return BTreeMap::new();
        };
        let pools = weights.iter().zip(stands.iter());
        // Workers go on counting while this reads, so a sum may be a little behind one that was read earlier.
        let since = |pool: &Name, from: i64| stand(series, split, pool).saturating_sub(from).max(0);
        pools.map(|((pool, _), from)| (pool.clone(), since(pool, *from).unsigned_abs())).collect()
    }

    /// All of it, for a successor.
    pub(super) fn passed(&self, state: &State, series: &Series) -> Passed {
        let of_split = |split: &Name| {
            let requests = self.since_change(state, split.as_str(), series).into_iter();
            let requests = requests.map(|(pool, count)| (pool.to_string(), count)).collect();
            Some((split.to_string(), OfSplit { revision: revision(state, split)?, requests }))
        };
        Passed(self.0.keys().filter_map(of_split).collect())
    }
}

fn revision(state: &State, split: &Name) -> Option<u64> {
    state.history(split.as_str()).map(|history| history.current().number)
}

/// Where the counter of a pool in a split stands.
fn stand(series: &Series, split: &Name, pool: &Name) -> i64 {
    let taken = series.counts(&Key::Split(split.clone(), pool.clone())).taken();
    i64::try_from(taken).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::control::samples::config;

    #[test]
    fn a_successor_goes_on_from_where_the_weights_are_the_same() {
        let series = Series::default();
        let state = State::declared(&config(&[95, 5]), SystemTime::UNIX_EPOCH).0;
        let passed = |revision| -> Passed {
            let text = format!(
                r#"{{"shop": {{"revision": {revision}, "requests": {{"blue": 19, "gone": 7}}}}, "other": {{"revision": 0, "requests": {{}}}}}}"#
            );
            serde_json::from_str(&text).expect("it is as it is written")
        };
        let counts = |taken: &Taken| -> Vec<u64> {
            taken.since_change(&state, "shop", &series).into_values().collect()
        };
        let mut taken = Taken::begun(&state, &series);
        taken.recall(&passed(1), &state);
        assert_eq!(counts(&taken), [0, 0], "they were drawn by other weights");
        taken.recall(&passed(0), &state);
        assert_eq!(counts(&taken), [19, 0]);
        let mut third = Taken::begun(&state, &series);
        third.recall(&taken.passed(&state, &series), &state);
        assert_eq!(counts(&third), [19, 0], "and the next one");
        third.begin(&state, &Name::new("shop").expect("a name"), &series);
        assert_eq!(counts(&third), [0, 0], "a change begins anew");
    }
}
