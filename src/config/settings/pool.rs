//! A pool: its endpoints, how one is chosen, how their health is watched, and what bounds their use.

use std::{sync::Arc, time::Duration};

use super::SplitKey;
use crate::config::defaults;
use crate::model::name::Name;
pub use crate::model::{
    adaptive::Adaptive, endpoint_address::EndpointAddress, outlier::Outliers, protocol::Protocol,
    slow_start::SlowStart,
};
pub use crate::tls::BackSettings;

/// One version of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Its name.
    pub name: Name,
    /// Its declared endpoints, each address once. It may be empty: a pool that has not been deployed yet.
    pub endpoints: Vec<EndpointSettings>,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// How its endpoints are probed; without it they count as healthy.
    pub health: Option<HealthCheck>,
    /// When an endpoint that misbehaves is ejected; `None` never.
    pub eject: Option<Outliers>,
    /// The share of available endpoints, from 0 to 1, under which ejections are ignored; 0 never ignores them.
    pub panic_threshold: f64,
    /// How an endpoint that has become available is warmed; `None` gives it its whole share at once.
    pub slow_start: Option<SlowStart>,
    /// Which protocol its endpoints are spoken to in.
    pub protocol: Protocol,
    /// How TLS is spoken with them; `None` is not at all.
    pub tls: Option<Arc<BackSettings>>,
    /// How long a connection attempt may take, the handshake of TLS included.
    pub connect_timeout: Duration,
    /// How long an upstream connection is kept idle; below the application's own keep-alive time.
    pub idle_timeout: Duration,
    /// The most idle connections to one endpoint, for each worker.
    pub max_idle: usize,
    /// How long an upstream connection is used; `None` is for as long as it lasts.
    pub max_age: Option<Duration>,
    /// What bounds the pool's use.
    pub limits: Limits,
    /// Whether the file declares it drained: it takes no new session.
    pub is_drained: bool,
    /// How an endpoint or the whole pool is drained, where a call does not say.
    pub drain: DrainSettings,
}

/// A declared endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSettings {
    /// Where it is.
    pub address: EndpointAddress,
    /// Its share within its pool, 1 by default; 0 takes no traffic.
    pub weight: u32,
    /// Whether the file declares it drained.
    pub is_drained: bool,
}

/// How an endpoint of a pool is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// The less loaded of two random choices.
    LeastRequest,
    /// In turn, by weight.
    RoundRobin,
    /// By a key of the request, so that it comes to the same endpoint as long as that one is not overloaded.
    Hash(HashBalance),
}

/// How a key chooses an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashBalance {
    /// What of the request is the key. A request without it is balanced by least request.
    pub key: SplitKey,
    /// How many requests in flight an endpoint takes before its keys go on to their next, in hundredths of its
    /// share of all of the pool's (125 is 1.25 times its share).
    pub max_load: u32,
}

/// How endpoints are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// The time between two probes of an endpoint; each is moved by up to a tenth at random.
    pub interval: Duration,
    /// The time between two probes of an endpoint that is not healthy.
    pub down_interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// Successes in a row that make an endpoint healthy. A new endpoint needs one.
    pub healthy_after: u32,
    /// Failures in a row that make an endpoint unhealthy.
    pub unhealthy_after: u32,
    /// The port that is asked instead of the endpoint's own.
    pub port: Option<u16>,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Whether a connection can be had.
    Tcp,
    /// Whether a request is answered well.
    Http(HttpProbe),
    /// Whether `grpc.health.v1.Health/Check` answers SERVING for a service (empty: the server as a whole).
    Grpc {
        /// The service.
        service: Box<str>,
    },
}

/// A probe by an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// The method, GET by default.
    pub method: Box<str>,
    /// The path and query.
    pub path: Box<str>,
    /// The Host field; the endpoint's address by default.
    pub host: Option<Box<str>>,
    /// Fields that are sent with it.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Ranges of statuses (both ends within) that are a success; 200 to 299 by default.
    pub status: Vec<(u16, u16)>,
    /// A text that the first 64 KiB of the body must hold.
    pub body: Option<Box<str>>,
}

/// What bounds the use of a pool, over all workers. `None` does not bound it.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Connections to one endpoint.
    pub max_connections: Option<u32>,
    /// Requests of the pool that wait: for a connection, where `max_connections` has been reached, or for an endpoint.
    pub max_pending: u32,
    /// How long a request waits for a connection.
    pub pending_timeout: Duration,
    /// How long a request waits where no endpoint is available, or none can be connected to; 0 is not at all.
    pub unavailable_wait: Duration,
    /// Requests in flight in the pool.
    pub max_requests: Option<u32>,
    /// Requests in flight on one endpoint.
    pub max_endpoint_requests: Option<u32>,
    /// A limit of requests in flight that finds itself.
    pub adaptive: Option<Adaptive>,
}

/// How an endpoint or a pool is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// How long requests in flight may take.
    pub deadline: Duration,
    /// How long tunnels and event streams may last: they are closed one after the other, spread over this time.
    pub stream_deadline: Duration,
}

impl Pool {
    /// A pool that is as its defaults say.
    pub fn new(name: Name, endpoints: Vec<EndpointSettings>) -> Self {
        Self {
            name,
            endpoints,
            balance: defaults::BALANCE,
            health: None,
            eject: Some(Outliers::default()),
            panic_threshold: defaults::PANIC_THRESHOLD,
            slow_start: None,
            protocol: Protocol::default(),
            tls: None,
            connect_timeout: defaults::CONNECT_TIMEOUT,
            idle_timeout: defaults::IDLE_TIMEOUT,
            max_idle: defaults::MAX_IDLE,
            max_age: None,
            limits: Limits::default(),
            is_drained: false,
            drain: DrainSettings::default(),
        }
    }
}

impl EndpointSettings {
    /// An endpoint of the usual weight.
    pub fn new(address: EndpointAddress) -> Self {
        Self { address, weight: defaults::ENDPOINT_WEIGHT, is_drained: false }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_pending: defaults::MAX_PENDING,
            pending_timeout: defaults::PENDING_TIMEOUT,
            unavailable_wait: defaults::UNAVAILABLE_WAIT,
            max_requests: None,
            max_endpoint_requests: None,
            adaptive: None,
        }
    }
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self { deadline: defaults::DRAIN_DEADLINE, stream_deadline: defaults::DRAIN_STREAM_DEADLINE }
    }
}
