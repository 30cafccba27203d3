//! Which endpoint of a pool is taken: draws by weight among the endpoints that may be used.
//!
//! It claims nothing: between a draw and the claim an endpoint may begin to drain, and the claim decides.

use std::sync::Arc;

use super::endpoint::Endpoint;
use crate::model::sequence::Sequence;

/// How often a draw that fell on an endpoint which can't be used is repeated before all of them are looked at. With
/// most of a pool well, hardly any draw comes so far.
const DRAWS: usize = 4;

/// Draws among a pool's endpoints by their weights, in constant or logarithmic time while they are well.
#[derive(Debug)]
pub struct Balancer {
    /// The sums of the weights up to and with each endpoint; empty if all weights are the same, which needs no table.
    sums: Box<[u64]>,
}

impl Balancer {
    /// Prepares for draws among these endpoints.
    pub fn new(endpoints: &[(Arc<Endpoint>, u32)]) -> Self {
        if endpoints.iter().all(|(_, weight)| *weight == endpoints[0].1) {
            return Self { sums: Box::default() };
        }
        let sums = endpoints.iter().scan(0, |sum, (_, weight)| {
            *sum += u64::from(*weight);
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    /// The less loaded of two different endpoints that are drawn by weight: the one with fewer requests in flight for
    /// its weight, of equals the first drawn, so that an idle pool is shared by weight exactly.
    ///
    /// `None` if no endpoint with a weight above 0 `may` be used. (Mitzenmacher, The Power of Two Choices in
    /// Randomized Load Balancing, 2001.)
    #[inline]
    pub fn least_request(
        &self,
        endpoints: &[(Arc<Endpoint>, u32)],
        rng: &mut fastrand::Rng,
        may: impl Fn(&Endpoint) -> bool,
    ) -> Option<usize> {
        let usable = |index: usize| endpoints[index].1 > 0 && may(&endpoints[index].0);
        if let [_] = endpoints {
            return usable(0).then_some(0);
        }
        let first = self.draw(endpoints, rng, usable)?;
        let Some(second) = self.draw(endpoints, rng, |index| index != first && usable(index)) else {
            return Some(first);
        };
        // load / weight of each, compared without a division.
        let load = |one: usize, other: usize| {
            u128::from(endpoints[one].0.occupancy.in_flight()) * u128::from(endpoints[other].1)
        };
        Some(if load(second, first) < load(first, second) { second } else { first })
    }

    /// The next endpoint in turn. One that may not be used is passed over; `None` if none may.
    #[inline]
    pub fn round_robin(
        &self,
        endpoints: &[(Arc<Endpoint>, u32)],
        sequence: &mut Sequence,
        rng: &mut fastrand::Rng,
        may: impl Fn(&Endpoint) -> bool,
    ) -> Option<usize> {
        let usable = |index: usize| endpoints[index].1 > 0 && may(&endpoints[index].0);
        for _ in 0..DRAWS {
            let index = sequence.pick(rng);
            if usable(index) {
                return Some(index);
            }
        }
        scan(endpoints, rng, usable)
    }

    /// An endpoint by weight.
    #[inline]
    fn draw(
        &self,
        endpoints: &[(Arc<Endpoint>, u32)],
        rng: &mut fastrand::Rng,
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if endpoints.is_empty() {
            return None;
        }
        for _ in 0..DRAWS {
            let index = match self.sums.last() {
                None => rng.usize(0..endpoints.len()),
                Some(sum) => {
                    let at = rng.u64(0..*sum);
                    self.sums.partition_point(|sum| *sum <= at)
                }
            };
            if usable(index) {
                return Some(index);
            }
        }
        scan(endpoints, rng, usable)
    }
}

/// An endpoint by weight among those that are usable, found by looking at all of them (a weighted reservoir of one).
#[cold]
fn scan(
    endpoints: &[(Arc<Endpoint>, u32)],
    rng: &mut fastrand::Rng,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut sum = 0;
    let mut chosen = None;
    for (index, (_, weight)) in endpoints.iter().enumerate() {
        if usable(index) {
            sum += u64::from(*weight);
            if rng.u64(0..sum) < u64::from(*weight) {
                chosen = Some(index);
            }
        }
    }
    chosen
}
