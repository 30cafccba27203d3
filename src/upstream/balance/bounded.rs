//! By a key, with bounded load: a key comes to its endpoint unless that one has more than its part to do.
//!
//! Invariant: which endpoints a key asks, and in which order, depends on the key and the table alone; load and health
//! say only which of them takes it.
//!
//! An endpoint takes a request while it has fewer in flight than `max_load / 100` times its share of all the pool's
//! (the new one included), rounded up. (Mirrokni, Thorup and Zadimoghaddam, Consistent Hashing with Bounded Loads,
//! SODA 2018.) Shares are those of the weights of the endpoints that may be used.

use std::sync::atomic::Ordering::Relaxed;

use super::{Balancer, Warming, Weighted, weight};
use crate::{model::bucket, upstream::endpoint::Endpoint};

/// How many slots of the table a key looks at before all endpoints are. With a bound of 1.25, a fifth of the weight has
/// room at least, so that this many are hardly ever in vain.
const WALK: usize = 64;
/// Once in so many choices the sum of the usable weights is found anew, so that its cost, a look at each endpoint, is
/// shared by as many.
const RECOUNT: u32 = 256;

/// How much of a pool's load an endpoint may have.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// In hundredths of its share.
    pub max_load: u32,
    /// Requests in flight in the pool, the new one included.
    pub in_flight: u64,
}

impl Balancer {
    /// The endpoint of a key, given as its hash: the first that `may` be used and has room. `None` if none may.
    pub fn by_key(
        &self,
        endpoints: &Weighted,
        hash: u64,
        bound: Bound,
        rng: &mut fastrand::Rng,
        warming: Option<&Warming<'_>>,
        may: impl Fn(&Endpoint) -> bool,
    ) -> Option<usize> {
        let maglev = self.maglev.as_ref()?;
        let usable = |index: usize| endpoints[index].1 > 0 && may(&endpoints[index].0);
        let mut sum = maglev.usable.load(Relaxed);
        if sum == 0 || rng.u32(..RECOUNT) == 0 {
            sum = usable_weight(endpoints, warming, usable);
            maglev.usable.store(sum, Relaxed);
        }
        let has_room = |index: usize, sum: u64| {
            // in flight < max_load / 100 x weight / sum x all, without a division.
            let own = u128::from(endpoints[index].0.occupancy.in_flight());
            let share = u128::from(weight(endpoints, warming, index)) * u128::from(bound.max_load);
            own * u128::from(sum) * 100 < share * u128::from(bound.in_flight)
        };
        let walked = maglev.walk(hash).take(WALK).find(|index| usable(*index) && has_room(*index, sum));
        if walked.is_some() {
            return walked;
        }
        // Most of the pool is away or full, or more may be used than when it was counted last.
        let sum = usable_weight(endpoints, warming, usable);
        maglev.usable.store(sum, Relaxed);
        let best = |with_room: bool| {
            let takes = |index: &usize| usable(*index) && (!with_room || has_room(*index, sum));
            let score = |index: usize| {
                let (seed, weight) = (maglev.identities[index][0], endpoints[index].1);
                bucket::score(&hash.to_le_bytes(), seed, weight).unwrap_or_default()
            };
            (0..endpoints.len()).filter(takes).max_by(|a, b| score(*a).total_cmp(&score(*b)))
        };
        // Only what changes while this looks can leave nobody with room.
        best(true).or_else(|| best(false))
    }
}

impl Balancer {
    /// Whose a key is, given as its hash: the first endpoint of its order that `may` be used, whatever its load.
    pub fn owner(&self, endpoints: &Weighted, hash: u64, may: impl Fn(&Endpoint) -> bool) -> Option<usize> {
        let mut walk = self.maglev.as_ref()?.walk(hash);
        walk.find(|index| endpoints[*index].1 > 0 && may(&endpoints[*index].0))
    }
}

/// The sum of the weights that may be used.
#[cold]
fn usable_weight(endpoints: &Weighted, warming: Option<&Warming<'_>>, usable: impl Fn(usize) -> bool) -> u64 {
    let usable = (0..endpoints.len()).filter(|index| usable(*index));
    usable.map(|index| weight(endpoints, warming, index)).fold(0, u64::saturating_add)
}
