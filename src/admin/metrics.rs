//! Which metrics there are. Each is described in `docs/metrics.md`, and `tests/admin_api.rs` keeps the two alike.

use super::{
    certificates, files, health, health_metrics, http2, limits, names, pins,
    reading::{CLASSES, shares},
    router::Admin,
};
use crate::telemetry::{
    causes::{RetryReason, TimeoutKind},
    process::ProcessFigures,
    prometheus::{Labels, Text},
    registry::{CUT_KINDS, Key, Registry, WorkerCounts},
    traffic::{ConnectionCounts, TrafficCounts},
};

/// The most series of one scope that are rendered, those with most requests first. A scraper would choke on more,
/// and rendering them would hold up the control plane.
pub(super) const MAX_SERIES: usize = 2_000;

/// What requests are counted by.
struct Scope {
    name: &'static str,
    labels: &'static [&'static str],
    series: Vec<(Vec<String>, TrafficCounts)>,
    omitted: usize,
}

/// The text of all metrics.
pub fn render(admin: &Admin) -> String {
    let mut text = Text::default();
    let scopes = scopes(admin.control.series());
    for scope in &scopes {
        requests(scope, &mut text);
        times(scope, &mut text);
        volumes(scope, &mut text);
        troubles(scope, &mut text);
    }
    let [routes, splits, _, endpoints] = &scopes;
    let limited = "Requests that came too early for the route's rate limit (429).";
    routes.counter("rate_limited_total", limited, &mut text, |counts| counts.rate_limited);
    split_shares(admin, splits, &mut text);
    pins::metrics(admin, MAX_SERIES, &mut text);
    upstream(endpoints, &mut text);
    connections(admin, &mut text);
    drains(admin, &mut text);
    limits::metrics(admin, &mut text);
    let mut omitted = text.gauge(
        "switchback_series_omitted",
        "Series that are left out of this answer because their scope has too many.",
    );
    for scope in &scopes {
        omitted.sample(&[("scope", scope.name)], scope.omitted);
    }
    health_metrics::render(admin, &mut text);
    certificates::metrics(admin, &mut text);
    http2::metrics(admin, &mut text);
    workers(admin, &mut text);
    control(admin, &mut text);
    files::metrics(admin, &mut text);
    names::render(admin, &mut text);
    admin.access.metrics(&mut text);
    process(&mut text);
    text.finish()
}

/// The series by scope: routes, pools within splits, pools, endpoints.
fn scopes(registry: &Registry) -> [Scope; 4] {
    let mut keys: [Vec<Key>; 4] = Default::default();
    for key in registry.keys() {
        let place = match key {
            Key::Route(_) => 0,
            Key::Split(..) => 1,
            Key::Pool(_) => 2,
            Key::Endpoint(..) => 3,
        };
        keys[place].push(key);
    }
    let [routes, splits, pools, endpoints] = keys;
    [
        Scope::new("route", &["route"], routes, registry),
        Scope::new("split", &["split", "pool"], splits, registry),
        Scope::new("pool", &["pool"], pools, registry),
        Scope::new("endpoint", &["pool", "endpoint"], endpoints, registry),
    ]
}

fn label_values(key: &Key) -> Vec<String> {
    match key {
        Key::Route(name) | Key::Pool(name) => vec![name.to_string()],
        Key::Split(split, pool) => vec![split.to_string(), pool.to_string()],
        Key::Endpoint(pool, address) => vec![pool.to_string(), address.to_string()],
    }
}

impl Scope {
    fn new(
        name: &'static str,
        labels: &'static [&'static str],
        mut keys: Vec<Key>,
        registry: &Registry,
    ) -> Self {
        let omitted = keys.len().saturating_sub(MAX_SERIES);
        if omitted > 0 {
            keys.sort_by_cached_key(|key| std::cmp::Reverse(registry.counts(key).taken()));
            keys.truncate(MAX_SERIES);
        }
        let series = keys.iter().map(|key| (label_values(key), registry.counts(key))).collect();
        Self { name, labels, series, omitted }
    }

    /// Calls with each series' labels and counts.
    fn each(&self, mut with: impl FnMut(Labels<'_>, &TrafficCounts)) {
        for (values, counts) in &self.series {
            let values = values.iter().map(String::as_str);
            let labels: Vec<_> = self.labels.iter().copied().zip(values).collect();
            with(&labels, counts);
        }
    }

    fn metric(&self, name: &str) -> String {
        format!("switchback_{}_{name}", self.name)
    }

    fn counter(&self, name: &str, help: &str, text: &mut Text, value: impl Fn(&TrafficCounts) -> u64) {
        let name = self.metric(name);
        let mut family = text.counter(&name, help);
        self.each(|labels, counts| {
            family.sample(labels, value(counts));
        });
    }
}

fn requests(scope: &Scope, text: &mut Text) {
    let name = scope.metric("requests_total");
    let mut family = text.counter(&name, "Requests that have been answered, by class of the status code.");
    scope.each(|labels, counts| {
        for (class, count) in CLASSES.iter().zip(counts.by_class) {
            let labels: Vec<_> = labels.iter().copied().chain([("code_class", *class)]).collect();
            family.sample(&labels, count);
        }
    });
    scope.counter(
        "requests_aborted_total",
        "Requests that ended without a status: the client went away, or no response could begin.",
        text,
        |counts| counts.aborted,
    );
    let name = scope.metric("requests_in_flight");
    let mut family = text.gauge(&name, "Requests in flight.");
    scope.each(|labels, counts| {
        family.sample(labels, counts.in_flight);
    });
}

fn times(scope: &Scope, text: &mut Text) {
    let name = scope.metric("first_byte_seconds");
    let mut family = text.histogram(&name, "From the request's head to the response's head.");
    // A histogram is two dozen lines: what has never had a request gets none until it has.
    let used = |counts: &TrafficCounts| counts.requests() > 0;
    scope.each(|labels, counts| {
        if used(counts) {
            family.counts(labels, &counts.first_byte);
        }
    });
    let name = scope.metric("request_duration_seconds");
    let mut family = text.histogram(&name, "From the request's head to the response's last byte.");
    scope.each(|labels, counts| {
        if used(counts) {
            family.counts(labels, &counts.duration);
        }
    });
}

fn volumes(scope: &Scope, text: &mut Text) {
    let received = "Bytes of request bodies, and what clients sent through tunnels.";
    scope.counter("received_bytes_total", received, text, |counts| counts.bytes_received);
    let sent = "Bytes of response bodies, and what upstreams sent through tunnels.";
    scope.counter("sent_bytes_total", sent, text, |counts| counts.bytes_sent);
}

/// What went wrong on the way and was repeated, or ran out of time.
fn troubles(scope: &Scope, text: &mut Text) {
    let name = scope.metric("retries_total");
    let mut family = text.counter(&name, "Attempts after a request's first, by the reason.");
    scope.each(|labels, counts| {
        for (reason, count) in RetryReason::ALL.iter().zip(counts.retries) {
            family.sample(&with(labels, ("reason", reason.label())), count);
        }
    });
    let name = scope.metric("timeouts_total");
    let mut family = text.counter(&name, "Times that ran out, by kind.");
    scope.each(|labels, counts| {
        for (kind, count) in TimeoutKind::ALL.iter().zip(counts.timeouts) {
            family.sample(&with(labels, ("kind", kind.label())), count);
        }
    });
}

fn with<'a>(labels: Labels<'a>, further: (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    labels.iter().copied().chain([further]).collect()
}

/// Set and realised shares of each pool in each split.
fn split_shares(admin: &Admin, splits: &Scope, text: &mut Text) {
    let drawn = "Draws of a split that fell on a pool, whether or not it was available.";
    splits.counter("draws_total", drawn, text, |counts| counts.drawn);
    let snapshot = admin.control.snapshot();
    let mut set = Vec::new();
    let mut realised = Vec::new();
    for (split, weights) in snapshot.state.live().weights.iter().take(MAX_SERIES) {
        let taken = snapshot.taken_since_change(split.as_str(), admin.control.series());
        set.extend(weights.iter().map(|(pool, weight)| (split, pool, weight)));
        realised.extend(shares(&taken).into_iter().map(|(pool, share)| (split, pool, share)));
    }
    let mut family = text.gauge("switchback_split_weight", "The weight in force of a pool in a split.");
    for (split, pool, weight) in set {
        family.sample(&[("split", split.as_str()), ("pool", pool.as_str())], weight);
    }
    let mut family = text.gauge(
        "switchback_split_realised_share_ratio",
        "A pool's share of its split's requests since the split's weights last changed.",
    );
    for (split, pool, share) in realised {
        family.sample(&[("split", split.as_str()), ("pool", pool.as_str())], share);
    }
}

/// What only endpoints have. A pool's totals are below: a sum over the endpoints of now leaves out those that have gone.
fn upstream(endpoints: &Scope, text: &mut Text) {
    endpoints.counter("connects_total", "Upstream connections opened.", text, |counts| counts.connects);
    let reuses = "Requests over an upstream connection that had served one before.";
    endpoints.counter("connection_reuses_total", reuses, text, |counts| counts.reuses);
    let failures = "Upstream connections that could not be opened.";
    endpoints.counter("connect_failures_total", failures, text, |counts| counts.connect_failures);
    let failures = "Attempts that failed on an open upstream connection: reset, cut or malformed.";
    endpoints.counter("attempt_failures_total", failures, text, |counts| counts.attempt_failures);
}

/// The connections of each pool, to all endpoints that it has ever had, and how many of these there are and were.
fn connections(admin: &Admin, text: &mut Text) {
    let series = admin.control.series();
    let mut pools = series.connections();
    pools.truncate(MAX_SERIES);
    let mut counter = |name, help, value: fn(&ConnectionCounts) -> u64| {
        let mut family = text.counter(name, help);
        for (pool, counts) in &pools {
            family.sample(&[("pool", pool.as_str())], value(counts));
        }
    };
    let opened = "Upstream connections opened to a pool's endpoints, those that have left it, too.";
    counter("switchback_pool_connects_total", opened, |counts| counts.connects);
    let reuses = "A pool's requests over an upstream connection that had served one before.";
    counter("switchback_pool_connection_reuses_total", reuses, |counts| counts.reuses);
    let failures = "Upstream connections to a pool's endpoints that could not be opened.";
    counter("switchback_pool_connect_failures_total", failures, |counts| counts.connect_failures);
    let failures = "Attempts that failed on an open upstream connection of a pool: reset, cut or malformed.";
    counter("switchback_pool_attempt_failures_total", failures, |counts| counts.attempt_failures);
    text.gauge("switchback_endpoints", "Endpoints that have series: in force, or leaving.")
        .sample(&[], series.endpoints());
    text.counter(
        "switchback_endpoints_retired_total",
        "Endpoints that have left for good; their series ended.",
    )
    .sample(&[], series.endpoints_retired());
}

/// Which endpoints drain, the streams that are open on each, and what drains have cut.
fn drains(admin: &Admin, text: &mut Text) {
    let snapshot = admin.control.snapshot();
    let pools = snapshot.table.pools.iter();
    let endpoints = pools.flat_map(|pool| pool.endpoints.iter().map(|(endpoint, _)| endpoint));
    let shown: Vec<_> = endpoints
        .take(MAX_SERIES)
        .map(|endpoint| (endpoint, [endpoint.pool.to_string(), endpoint.address.to_string()]))
        .collect();
    let mut family = text.gauge(
        "switchback_endpoint_draining",
        "1 while an endpoint takes no new traffic because it or its pool drains, else 0.",
    );
    for (endpoint, [pool, address]) in &shown {
        let is_draining = !endpoint.occupancy.standing().takes_new();
        family.sample(&[("pool", pool), ("endpoint", address)], u8::from(is_draining));
    }
    let mut family =
        text.gauge("switchback_endpoint_streams_open", "Tunnels and event streams that are open.");
    for (endpoint, [pool, address]) in &shown {
        family.sample(&[("pool", pool), ("endpoint", address)], endpoint.drain.streams());
    }
    let workers = admin.control.series().workers();
    let mut family = text.counter(
        "switchback_drain_cut_total",
        "Requests cut at the deadline of a drain, and streams closed within theirs.",
    );
    for (place, kind) in CUT_KINDS.iter().enumerate() {
        let count = workers.iter().map(|counts| counts.drain_cut[place].value()).sum::<u64>();
        family.sample(&[("kind", kind)], count);
    }
}

fn workers(admin: &Admin, text: &mut Text) {
    let workers = admin.control.series().workers();
    let sum = |value: fn(&WorkerCounts) -> u64| workers.iter().map(|counts| value(counts)).sum::<u64>();
    text.counter("switchback_connections_accepted_total", "Downstream connections accepted.")
        .sample(&[], sum(|counts| counts.accepted.value()));
    text.gauge("switchback_connections_open", "Downstream connections that are open.")
        .sample(&[], sum(|counts| counts.connections.value()));
    text.counter(
        "switchback_requests_refused_total",
        "Requests refused before they had a route: malformed, too large, too slow or too many.",
    )
    .sample(&[], sum(|counts| counts.refused.value()));
    text.counter("switchback_requests_unrouted_total", "Requests that no route took.")
        .sample(&[], sum(|counts| counts.unrouted.value()));
    let uncounted = "Requests that a rate limit took uncounted, as it had no place for their key.";
    text.counter("switchback_rate_limit_uncounted_total", uncounted)
        .sample(&[], sum(|counts| counts.rate_limit_uncounted.value()));
    text.counter(
        "switchback_access_log_dropped_total",
        "Access log records dropped because the queue was full.",
    )
    .sample(&[], sum(|counts| counts.log_dropped.value()));
    text.counter(
        "switchback_access_log_lost_total",
        "Access log lines that could not be written, such as to a full disk.",
    )
    .sample(&[], admin.control.series().log_lost.value());
    let mut family = text.gauge(
        "switchback_worker_table_generation",
        "The generation of the routing table that a worker used last.",
    );
    for (number, counts) in workers.iter().enumerate() {
        family.sample(&[("worker", &number.to_string())], counts.generation.value());
    }
}

fn control(admin: &Admin, text: &mut Text) {
    let snapshot = admin.control.snapshot();
    text.gauge("switchback_table_generation", "The generation of the routing table in force.")
        .sample(&[], snapshot.table.generation);
    text.gauge("switchback_revision", "The newest revision of the live state.")
        .sample(&[], snapshot.state.revision());
    let mut family =
        text.counter("switchback_changes_total", "Changes asked for, by kind and by what became of them.");
    for (kind, result, count) in admin.control.tally().all() {
        family.sample(&[("kind", kind), ("result", result)], count);
    }
    text.gauge("switchback_ready", "1 while readyz is 200, else 0.")
        .sample(&[], u8::from(health::is_ready(admin)));
    text.gauge("switchback_admin_event_streams_open", "Streams of events (GET /v1/events) that are open.")
        .sample(&[], admin.streams.open());
    text.gauge("switchback_build_info", "Always 1; the version is in the label.")
        .sample(&[("version", admin.version)], 1);
}

fn process(text: &mut Text) {
    let figures = ProcessFigures::now();
    if let Some(seconds) = figures.cpu_seconds {
        let help = "User and system processor time of all threads.";
        text.counter("process_cpu_seconds_total", help).sample(&[], seconds);
    }
    if let Some(bytes) = figures.resident_bytes {
        text.gauge("process_resident_memory_bytes", "Resident memory.").sample(&[], bytes);
    }
    if let Some(count) = figures.open_fds {
        text.gauge("process_open_fds", "Open file descriptors.").sample(&[], count);
    }
    if let Some(count) = figures.max_fds {
        text.gauge("process_max_fds", "The limit on open file descriptors.").sample(&[], count);
    }
    if let Some(seconds) = figures.start_time {
        text.gauge("process_start_time_seconds", "When the process started, in seconds since 1970.")
            .sample(&[], seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::Name;

    #[test]
    fn of_too_many_series_the_busiest_are_kept() {
        let registry = std::sync::Arc::new(Registry::default());
        for number in 0..MAX_SERIES + 3 {
            let slot = registry.declare(&Key::Pool(Name::new(&format!("pool-{number:05}")).unwrap()));
            registry.traffic(slot).by_class[1].add(number as u64);
        }
        let [_, _, pools, _] = scopes(&registry);
        assert_eq!((pools.series.len(), pools.omitted), (MAX_SERIES, 3));
        assert_eq!(pools.series.iter().map(|(_, counts)| counts.requests()).min(), Some(3));
    }
}
