//! The calls that only read: the live state beside what was counted.

use std::{collections::BTreeMap, net::SocketAddr, time::SystemTime};

use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, Uri},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    access::AccessView,
    condition::Condition,
    drains::{DrainView, ProgressView},
    files::{self, FileView},
    limits::{self, Limits},
    names::{self, NameView},
    pins::{self, StickyView},
    problem::Problem,
    query::{self, Named},
    router::Admin,
    upgrade::ProcessView,
};
use crate::{
    control::{
        change::{Author, Kind},
        lifecycle::Phase,
        refusal::Unknown,
        snapshot::Snapshot,
        state::Object,
    },
    model::{name::Name, weights::Weights},
    routing::table::{Pool, Split, Table, Target},
    telemetry::{
        registry::{Key, Registry},
        traffic::TrafficCounts,
    },
};

/// The most entries of each list in `status`; the lists of their own are whole.
const MAX_LISTED: usize = 1_000;

/// `GET /v1/status`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    version: &'static str,
    phase: Phase,
    uptime_seconds: f64,
    generation: u64,
    revision: u64,
    process: ProcessView,
    /// Whether changes survive a restart.
    durable: bool,
    /// The tokens, if they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<AccessView>,
    /// The file in force, and what is wrong with the one on disk.
    file: FileView,
    workers: Vec<Worker>,
    listeners: Vec<Listener>,
    routes: Vec<Route>,
    splits: Vec<SplitView>,
    pools: Vec<PoolView>,
    /// How many there are of each; the lists end at 1,000.
    totals: BTreeMap<&'static str, usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Worker {
    generation: u64,
    connections: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Listener {
    name: Name,
    address: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Route {
    name: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    split: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<Name>,
    redirect: bool,
    requests: Requests,
}

/// All splits.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Splits {
    splits: Vec<SplitView>,
}

/// All pools.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pools {
    pools: Vec<PoolView>,
}

/// What is read, with the tag of what is set of it.
type Tagged<T> = ([(HeaderName, HeaderValue); 1], Json<T>);

/// A split: what is set and what came of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SplitView {
    name: Name,
    weights: Weights,
    /// The realised share of each pool since the weights last changed; 0 for all while there was no request.
    share: BTreeMap<Name, f64>,
    /// The requests that it was realised with.
    requests: BTreeMap<Name, u64>,
    since_start: Realised,
    in_flight: BTreeMap<Name, u64>,
    revision: u64,
    changed_at: String,
    changed_by: Author,
    change: Kind,
    /// What it does with sessions, if it is sticky.
    #[serde(skip_serializing_if = "Option::is_none")]
    sticky: Option<StickyView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Realised {
    share: BTreeMap<Name, f64>,
    requests: BTreeMap<Name, u64>,
}

/// A pool and its endpoints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PoolView {
    name: Name,
    /// Endpoints that take requests now.
    available: usize,
    /// Whether so few are left that ejections are ignored.
    panic: bool,
    in_flight: u64,
    requests: Requests,
    /// The splits that it is a pool of, with its weight in each.
    splits: BTreeMap<Name, u32>,
    /// The drain of the pool as a whole.
    drain: Option<DrainView>,
    endpoints: Vec<EndpointView>,
    /// What bounds it, and how much of that is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    /// The names among its endpoints.
    names: Vec<NameView>,
    /// Endpoints that were removed, or whose name no longer stands for them, while something is in flight there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone: Vec<EndpointView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct EndpointView {
    address: String,
    /// The name that the address is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    weight: u32,
    #[serde(flatten)]
    condition: Condition,
    /// Requests in flight, streams among them.
    in_flight: u64,
    /// Tunnels and event streams that are open.
    streams: u64,
    /// Its drain, its own or its pool's.
    drain: Option<ProgressView>,
    requests: Requests,
}

/// Requests since the start that have ended, by status class.
#[derive(Debug, Serialize, JsonSchema)]
struct Requests {
    total: u64,
    #[serde(flatten)]
    by_class: BTreeMap<&'static str, u64>,
    aborted: u64,
}

/// The names of the status classes, in the order of [`TrafficCounts::by_class`].
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The whole picture.
pub async fn status(State(admin): State<Admin>, uri: Uri) -> Result<Tagged<Status>, Problem> {
    query::none(&uri)?;
    let snapshot = admin.control.snapshot();
    let (table, series) = (&snapshot.table, admin.control.series());
    let (listeners, bound) = (&snapshot.config.listeners, admin.lifecycle.addresses());
    let status = Status {
        version: admin.version,
        phase: admin.lifecycle.phase(),
        uptime_seconds: admin.started.elapsed().as_secs_f64(),
        generation: table.generation,
        revision: snapshot.state.revision(),
        process: ProcessView::of(&admin),
        durable: snapshot.is_durable(),
        access: admin.access.view(),
        file: files::view(&admin, &snapshot),
        workers: series
            .workers()
            .iter()
            .map(|counts| Worker {
                generation: counts.generation.value(),
                connections: counts.connections.value(),
            })
            .collect(),
        listeners: listeners
            .iter()
            .enumerate()
            .take(MAX_LISTED)
            .map(|(place, listener)| Listener {
                name: listener.name.clone(),
                // While they are not open yet, that of the file.
                address: bound.get(place).unwrap_or(&listener.address).to_string(),
            })
            .collect(),
        routes: routes(table, series),
        splits: table
            .splits
            .iter()
            .take(MAX_LISTED)
            .map(|split| split_view(split, &snapshot, series))
            .collect(),
        pools: pool_views(&snapshot, &admin, MAX_LISTED),
        totals: BTreeMap::from([
            ("listeners", listeners.len()),
            ("routes", table.routes.len()),
            ("splits", table.splits.len()),
            ("pools", table.pools.len()),
        ]),
    };
    Ok((admin.tags.field(status.revision), Json(status)))
}

/// All splits.
pub async fn splits(State(admin): State<Admin>, uri: Uri) -> Result<Tagged<Splits>, Problem> {
    query::none(&uri)?;
    let snapshot = admin.control.snapshot();
    let series = admin.control.series();
    let splits = snapshot.table.splits.iter().map(|split| split_view(split, &snapshot, series)).collect();
    Ok((admin.tags.field(snapshot.state.revision()), Json(Splits { splits })))
}

/// One split.
pub async fn split(
    State(admin): State<Admin>,
    Named(name): Named,
    uri: Uri,
) -> Result<Tagged<SplitView>, Problem> {
    query::none(&uri)?;
    let snapshot = admin.control.snapshot();
    let splits = &snapshot.table.splits;
    let Some(split) = splits.iter().find(|split| split.settings.name.as_str() == name) else {
        let unknown = Unknown::new(&name, splits.iter().map(|split| &split.settings.name));
        return Err(Problem::not_found("unknown-split", "No such split", "there is no split", &unknown));
    };
    let touched = snapshot.state.touched(&Object::Split(split.settings.name.clone()));
    Ok((admin.tags.field(touched), Json(split_view(split, &snapshot, admin.control.series()))))
}

/// All pools.
pub async fn pools(State(admin): State<Admin>, uri: Uri) -> Result<Tagged<Pools>, Problem> {
    query::none(&uri)?;
    let snapshot = admin.control.snapshot();
    let pools = pool_views(&snapshot, &admin, usize::MAX);
    Ok((admin.tags.field(snapshot.state.revision()), Json(Pools { pools })))
}

/// One pool.
pub async fn pool(
    State(admin): State<Admin>,
    Named(name): Named,
    uri: Uri,
) -> Result<Tagged<PoolView>, Problem> {
    query::none(&uri)?;
    let snapshot = admin.control.snapshot();
    let table = &snapshot.table;
    let Some(place) = table.pools.iter().position(|pool| pool.settings.name.as_str() == name) else {
        let unknown = Unknown::new(&name, table.pools.iter().map(|pool| &pool.settings.name));
        return Err(Problem::not_found("unknown-pool", "No such pool", "there is no pool", &unknown));
    };
    let splits = memberships(table).swap_remove(place);
    let pool = &table.pools[place];
    let touched = snapshot.state.touched(&Object::Pool(pool.settings.name.clone()));
    Ok((admin.tags.field(touched), Json(pool_view(pool, splits, &snapshot, &admin))))
}

fn routes(table: &Table, series: &Registry) -> Vec<Route> {
    let view = |route: &crate::routing::table::Route| {
        let name = route.settings.name.clone();
        Route {
            split: match route.target {
                Target::Split(split) => Some(table.splits[split].settings.name.clone()),
                _ => None,
            },
            pool: match route.target {
                Target::Pool(pool) => Some(table.pools[pool].settings.name.clone()),
                _ => None,
            },
            redirect: route.target == Target::Redirect,
            requests: requests(&series.counts(&Key::Route(name.clone()))),
            name,
        }
    };
    table.routes.iter().take(MAX_LISTED).map(view).collect()
}

fn split_view(split: &Split, snapshot: &Snapshot, series: &Registry) -> SplitView {
    let name = &split.settings.name;
    let history = snapshot.state.history(name.as_str()).expect("a table's splits are those of its state");
    let revision = history.current();
    let since_change = snapshot.taken_since_change(name.as_str(), series);
    let (mut since_start, mut in_flight) = (BTreeMap::new(), BTreeMap::new());
    for (pool, _) in revision.weights.iter() {
        let counts = series.counts(&Key::Split(name.clone(), pool.clone()));
        since_start.insert(pool.clone(), counts.taken());
        in_flight.insert(pool.clone(), counts.in_flight);
    }
    let released = |pool: &Name| {
        snapshot.state.live().released.get(&(name.clone(), pool.clone())).map(|at| timestamp(*at))
    };
    SplitView {
        name: name.clone(),
        weights: revision.weights.clone(),
        share: shares(&since_change),
        requests: since_change,
        since_start: Realised { share: shares(&since_start), requests: since_start },
        in_flight,
        revision: revision.number,
        changed_at: timestamp(revision.at),
        changed_by: revision.author.clone(),
        change: revision.kind,
        sticky: pins::view(split, released, &snapshot.table, series),
    }
}

/// Each pool's share of the requests; 0 for all if there were none.
pub(super) fn shares(requests: &BTreeMap<Name, u64>) -> BTreeMap<Name, f64> {
    let sum = requests.values().sum::<u64>().max(1) as f64;
    requests.iter().map(|(pool, count)| (pool.clone(), *count as f64 / sum)).collect()
}

fn pool_views(snapshot: &Snapshot, admin: &Admin, limit: usize) -> Vec<PoolView> {
    let pools = snapshot.table.pools.iter().zip(memberships(&snapshot.table));
    pools.take(limit).map(|(pool, splits)| pool_view(pool, splits, snapshot, admin)).collect()
}

/// For each pool, the splits that it is a pool of, with its weight in each.
fn memberships(table: &Table) -> Vec<BTreeMap<Name, u32>> {
    let mut memberships = vec![BTreeMap::new(); table.pools.len()];
    for split in &table.splits {
        for arm in &split.arms {
            memberships[arm.pool].insert(split.settings.name.clone(), arm.set_weight);
        }
    }
    memberships
}

fn pool_view(pool: &Pool, splits: BTreeMap<Name, u32>, snapshot: &Snapshot, admin: &Admin) -> PoolView {
    let name = &pool.settings.name;
    let panics = pool.ignores_ejections();
    let (control, series) = (&admin.control, admin.control.series());
    let origins = names::origins(name, snapshot);
    let mut health = admin.health.endpoints(name.as_str());
    let elsewhere = |address: &SocketAddr| admin.succession.in_flight(name, Some(*address));
    let gone =
        snapshot.draining.values().filter(|draining| draining.is_gone && draining.endpoint.pool == *name);
    let gone = gone.map(|draining| (&draining.endpoint, 0));
    let in_table = pool.endpoints.iter().map(|(endpoint, weight)| (endpoint, *weight));
    let mut endpoints: Vec<_> = in_table
        .chain(gone)
        .map(|(endpoint, weight)| EndpointView {
            address: endpoint.address.to_string(),
            name: origins.get(&endpoint.address).map(|name| name.to_string()),
            weight,
            condition: Condition::new(endpoint.occupancy.standing().name(), health.remove(&endpoint.address)),
            in_flight: endpoint.occupancy.in_flight() + elsewhere(&endpoint.address),
            streams: endpoint.drain.streams(),
            drain: snapshot
                .draining
                .get(&endpoint.id)
                .map(|draining| ProgressView::of(draining, elsewhere(&endpoint.address))),
            requests: requests(&series.counts(&Key::Endpoint(name.clone(), endpoint.address))),
        })
        .collect();
    PoolView {
        name: name.clone(),
        available: pool
            .endpoints
            .iter()
            .filter(|(endpoint, weight)| *weight > 0 && endpoint.occupancy.standing().is_available_in(panics))
            .count(),
        panic: pool.state.panics(),
        in_flight: pool.endpoints.iter().map(|(endpoint, _)| endpoint.occupancy.in_flight()).sum::<u64>()
            + admin.succession.in_flight(name, None),
        requests: requests(&series.counts(&Key::Pool(name.clone()))),
        splits,
        drain: snapshot.state.live().pools[name].drain.as_ref().map(DrainView::of),
        gone: endpoints.split_off(pool.endpoints.len()),
        endpoints,
        limits: limits::view(pool),
        names: names::of_pool(name, snapshot, control.names()),
    }
}

fn requests(counts: &TrafficCounts) -> Requests {
    Requests {
        total: counts.requests(),
        by_class: CLASSES.into_iter().zip(counts.by_class).collect(),
        aborted: counts.aborted,
    }
}

pub(super) fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_one_or_are_all_zero() {
        let count = |blue, green| {
            BTreeMap::from([(Name::new("blue").unwrap(), blue), (Name::new("green").unwrap(), green)])
        };
        assert_eq!(shares(&count(3, 1)).values().copied().collect::<Vec<_>>(), [0.75, 0.25]);
        assert_eq!(shares(&count(0, 0)).values().copied().collect::<Vec<_>>(), [0.0, 0.0]);
    }
}
