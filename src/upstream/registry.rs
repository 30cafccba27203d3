//! The endpoints of the process, by pool and address. The controller owns it; it outlives tables.
//!
//! Invariant: an address of a pool is one endpoint from its first table until it is retired, however often it leaves and
//! comes back meanwhile; afterwards it is a new one. So the registry holds what is in force and what is still leaving,
//! and never grows with what was there before.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use super::{
    endpoint::{Endpoint, Numbers},
    outcomes::Alarm,
    pool::PoolState,
};
use crate::{
    model::name::Name,
    telemetry::registry::Registry as Series,
    tls::{Back, BackSettings, Backs},
};

/// The endpoints that were declared and not retired.
#[derive(Debug, Default)]
pub struct Registry {
    endpoints: BTreeMap<(Name, SocketAddr), Arc<Endpoint>>,
    pools: BTreeMap<Name, Arc<PoolState>>,
    numbers: Numbers,
    alarm: Arc<Alarm>,
    backs: Backs,
}

impl Registry {
    /// What is raised when an endpoint has failed too often in a row.
    pub fn alarm(&self) -> Arc<Alarm> {
        Arc::clone(&self.alarm)
    }

    /// TLS with the endpoints of pools with these settings.
    pub fn back(&self, settings: &Arc<BackSettings>) -> Arc<Back> {
        self.backs.of(settings)
    }

    /// What is shared of a pool.
    pub fn pool(&mut self, name: &Name) -> Arc<PoolState> {
        Arc::clone(self.pools.entry(name.clone()).or_default())
    }

    /// The endpoint of a pool at an address, new if there is none. A new one of a pool that `is_probed` is not healthy
    /// before its first success.
    pub fn endpoint(
        &mut self,
        pool: &Name,
        address: SocketAddr,
        is_probed: bool,
        series: &Series,
    ) -> Arc<Endpoint> {
        let endpoint = self.endpoints.entry((pool.clone(), address)).or_insert_with(|| {
            let state = Arc::clone(self.pools.entry(pool.clone()).or_default());
            let (series, alarm) = (series.endpoint(pool, address), Arc::clone(&self.alarm));
            Arc::new(Endpoint::new(pool.clone(), address, is_probed, series, state, alarm, &self.numbers))
        });
        Arc::clone(endpoint)
    }

    /// How many endpoints there are, in force or leaving.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Retires the endpoints that are in no table, nor needed otherwise, as `is_needed` says, and of which nothing is
    /// left: no request in flight, no connection. They are drained if they were not. Answers how many.
    pub fn retire(&mut self, is_needed: impl Fn(&Endpoint) -> bool, series: &Series) -> usize {
        let before = self.endpoints.len();
        self.endpoints.retain(|_, endpoint| {
            let stays = is_needed(endpoint) || !endpoint.retire();
            if !stays {
                series.retire_endpoint(&endpoint.pool, endpoint.address);
            }
            stays
        });
        before - self.endpoints.len()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        time::Instant,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::{
        telemetry::registry::Key,
        upstream::{
            connections::Place,
            local::{Lease, Upstreams},
            occupancy::Claim,
        },
    };

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn an_endpoint_is_known_by_its_pool_and_address_and_its_number_is_dense() {
        let series = Series::default();
        let mut registry = Registry::default();
        let mut endpoint = |pool, port| registry.endpoint(&name(pool), address(port), false, &series);
        let first = endpoint("blue", 1);
        first.occupancy.drain();
        assert!(Arc::ptr_eq(&endpoint("blue", 1), &first), "its count and its state outlive the table");
        let others = [endpoint("blue", 2), endpoint("green", 1), endpoint("blue", 1)];
        assert_eq!(others.map(|endpoint| endpoint.id.index()), [1, 2, 0]);
        let probed = registry.endpoint(&name("blue"), address(3), true, &series);
        assert!(!probed.occupancy.is_available(), "nothing has shown yet that it works");
    }

    #[test]
    fn who_is_on_an_endpoint_keeps_it_and_who_comes_after_its_end_is_refused() {
        let series = Series::default();
        let mut registry = Registry::default();
        let mut worker = Upstreams::default();
        let endpoint = registry.endpoint(&name("blue"), address(1), false, &series);
        let lease = worker.claim(&endpoint, u64::MAX).expect("it is open");
        let place = Place::take(&endpoint).expect("there is no cap");
        assert_eq!(registry.retire(|_| false, &series), 0, "a request is in flight");
        drop(lease);
        assert_eq!(registry.retire(|_| false, &series), 0, "a connection is open");
        drop(place);
        assert_eq!(registry.retire(|_| false, &series), 1);
        assert_eq!(worker.claim(&endpoint, u64::MAX).err(), Some(Claim::Draining));
        let next = registry.endpoint(&name("blue"), address(1), false, &series);
        assert!(next.id != endpoint.id && next.occupancy.is_available(), "it is a new one");
        drop(endpoint);
        let other = registry.endpoint(&name("blue"), address(2), false, &series);
        assert_eq!(other.id.index(), 2, "the worker's handle still holds the first one's number");
        worker.sweep(Instant::now());
        let other = registry.endpoint(&name("blue"), address(3), false, &series);
        assert_eq!(other.id.index(), 0, "and has let go of it");
    }

    /// What can happen to an endpoint, by the place of its address.
    #[derive(Debug, Clone, Copy)]
    enum Act {
        Put(u16),
        Delete(u16),
        Begin(u16),
        End(u16),
        Sweep,
        Retire,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let port = 0..6u16;
        let act = prop_oneof![
            port.clone().prop_map(Act::Put),
            port.clone().prop_map(Act::Delete),
            port.clone().prop_map(Act::Begin),
            port.prop_map(Act::End),
            Just(Act::Sweep),
            Just(Act::Retire),
        ];
        proptest::collection::vec(act, 0..200)
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_numbers_are_unique_totals_grow_and_nothing_is_left(acts in acts()) {
            let (series, pool) = (Series::default(), name("app"));
            let (mut registry, mut worker) = (Registry::default(), Upstreams::default());
            let mut table: BTreeMap<u16, Arc<Endpoint>> = BTreeMap::new();
            let mut leases: Vec<(u16, Lease, Place)> = Vec::new();
            let mut connects = 0;
            for act in acts.into_iter().chain([Act::Sweep, Act::Retire]) {
                match act {
                    Act::Put(port) => {
                        let endpoint = registry.endpoint(&pool, address(port), false, &series);
                        prop_assert!(!endpoint.is_retired());
                        if let Some((_, lease, _)) = leases.iter().find(|(of, ..)| *of == port) {
                            prop_assert!(Arc::ptr_eq(lease.shared(), &endpoint), "it is the same while it is used");
                        }
                        endpoint.occupancy.undrain();
                        table.insert(port, endpoint);
                    }
                    Act::Delete(port) => {
                        if let Some(endpoint) = table.remove(&port) {
                            endpoint.occupancy.drain();
                        }
                    }
                    Act::Begin(port) => {
                        if let Some(endpoint) = table.get(&port) {
                            let lease = worker.claim(endpoint, u64::MAX).expect("it is in the table");
                            prop_assert!(Arc::ptr_eq(lease.shared(), endpoint), "the handle is its own");
                            lease.traffic.connects.add(1);
                            connects += 1;
                            leases.push((port, lease, Place::take(endpoint).expect("there is no cap")));
                        }
                    }
                    Act::End(port) => {
                        let found = leases.iter().position(|(of, ..)| *of == port);
                        found.map(|index| leases.remove(index));
                    }
                    Act::Sweep => {
                        worker.sweep(Instant::now());
                    }
                    Act::Retire => {
                        let in_table: BTreeSet<_> = table.values().map(|endpoint| endpoint.id).collect();
                        registry.retire(|endpoint| in_table.contains(&endpoint.id), &series);
                        let used: BTreeSet<_> = table.keys().chain(leases.iter().map(|(of, ..)| of)).collect();
                        prop_assert_eq!(registry.len(), used.len());
                        prop_assert_eq!(series.endpoints(), used.len());
                    }
                }
                let ids = registry.endpoints.values().map(|endpoint| endpoint.id).collect::<BTreeSet<_>>();
                prop_assert_eq!(ids.len(), registry.len());
                let total: u64 = series.connections().iter().map(|(_, counts)| counts.connects).sum();
                prop_assert_eq!(total, connects);
            }
            drop(leases);
            for endpoint in table.values() {
                endpoint.occupancy.drain();
            }
            drop(table);
            registry.retire(|_| false, &series);
            worker.sweep(Instant::now());
            prop_assert!(registry.is_empty() && series.keys().iter().all(|key| !matches!(key, Key::Endpoint(..))));
            prop_assert!(registry.endpoint(&pool, address(0), false, &series).id.index() < 12, "numbers are given again");
        }
    }
}
