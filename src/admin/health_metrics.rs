//! The metrics of health, ejection and panic.

use super::{metrics::MAX_SERIES, router::Admin};
use crate::{
    health::{probe::ProbeResult, report::PoolReport},
    model::outlier::EjectionReason,
    telemetry::prometheus::Text,
};

/// Writes them.
pub(super) fn render(admin: &Admin, text: &mut Text) {
    endpoints(admin, text);
    let pools: Vec<PoolReport> = admin.health.pools().into_iter().take(MAX_SERIES).collect();
    let mut family =
        text.counter("switchback_pool_probes_total", "Probes of a pool's endpoints, by what they came to.");
    for pool in pools.iter().filter(|pool| pool.is_probed) {
        for (result, count) in ProbeResult::ALL.iter().zip(pool.probes) {
            family.sample(&[("pool", pool.name.as_str()), ("result", result.name())], count);
        }
    }
    let mut family =
        text.counter("switchback_pool_ejections_total", "Ejections of a pool's endpoints, by reason.");
    for pool in &pools {
        for (reason, count) in EjectionReason::ALL.iter().zip(pool.ejections) {
            family.sample(&[("pool", pool.name.as_str()), ("reason", reason.name())], count);
        }
    }
    let mut family = text.counter(
        "switchback_pool_ejections_spared_total",
        "Ejections that were due, but left out because too many endpoints of the pool were ejected.",
    );
    for pool in &pools {
        family.sample(&[("pool", pool.name.as_str())], pool.spared);
    }
    let help = "Whether so few endpoints of a pool are left that it ignores ejections.";
    let mut family = text.gauge("switchback_pool_panic", help);
    for pool in &pools {
        family.sample(&[("pool", pool.name.as_str())], u8::from(pool.panics));
    }
    let mut family =
        text.counter("switchback_pool_panics_total", "How often a pool began to ignore ejections.");
    for pool in &pools {
        family.sample(&[("pool", pool.name.as_str())], pool.panic_count);
    }
}

/// The state of each endpoint in force.
fn endpoints(admin: &Admin, text: &mut Text) {
    let snapshot = admin.control.snapshot();
    let pools = snapshot.table.pools.iter();
    let endpoints = pools.flat_map(|pool| pool.endpoints.iter().map(|(endpoint, _)| endpoint));
    let states: Vec<_> = endpoints
        .take(MAX_SERIES)
        .map(|endpoint| (&endpoint.pool, endpoint.address.to_string(), endpoint.occupancy.standing()))
        .collect();
    let help = "Whether an endpoint's probes say that it is well; 1 where there are none.";
    let mut family = text.gauge("switchback_endpoint_healthy", help);
    for (pool, address, standing) in &states {
        family.sample(&[("pool", pool.as_str()), ("endpoint", address)], u8::from(standing.is_healthy()));
    }
    let help = "Whether an endpoint is ejected because it misbehaved.";
    let mut family = text.gauge("switchback_endpoint_ejected", help);
    for (pool, address, standing) in &states {
        family.sample(&[("pool", pool.as_str()), ("endpoint", address)], u8::from(standing.is_ejected()));
    }
}
