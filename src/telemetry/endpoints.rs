//! The counts of endpoints, which come and go.
//!
//! Invariant: the totals of a pool never go back. What an endpoint has counted is added to them when its own series is
//! shown no more, and not before it can count nothing more.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    counter::Counter,
    traffic::{ConnectionCounts, Traffic, TrafficCounts},
};
use crate::model::name::Name;

/// The counts of one endpoint: each worker's own.
#[derive(Debug, Default)]
pub struct EndpointSeries(Mutex<Vec<Arc<Traffic>>>);

/// All endpoints that are shown, and what those that are no more have counted.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    pools: BTreeMap<Name, OfPool>,
    retired: u64,
}

#[derive(Debug, Default)]
struct OfPool {
    shown: BTreeMap<SocketAddr, Arc<EndpointSeries>>,
    /// What the others have counted.
    retired: ConnectionCounts,
}

impl EndpointSeries {
    /// Fresh counts for one worker to write.
    pub fn traffic(&self) -> Arc<Traffic> {
        let traffic = Arc::new(Traffic::default());
        self.lock().push(Arc::clone(&traffic));
        traffic
    }

    /// The sums over all workers.
    pub fn counts(&self) -> TrafficCounts {
        let mut counts = TrafficCounts::default();
        self.lock().iter().for_each(|traffic| traffic.add_to(&mut counts));
        counts
    }

    /// The requests that the endpoint has answered below 500, over all workers: a small part of [`Self::counts`], for
    /// who looks often.
    pub fn successes(&self) -> u64 {
        let of_worker = |traffic: &Arc<Traffic>| {
            // What is counted later is read first, so that the difference is never below 0.
            let not_its = traffic.client_faults.value();
            let [below_500 @ .., _errors] = &traffic.by_class;
            below_500.iter().map(Counter::value).sum::<u64>().saturating_sub(not_its)
        };
        self.lock().iter().map(of_worker).sum()
    }

    fn add_connections(&self, into: &mut ConnectionCounts) {
        self.lock().iter().for_each(|traffic| into.add(traffic));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Traffic>>> {
        // A push is all that is done under it, so a panic can't leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoints {
    /// The series of an endpoint, new if it is not shown.
    pub(super) fn declare(&mut self, pool: &Name, address: SocketAddr) -> Arc<EndpointSeries> {
        Arc::clone(self.pools.entry(pool.clone()).or_default().shown.entry(address).or_default())
    }

    /// Shows an endpoint no more. Nobody may count anything of it from now on.
    pub(super) fn retire(&mut self, pool: &Name, address: SocketAddr) {
        let Some(of_pool) = self.pools.get_mut(pool) else { return };
        if let Some(series) = of_pool.shown.remove(&address) {
            series.add_connections(&mut of_pool.retired);
            self.retired += 1;
        }
    }

    /// The series of an endpoint, if it is shown.
    pub(super) fn find(&self, pool: &Name, address: SocketAddr) -> Option<Arc<EndpointSeries>> {
        self.pools.get(pool)?.shown.get(&address).cloned()
    }

    /// All that are shown, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, SocketAddr)> {
        self.pools.iter().flat_map(|(pool, of)| of.shown.keys().map(move |address| (pool, *address)))
    }

    /// How many are shown.
    pub(super) fn shown(&self) -> usize {
        self.pools.values().map(|of_pool| of_pool.shown.len()).sum()
    }

    /// How many are shown no more.
    pub(super) fn retired(&self) -> u64 {
        self.retired
    }

    /// Each pool's connections, to all endpoints that it has ever had.
    pub(super) fn connections(&self) -> Vec<(Name, ConnectionCounts)> {
        let total = |(pool, of_pool): (&Name, &OfPool)| {
            let mut counts = of_pool.retired;
            of_pool.shown.values().for_each(|series| series.add_connections(&mut counts));
            (pool.clone(), counts)
        };
        self.pools.iter().map(total).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_what_a_client_did_is_no_success_of_its_endpoint() {
        let series = EndpointSeries::default();
        let workers = [series.traffic(), series.traffic()];
        for (worker, [good, not_found, errors, faults]) in workers.iter().zip([[5, 3, 2, 1], [7, 0, 1, 0]]) {
            for (class, count) in [(1, good), (3, not_found + faults), (4, errors)] {
                worker.by_class[class].add(count);
            }
            worker.client_faults.add(faults);
        }
        assert_eq!(series.successes(), 5 + 3 + 7);
    }
}
