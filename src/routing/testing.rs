//! Configurations, tables and requests for this layer's tests.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    build::build,
    request_view::{AnnouncedBody, RequestView},
    select::{Chooser, Earlier, Selection, select, select_again},
    table::Table,
};
use crate::{
    config::{
        Action, Config, EndpointSettings, HeaderEdits, HostPattern, PathPattern, Pins, Pool, Retries, Route,
        RouteMatch, Shutdown, Split, SplitKey, WhenUnavailable,
    },
    model::{live_state::LiveState, name::Name, resolved::Resolved, weights::Weights},
    telemetry::registry::{LocalSeries, Registry as Series},
    upstream::{endpoint::EndpointId, local::Upstreams, registry::Registry},
};

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn weights(of: &[(&str, u32)]) -> Weights {
    Weights::new(of.iter().map(|(pool, weight)| (name(pool), *weight)).collect()).unwrap()
}

/// A configuration with pools (name, weights of the endpoints), and nothing else.
pub fn config(pools: &[(&str, &[u32])]) -> Config {
    let pool = |(which, (pool, weights)): (usize, &(&str, &[u32]))| {
        let endpoints = weights.iter().enumerate().map(|(index, weight)| EndpointSettings {
            address: format!("127.0.{which}.{}:80", index + 1).parse().unwrap(),
            weight: *weight,
            is_drained: false,
        });
        Arc::new(Pool::new(name(pool), endpoints.collect()))
    };
    Config {
        text: Arc::default(),
        admin_tls: None,
        admin_roles: Default::default(),
        tokens: None,
        health: None,
        required_pools: Vec::new(),
        references: Arc::default(),
        require_if_match: false,
        workers: None,
        admin: None,
        state: None,
        listeners: Vec::new(),
        pools: pools.iter().enumerate().map(pool).collect(),
        splits: Vec::new(),
        routes: Vec::new(),
        dns: Default::default(),
        pins: Pins::default(),
        access_log: None,
        shutdown: Shutdown { delay: Duration::ZERO, deadline: Duration::ZERO },
    }
}

pub fn split(
    of: &str,
    pools: &[(&str, u32)],
    key: Option<SplitKey>,
    when_unavailable: WhenUnavailable,
) -> Arc<Split> {
    Arc::new(Split { name: name(of), weights: weights(pools), key, when_unavailable, sticky: None })
}

pub fn route(of: &str, matches: RouteMatch, action: Action) -> Route {
    Route {
        name: name(of),
        matches,
        action,
        timeout: None,
        first_byte_timeout: None,
        stream_idle_timeout: None,
        retries: Retries { attempts: 2, budget: 0.2, ..Retries::default() },
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite_prefix: None,
        merge_slashes: false,
        max_body: None,
        rate_limit: None,
        forwarded: false,
        request_id: false,
        upgrades: Vec::new(),
    }
}

/// A match of hosts (`*.x` is a wildcard) and a path (`=/x` is exact), as the file writes them.
pub fn matches(hosts: &[&str], path: &str) -> RouteMatch {
    let host = |host: &&str| match host.strip_prefix('*') {
        Some(suffix) => HostPattern::Wildcard(suffix.into()),
        None => HostPattern::Exact((*host).into()),
    };
    let path = match path.strip_prefix('=') {
        Some(path) => PathPattern::Exact(path.into()),
        None => PathPattern::Prefix(path.trim_end_matches('/').into()),
    };
    RouteMatch {
        hosts: hosts.iter().map(host).collect(),
        path,
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
    }
}

/// A request as a test writes it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub host: String,
    pub path: String,
    pub query: Option<String>,
    pub headers: Vec<(String, String)>,
    pub client: IpAddr,
    pub body: AnnouncedBody,
    pub asks_to_upgrade: bool,
}

pub fn get(host: &str, path: &str) -> Request {
    Request {
        method: "GET".into(),
        host: host.into(),
        path: path.into(),
        query: None,
        headers: Vec::new(),
        client: [192, 0, 2, 1].into(),
        body: AnnouncedBody::None,
        asks_to_upgrade: false,
    }
}

impl Request {
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

impl RequestView for Request {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn scheme(&self) -> &str {
        "http"
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn query(&self) -> Option<&[u8]> {
        self.query.as_deref().map(str::as_bytes)
    }

    fn header(&self, name: &str, nth: usize) -> Option<&[u8]> {
        let mut lines = self.headers.iter().filter(|(line, _)| line == name);
        lines.nth(nth).map(|(_, value)| value.as_bytes())
    }

    fn client(&self) -> IpAddr {
        self.client
    }

    fn body(&self) -> AnnouncedBody {
        self.body
    }

    fn asks_to_upgrade(&self) -> bool {
        self.asks_to_upgrade
    }
}

/// A control plane and one worker, without their threads.
pub struct Bench {
    pub config: Config,
    pub state: LiveState,
    pub resolved: Resolved,
    pub registry: Registry,
    pub series: Arc<Series>,
    pub table: Arc<Table>,
    pub chooser: Chooser,
    pub upstreams: Upstreams,
    pub local: LocalSeries,
}

impl Bench {
    pub fn new(config: Config) -> Self {
        let state = config.declared_state(SystemTime::UNIX_EPOCH);
        let resolved = Resolved::default();
        let series = Arc::new(Series::default());
        let mut registry = Registry::default();
        let table = Arc::new(build(1, &config, &state, &resolved, &mut registry, &series, None));
        table.come_into_force(None);
        let local = LocalSeries::new(Arc::clone(&series));
        let (chooser, upstreams) = (Chooser::new(7), Upstreams::default());
        Self { config, state, resolved, registry, series, table, chooser, upstreams, local }
    }

    /// Publishes a table of the configuration and state as they are now.
    pub fn publish(&mut self) {
        let Self { config, state, resolved, registry, series, table, .. } = self;
        let next = build(table.generation + 1, config, state, resolved, registry, series, Some(table));
        next.come_into_force(Some(table));
        *table = Arc::new(next);
    }

    pub fn set(&mut self, split: &str, to: &[(&str, u32)]) {
        self.state.weights.insert(name(split), weights(to));
        self.publish();
    }

    pub fn select(&mut self, request: &Request) -> Selection {
        select(&self.table, &mut self.chooser, &mut self.upstreams, &mut self.local, request)
    }

    pub fn select_again(
        &mut self,
        earlier: (usize, Option<(usize, usize)>, usize),
        tried: &[EndpointId],
    ) -> Selection {
        self.select_again_by(earlier, b"", tried)
    }

    pub fn select_again_by(
        &mut self,
        (route, arm, pool): (usize, Option<(usize, usize)>, usize),
        key: &[u8],
        tried: &[EndpointId],
    ) -> Selection {
        self.select_after(Earlier { route, arm, pool, session: None, key, tried, insists: false })
    }

    /// The same for an attempt that ignores ejections.
    pub fn insist(
        &mut self,
        (route, arm, pool): (usize, Option<(usize, usize)>, usize),
        tried: &[EndpointId],
    ) -> Selection {
        self.select_after(Earlier { route, arm, pool, session: None, key: b"", tried, insists: true })
    }

    pub fn select_after(&mut self, earlier: Earlier<'_>) -> Selection {
        select_again(&self.table, &mut self.chooser, &mut self.upstreams, &mut self.local, earlier)
    }

    /// The pool that a request is sent to; its claim is given back at once.
    pub fn pool(&mut self, request: &Request) -> Option<&str> {
        match self.select(request) {
            Selection::Forward { pool, .. } => Some(self.table.pools[pool].settings.name.as_str()),
            _ => None,
        }
    }

    /// Says whether all endpoints of a pool are well.
    pub fn set_healthy(&self, pool: &str, healthy: bool) {
        let pool = self.table.pools.iter().find(|known| known.settings.name.as_str() == pool).unwrap();
        pool.endpoints.iter().for_each(|(endpoint, _)| endpoint.occupancy.set_healthy(healthy));
    }
}
