//! What bounds a pool's use, and how much of it is used: in the status and in the metrics.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::router::Admin;
use crate::{routing::table::Pool, telemetry::prometheus::Text};

/// The most pools and endpoints that are rendered in the metrics of limits.
const MAX_SERIES: usize = 2_000;

/// The limits that a pool has, each with its present use.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_requests: Option<Used>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adaptive: Option<Used>,
    /// Of each endpoint; in use is that of the fullest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_endpoint_requests: Option<Used>,
    /// Of each endpoint; in use is that of the fullest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections: Option<Used>,
    /// Requests that wait for a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_pending: Option<Used>,
    /// Requests that were turned away since the start, by limit.
    shed: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Used {
    limit: u64,
    used: u64,
}

/// A pool's limits; `None` if it has none.
pub(super) fn view(pool: &Pool) -> Option<Limits> {
    let (settings, gate) = (&pool.settings.limits, &pool.state.gate);
    let endpoints = || pool.endpoints.iter().map(|(endpoint, _)| endpoint);
    let requests = endpoints().map(|endpoint| endpoint.occupancy.in_flight()).max().unwrap_or(0);
    let connections = endpoints().map(|endpoint| endpoint.places.taken()).max().unwrap_or(0);
    let used = |limit: Option<u32>, used: u64| limit.map(|limit| Used { limit: limit.into(), used });
    let limits = Limits {
        max_requests: used(settings.max_requests, gate.in_flight()),
        adaptive: gate.adaptive().map(|limit| Used { limit: limit.current(), used: gate.busy() }),
        max_endpoint_requests: used(settings.max_endpoint_requests, requests),
        max_connections: used(settings.max_connections, connections.into()),
        max_pending: used(settings.max_connections.map(|_| settings.max_pending), gate.pending()),
        shed: BTreeMap::from(gate.shed_by_limit()),
    };
    let has_any = limits.max_requests.is_some()
        || limits.adaptive.is_some()
        || limits.max_endpoint_requests.is_some()
        || limits.max_connections.is_some();
    has_any.then_some(limits)
}

/// The metrics of limits and connections.
pub(super) fn metrics(admin: &Admin, text: &mut Text) {
    let table = &admin.control.snapshot().table;
    let pools: Vec<_> =
        table.pools.iter().take(MAX_SERIES).map(|pool| (pool.settings.name.as_str(), pool)).collect();
    let help = "Requests that were turned away because their pool was at a limit.";
    let mut family = text.counter("switchback_pool_shed_total", help);
    for (name, pool) in &pools {
        for (limit, count) in pool.state.gate.shed_by_limit() {
            family.sample(&[("pool", name), ("limit", limit)], count);
        }
    }
    let mut family = text
        .gauge("switchback_pool_requests_pending", "Requests that wait for a connection or for an endpoint.");
    for (name, pool) in &pools {
        family.sample(&[("pool", name)], pool.state.gate.pending());
    }
    let help =
        "How many requests, streams aside, may be in flight by the limit that finds itself; 0 without one.";
    let mut family = text.gauge("switchback_pool_adaptive_limit", help);
    for (name, pool) in &pools {
        let limit = pool.state.gate.adaptive().map_or(0, |limit| limit.current());
        family.sample(&[("pool", name)], limit);
    }
    let help = "Upstream connections that are open or being opened.";
    let mut family = text.gauge("switchback_endpoint_connections_open", help);
    let endpoints = table.pools.iter().flat_map(|pool| &pool.endpoints);
    for (endpoint, _) in endpoints.take(MAX_SERIES) {
        let labels = [("pool", endpoint.pool.as_str()), ("endpoint", &endpoint.address.to_string())];
        family.sample(&labels, u64::from(endpoint.places.taken()));
    }
}
