//! Which endpoint of a pool is taken: in turn, by weight and load, or by a key.
//!
//! It claims nothing: between a choice and the claim an endpoint may begin to drain, and the claim decides. An endpoint
//! that is being warmed (slow start) counts with a part of its weight.

use std::{cell::Cell, sync::Arc, time::Instant};

use self::maglev::Maglev;
use super::endpoint::Endpoint;
use crate::model::{sequence::Sequence, slow_start::SlowStart};

pub mod bounded;
pub mod maglev;

/// How often a draw that fell on an endpoint which can't be used is repeated before all of them are looked at. With
/// most of a pool well, hardly any draw comes so far.
const DRAWS: usize = 4;
/// The same while endpoints are being warmed, when a draw is refused by their factor, too.
const WARMING_DRAWS: usize = 32;
/// The whole of an endpoint's weight, in the parts that a factor is rounded to.
const WHOLE: u64 = 1 << 16;

/// The endpoints of a pool with their weights.
pub type Weighted = [(Arc<Endpoint>, u32)];

/// Chooses among a pool's endpoints, in constant or logarithmic time while they are well.
#[derive(Debug)]
pub struct Balancer {
    /// The sums of the weights up to and with each endpoint; empty if all weights are the same, which needs no table.
    sums: Box<[u64]>,
    /// The table of a pool that is balanced by a key.
    maglev: Option<Maglev>,
}

/// How the endpoints of a pool are warmed.
#[derive(Debug)]
pub struct Warming<'a> {
    slow_start: &'a SlowStart,
    /// The clock is read for the first cold endpoint that is looked at, once.
    now: Cell<Option<Instant>>,
}

impl<'a> Warming<'a> {
    /// `now` is the time; without it, the clock says so when it is needed.
    pub fn new(slow_start: &'a SlowStart, now: Option<Instant>) -> Self {
        Self { slow_start, now: Cell::new(now) }
    }

    /// How many of [`WHOLE`] parts of its weight an endpoint has.
    #[inline]
    fn parts(&self, endpoint: &Endpoint) -> u64 {
        if endpoint.warmth.is_warm() {
            return WHOLE;
        }
        let now = self.now.get().unwrap_or_else(Instant::now);
        self.now.set(Some(now));
        (endpoint.warmth.factor(self.slow_start, now) * WHOLE as f64) as u64
    }
}

impl Balancer {
    /// Prepares for choices among these endpoints; those by a key need a table.
    pub fn new(endpoints: &Weighted, by_key: bool) -> Self {
        let maglev = by_key
            .then(|| Maglev::new(endpoints.iter().map(|(endpoint, weight)| (endpoint.address, *weight))));
        if endpoints.iter().all(|(_, weight)| *weight == endpoints[0].1) {
            return Self { sums: Box::default(), maglev };
        }
        let sums = endpoints.iter().scan(0, |sum, (_, weight)| {
            *sum += u64::from(*weight);
            Some(*sum)
        });
        Self { sums: sums.collect(), maglev }
    }

    /// The less loaded of two different endpoints that are drawn by weight: the one with fewer requests in flight for
    /// its weight, of equals the first drawn, so that an idle pool is shared by weight exactly.
    ///
    /// `None` if no endpoint with a weight above 0 `may` be used. (Mitzenmacher, The Power of Two Choices in
    /// Randomized Load Balancing, 2001.)
    #[inline]
    pub fn least_request(
        &self,
        endpoints: &Weighted,
        rng: &mut fastrand::Rng,
        warming: Option<&Warming<'_>>,
        may: impl Fn(&Endpoint) -> bool,
    ) -> Option<usize> {
        let usable = |index: usize| endpoints[index].1 > 0 && may(&endpoints[index].0);
        if let [_] = endpoints {
            return usable(0).then_some(0);
        }
        let first = self.draw(endpoints, rng, warming, usable)?;
        let Some(second) = self.draw(endpoints, rng, warming, |index| index != first && usable(index)) else {
            return Some(first);
        };
        // load / weight of each, compared without a division.
        let load = |one: usize, other: usize| {
            u128::from(endpoints[one].0.occupancy.in_flight()) * u128::from(weight(endpoints, warming, other))
        };
        Some(if load(second, first) < load(first, second) { second } else { first })
    }

    /// The next endpoint in turn. One that may not be used is passed over, and so is a turn that an endpoint which is
    /// being warmed does not get; `None` if none may.
    #[inline]
    pub fn round_robin(
        &self,
        endpoints: &Weighted,
        sequence: &mut Sequence,
        rng: &mut fastrand::Rng,
        warming: Option<&Warming<'_>>,
        may: impl Fn(&Endpoint) -> bool,
    ) -> Option<usize> {
        let usable = |index: usize| endpoints[index].1 > 0 && may(&endpoints[index].0);
        if let [_] = endpoints {
            return usable(0).then_some(0);
        }
        for _ in 0..draws(warming) {
            let index = sequence.pick(rng);
            if usable(index) && is_accepted(endpoints, warming, index, rng) {
                return Some(index);
            }
        }
        scan(endpoints, rng, warming, usable)
    }

    /// An endpoint by weight.
    #[inline]
    fn draw(
        &self,
        endpoints: &Weighted,
        rng: &mut fastrand::Rng,
        warming: Option<&Warming<'_>>,
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if endpoints.is_empty() {
            return None;
        }
        for _ in 0..draws(warming) {
            let index = match self.sums.last() {
                None => rng.usize(0..endpoints.len()),
                Some(sum) => {
                    let at = rng.u64(0..*sum);
                    self.sums.partition_point(|sum| *sum <= at)
                }
            };
            if usable(index) && is_accepted(endpoints, warming, index, rng) {
                return Some(index);
            }
        }
        scan(endpoints, rng, warming, usable)
    }
}

#[inline]
fn draws(warming: Option<&Warming<'_>>) -> usize {
    if warming.is_some() { WARMING_DRAWS } else { DRAWS }
}

/// Whether a draw that fell on an endpoint stands: with the probability of its factor, so that what is drawn in the
/// end is drawn by the weights times the factors.
#[inline]
fn is_accepted(
    endpoints: &Weighted,
    warming: Option<&Warming<'_>>,
    index: usize,
    rng: &mut fastrand::Rng,
) -> bool {
    warming.is_none_or(|warming| {
        let parts = warming.parts(&endpoints[index].0);
        parts == WHOLE || rng.u64(0..WHOLE) < parts
    })
}

/// The weight of an endpoint as it counts now. While it is being warmed it is never 0: a pool whose endpoints are all
/// new must still serve.
#[inline]
fn weight(endpoints: &Weighted, warming: Option<&Warming<'_>>, index: usize) -> u64 {
    let (endpoint, weight) = &endpoints[index];
    match warming {
        None => u64::from(*weight) * WHOLE,
        Some(warming) => u64::from(*weight) * warming.parts(endpoint).max(1),
    }
}

/// An endpoint by weight among those that are usable, found by looking at all of them (a weighted reservoir of one).
#[cold]
fn scan(
    endpoints: &Weighted,
    rng: &mut fastrand::Rng,
    warming: Option<&Warming<'_>>,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut sum = 0;
    let mut chosen = None;
    for index in (0..endpoints.len()).filter(|index| usable(*index)) {
        let weight = weight(endpoints, warming, index);
        sum += weight;
        if rng.u64(0..sum) < weight {
            chosen = Some(index);
        }
    }
    chosen
}

#[cfg(test)]
mod tests;
