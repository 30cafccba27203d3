//! A control plane without a data plane, and a client that sends bytes as they are.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use switchback::{
    admin::socket::Bound,
    app::control_plane::ControlPlane,
    config::{self, AdminAddress, Config},
    control::lifecycle::Phase,
    model::name::Name,
    telemetry::registry::{Key, Registry},
    upstream::occupancy::Claim,
};

/// How long a client of a test waits for an answer before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running control plane and what it counts.
pub struct Instance {
    pub plane: ControlPlane,
    pub series: Arc<Registry>,
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect("a test's names are good")
}

/// A split over three pools, of which one is not deployed and declared with 0, and a route to it.
const FILE: &str = r#"
[[listener]]
name = "web"
listen = "127.0.0.1:8080"

[pool.blue]
endpoints = ["127.0.0.1:9001"]

[pool.green]
endpoints = ["127.0.0.1:9011"]

[pool.old]
endpoints = ["127.0.0.1:9021"]

[split.shop]
weights = { blue = 95, green = 5, old = 0 }

[[route]]
name = "shop"
hosts = ["shop.example.com"]
split = "shop"
"#;

/// The sample configuration with its admin API at an address.
pub fn config(admin: AdminAddress) -> Config {
    let (mut config, _) = config::parse("test.toml", FILE).expect("the sample is good");
    config.admin = Some(admin);
    config
}

impl Instance {
    /// Starts one on any port.
    pub fn start() -> Self {
        Self::at(AdminAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))))
    }

    pub fn at(admin: AdminAddress) -> Self {
        Self::of(config(admin))
    }

    /// Starts one on any port, with settings of the test's own.
    pub fn with(set: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(AdminAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))));
        set(&mut config);
        Self::of(config)
    }

    fn of(config: Config) -> Self {
        let series = Arc::new(Registry::default());
        let plane = ControlPlane::start(Arc::new(config), Arc::clone(&series), None).expect("it starts");
        plane.lifecycle.advance(Phase::Ready);
        Self { plane, series }
    }

    pub fn address(&self) -> SocketAddr {
        match self.plane.admin {
            Some(Bound::Tcp(address)) => address,
            _ => panic!("this instance has no TCP address"),
        }
    }

    /// What `--admin` takes.
    pub fn url(&self) -> String {
        self.plane.admin.as_ref().expect("an admin API").to_string()
    }

    /// Counts finished requests of a pool in a split, as a worker would.
    pub fn count(&self, pool: &str, requests: u64) {
        let slot = self.series.declare(&Key::Split(name("shop"), name(pool)));
        self.series.traffic(slot).by_class[1].add(requests);
    }

    /// Claims, or gives back, a place on the pool's endpoint, as a request would.
    pub fn occupy(&self, pool: &str, claim: bool) {
        let table = self.plane.live.table();
        let pool =
            table.pools.iter().find(|compiled| compiled.settings.name.as_str() == pool).expect("a pool");
        let occupancy = &pool.endpoints[0].0.occupancy;
        if claim { assert_eq!(occupancy.claim(u64::MAX), Claim::Granted) } else { occupancy.release() }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    /// A call as a good client makes it.
    pub fn call(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        let kind = if body.is_some() { "Content-Type: application/json\r\n" } else { "" };
        self.call_with(method, path, kind, body.unwrap_or(""))
    }

    /// A call with field lines of its own, each ending in CRLF.
    pub fn call_with(&self, method: &str, path: &str, fields: &str, body: &str) -> Answer {
        let address = self.address();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{fields}\r\n{body}",
            body.len()
        ))
    }

    /// Sends bytes and reads until the end.
    pub fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address()).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        // The instance may answer and close before it has read everything.
        let _ = stream.write_all(request.as_bytes());
        Answer::read(stream)
    }
}

/// Sends bytes to a unix socket and reads until the end.
pub fn raw_unix(path: &Path, request: &str) -> Answer {
    let mut stream = UnixStream::connect(path).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.write_all(request.as_bytes()).expect("it reads");
    Answer::read(stream)
}

impl Answer {
    fn read(mut stream: impl Read) -> Self {
        let mut bytes = Vec::new();
        let mut part = [0; 65_536];
        // A reset after the answer is no failure of the answer.
        while let Ok(count @ 1..) = stream.read(&mut part) {
            bytes.extend_from_slice(&part[..count]);
        }
        let text = String::from_utf8(bytes).expect("answers are UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole head: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The value of a field, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}
