//! All endpoints of the process, by pool and address. The controller owns it; it outlives tables.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use super::{
    drain::Progress,
    endpoint::{Endpoint, EndpointId},
    occupancy::Occupancy,
    outcomes::{Alarm, Outcomes},
    places::Places,
    pool::PoolState,
    warmth::Warmth,
};
use crate::{
    model::name::Name,
    telemetry::registry::{Key, Registry as Series},
};

/// The endpoints that were ever declared.
#[derive(Debug, Default)]
pub struct Registry {
    endpoints: BTreeMap<(Name, SocketAddr), Arc<Endpoint>>,
    pools: BTreeMap<Name, Arc<PoolState>>,
    alarm: Arc<Alarm>,
}

impl Registry {
    /// What is raised when an endpoint has failed too often in a row.
    pub fn alarm(&self) -> Arc<Alarm> {
        Arc::clone(&self.alarm)
    }

    /// What is shared of a pool.
    pub fn pool(&mut self, name: &Name) -> Arc<PoolState> {
        Arc::clone(self.pools.entry(name.clone()).or_default())
    }

    /// The endpoint of a pool at an address, new if it was never seen. A new one of a pool that `is_probed` is not
    /// healthy before its first success.
    pub fn endpoint(
        &mut self,
        pool: &Name,
        address: SocketAddr,
        is_probed: bool,
        series: &Series,
    ) -> Arc<Endpoint> {
        let next =
            EndpointId(u32::try_from(self.endpoints.len()).expect("the file's limits are far under 2^32"));
        let endpoint = self.endpoints.entry((pool.clone(), address)).or_insert_with(|| {
            Arc::new(Endpoint {
                id: next,
                pool: pool.clone(),
                address,
                slot: series.declare(&Key::Endpoint(pool.clone(), address)),
                occupancy: if is_probed { Occupancy::unproven() } else { Occupancy::default() },
                drain: Progress::default(),
                outcomes: Outcomes::new(Arc::clone(&self.alarm)),
                places: Places::default(),
                warmth: Warmth::default(),
                state: Arc::clone(self.pools.entry(pool.clone()).or_default()),
            })
        });
        Arc::clone(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_known_by_its_pool_and_address_and_its_number_is_dense() {
        let series = Series::default();
        let mut registry = Registry::default();
        let name = |text| Name::new(text).unwrap();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut endpoint = |pool, port| registry.endpoint(&name(pool), address(port), false, &series);
        let first = endpoint("blue", 1);
        first.occupancy.drain();
        assert!(Arc::ptr_eq(&endpoint("blue", 1), &first), "its count and its state outlive the table");
        let others = [endpoint("blue", 2), endpoint("green", 1), endpoint("blue", 1)];
        assert_eq!(others.map(|endpoint| endpoint.id.index()), [1, 2, 0]);
        let probed = registry.endpoint(&name("blue"), address(3), true, &series);
        assert!(!probed.occupancy.is_available(), "nothing has shown yet that it works");
    }
}
