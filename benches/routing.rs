//! What a look-up and a change of weights cost with 10, 1,000 and 100,000 routes.
//!
//! `cargo bench --bench routing` prints nanoseconds: of several rounds the median, so that a disturbed one tells
//! nothing. The look-ups are to stay the same down the table (docs/routing.md).

use std::{
    hint::black_box,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use switchback::{
    config::{
        Action, Config, EndpointSettings, HeaderEdits, HostPattern, PathPattern, Pins, Pool, Retries, Route,
        RouteMatch, Shutdown, Split, WhenUnavailable,
    },
    model::{name::Name, resolved::Resolved, weights::Weights},
    routing::{
        build::build,
        request_view::{AnnouncedBody, RequestView},
        select::{Chooser, Selection, select},
    },
    telemetry::registry::{LocalSeries, Registry as Series},
    upstream::{local::Upstreams, registry::Registry},
};

const ROUNDS: usize = 15;
const LOOKUPS: usize = 20_000;

/// How the routes are laid out.
#[derive(Clone, Copy)]
enum Layout {
    /// Each route has a host of its own.
    Hosts,
    /// All routes share a host, each with a path of its own.
    Paths,
}

struct Request {
    host: String,
    path: String,
}

impl RequestView for Request {
    fn method(&self) -> &[u8] {
        b"GET"
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
        None
    }
    fn header(&self, _: &str, _: usize) -> Option<&[u8]> {
        None
    }
    fn client(&self) -> IpAddr {
        [192, 0, 2, 1].into()
    }
    fn body(&self) -> AnnouncedBody {
        AnnouncedBody::None
    }
    fn asks_to_upgrade(&self) -> bool {
        false
    }
}

fn main() {
    println!(
        "{:>8} {:>8} {:>12} {:>12} {:>14} {:>14}",
        "layout", "routes", "find ns", "select ns", "build ms", "new weights us"
    );
    for layout in [Layout::Hosts, Layout::Paths] {
        for routes in [10, 1_000, 100_000] {
            measure(layout, routes);
        }
    }
}

fn measure(layout: Layout, routes: usize) {
    let config = config(layout, routes);
    let mut state = config.declared_state(SystemTime::UNIX_EPOCH);
    let resolved = Resolved::default();
    let series = Arc::new(Series::default());
    let mut endpoints = Registry::default();
    // What the measurement before has freed is settled with the allocator by a first, unmeasured build.
    drop(build(1, &config, &state, &resolved, &mut Registry::default(), &Series::default(), None));
    let start = Instant::now();
    let table = build(1, &config, &state, &resolved, &mut endpoints, &series, None);
    let built = start.elapsed();

    let requests = requests(layout, routes);
    let find = median(|| {
        for request in requests.iter().cycle().take(LOOKUPS) {
            black_box(table.find(black_box(request)).expect("a route takes it"));
        }
    });
    let (mut chooser, mut upstreams) = (Chooser::new(1), Upstreams::default());
    let mut local = LocalSeries::new(Arc::clone(&series));
    let selected = median(|| {
        for request in requests.iter().cycle().take(LOOKUPS) {
            let selection = select(&table, &mut chooser, &mut upstreams, &mut local, black_box(request));
            assert!(matches!(black_box(selection), Selection::Forward { .. }));
        }
    });
    let mut weight = 0;
    let rebuilt = median(|| {
        weight += 1;
        state.weights.insert(name("shop"), weights(weight));
        black_box(build(2, &config, &state, &resolved, &mut endpoints, &series, Some(&table)));
    });
    let each = |whole: Duration| whole.as_nanos() as f64 / LOOKUPS as f64;
    println!(
        "{:>8} {:>8} {:>12.1} {:>12.1} {:>14.2} {:>14.1}",
        match layout {
            Layout::Hosts => "hosts",
            Layout::Paths => "paths",
        },
        routes,
        each(find),
        each(selected),
        built.as_secs_f64() * 1e3,
        rebuilt.as_secs_f64() * 1e6,
    );
}

fn median(mut round: impl FnMut()) -> Duration {
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed()
        })
        .collect();
    rounds.sort();
    rounds[ROUNDS / 2]
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn weights(green: u32) -> Weights {
    Weights::new(vec![(name("blue"), 90), (name("green"), green)]).expect("good weights")
}

fn host_and_path(layout: Layout, index: usize) -> (String, String) {
    match layout {
        Layout::Hosts => (format!("shop-{index}.example.com"), "/api/v1".to_owned()),
        Layout::Paths => ("shop.example.com".to_owned(), format!("/api/v1/service-{index}")),
    }
}

/// The same number of different requests whatever the number of routes, so that the caches see the same; spread over
/// the first and the last routes.
fn requests(layout: Layout, routes: usize) -> Vec<Request> {
    let request = |index| {
        let (host, path) = host_and_path(layout, index);
        Request { host, path: format!("{path}/items/42") }
    };
    (0..5).chain(routes - 5..routes).map(request).collect()
}

fn config(layout: Layout, routes: usize) -> Config {
    let pool = |which: &str, port: u16| {
        let endpoint = |host: u8| EndpointSettings::new(SocketAddr::from(([127, 0, 0, host], port)).into());
        Arc::new(Pool::new(name(which), vec![endpoint(1), endpoint(2)]))
    };
    let route = |index| {
        let (host, path) = host_and_path(layout, index);
        Arc::new(Route {
            name: name(&format!("r{index}")),
            matches: RouteMatch {
                hosts: vec![HostPattern::Exact(host.into())],
                path: PathPattern::Prefix(path.into()),
                methods: Vec::new(),
                headers: Vec::new(),
                query: Vec::new(),
            },
            action: Action::Split(name("shop")),
            timeout: None,
            first_byte_timeout: None,
            stream_idle_timeout: None,
            retries: Retries::default(),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rewrite_prefix: None,
            merge_slashes: false,
            max_body: None,
            rate_limit: None,
            forwarded: false,
            request_id: false,
            upgrades: Vec::new(),
        })
    };
    let split = Split {
        name: name("shop"),
        weights: weights(10),
        key: None,
        when_unavailable: WhenUnavailable::PassOn,
        sticky: None,
    };
    Config {
        text: Default::default(),
        references: Default::default(),
        workers: None,
        admin: None,
        admin_tls: None,
        admin_roles: Default::default(),
        tokens: None,
        health: None,
        required_pools: Vec::new(),
        require_if_match: false,
        state: None,
        listeners: Vec::new(),
        pools: vec![pool("blue", 9001), pool("green", 9002)],
        splits: vec![Arc::new(split)],
        routes: (0..routes).map(route).collect(),
        dns: Default::default(),
        pins: Pins::default(),
        access_log: None,
        shutdown: Shutdown { delay: Duration::ZERO, deadline: Duration::ZERO },
    }
}
