//! The mirror of `[pool.NAME]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClientKey, DurationText, Entries, Spanned, TlsVersion};

/// One version of a service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Pool {
    /// Its addresses. It may be empty: a version that has not been deployed yet.
    #[schemars(required)]
    pub endpoints: Option<Vec<Spanned<Endpoint>>>,
    /// How an endpoint is chosen: "least_request" (default, the less loaded of two random ones), "round_robin", or
    /// "hash" (by a key of the request: see `hash`).
    pub balance: Option<Spanned<Balance>>,
    /// The key of `balance = "hash"`.
    pub hash: Option<Spanned<HashBalance>>,
    /// How the endpoints are probed: one of http, tcp and grpc. Without it they count as healthy.
    pub health: Option<Spanned<HealthCheck>>,
    /// When an endpoint that misbehaves is ejected for a while. On by default.
    pub eject: Option<Spanned<Eject>>,
    /// The share of available endpoints, from 0 to 1, under which ejections are ignored; 0.5 by default.
    pub panic: Option<Spanned<f64>>,
    /// How an endpoint that has become available is warmed. Without it, it gets its whole share at once.
    pub slow_start: Option<Spanned<SlowStart>>,
    /// Which protocol its endpoints are spoken to in: "http/1.1" (default), "h2" (over TLS, or in cleartext with prior
    /// knowledge), or "auto" (over TLS: what the endpoint agrees to).
    pub protocol: Option<Spanned<Protocol>>,
    /// Has TLS spoken with its endpoints. Without it, connections are in cleartext.
    pub tls: Option<Spanned<PoolTls>>,
    /// How long a connection attempt may take, the handshake of TLS included.
    pub connect_timeout: Option<Spanned<DurationText>>,
    /// How long an upstream connection is kept idle; keep it below the application's own keep-alive time.
    pub idle_timeout: Option<Spanned<DurationText>>,
    /// The most idle connections to one endpoint, for each worker.
    pub max_idle: Option<Spanned<u64>>,
    /// How long an upstream connection is used at most, or "off" (default).
    pub max_age: Option<Spanned<DurationText>>,
    /// The most connections to one endpoint, over all workers; unlimited by default.
    pub max_connections: Option<Spanned<u64>>,
    /// The most requests of the pool that wait, for a connection or for an endpoint; 1024 by default.
    pub max_pending: Option<Spanned<u64>>,
    /// How long a request waits for a connection.
    pub pending_timeout: Option<Spanned<DurationText>>,
    /// How long a request waits where no endpoint is available or can be connected to; "0s" (default) not at all.
    pub unavailable_wait: Option<Spanned<DurationText>>,
    /// The most requests in flight in the pool, over all workers; unlimited by default.
    pub max_requests: Option<Spanned<u64>>,
    /// The most requests in flight on one endpoint, over all workers; unlimited by default.
    pub max_endpoint_requests: Option<Spanned<u64>>,
    /// A limit of the pool's requests in flight that follows its latency. Without it there is none.
    pub adaptive: Option<Spanned<Adaptive>>,
    /// Whether the pool begins drained: it takes no new session; false by default.
    pub drain: Option<Spanned<bool>>,
    /// How long requests in flight may take when an endpoint or the pool is drained.
    pub drain_deadline: Option<Spanned<DurationText>>,
    /// How long tunnels and event streams may last when an endpoint or the pool is drained.
    pub stream_drain_deadline: Option<Spanned<DurationText>>,
}

/// Which protocol endpoints are spoken to in.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(in crate::config) enum Protocol {
    #[serde(rename = "http/1.1")]
    Http1,
    #[serde(rename = "h2")]
    Http2,
    #[serde(rename = "auto")]
    Agreed,
}

/// TLS with the endpoints of a pool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PoolTls {
    /// A PEM file with the authorities whose certificates count; those that the system trusts by default.
    pub ca: Option<Spanned<String>>,
    /// The name that endpoints are asked for and have to prove. By default the one name that all of the pool's endpoints
    /// are declared by, or else each one's address.
    pub name: Option<Spanned<String>>,
    /// Whether endpoints have to prove who they are; true by default.
    pub verify: Option<Spanned<bool>>,
    /// A PEM file with the certificate that endpoints are shown; none by default.
    pub cert: Option<Spanned<String>>,
    /// A PEM file with its private key, not encrypted.
    pub key: Option<Spanned<String>>,
    /// The oldest version of TLS that is spoken: "1.2" (default) or "1.3".
    pub min_version: Option<Spanned<TlsVersion>>,
}

/// An endpoint: "IP:port", "name:port", "srv:name", or a table with its weight.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Endpoint {
    /// Where it is.
    Address(String),
    /// Where it is, and how it is used.
    Table(EndpointTable),
}

/// An endpoint with its weight.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct EndpointTable {
    /// "IP:port", "name:port" or "srv:name".
    #[schemars(required)]
    pub address: Option<String>,
    /// Its share within its pool, 1 by default; 0 takes no traffic.
    pub weight: Option<u64>,
    /// Whether it begins drained; false by default.
    pub drain: Option<bool>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Balance {
    LeastRequest,
    RoundRobin,
    Hash,
}

/// The key of `balance = "hash"`: one of a cookie, a header and the client's address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HashBalance {
    /// The name of a cookie.
    pub cookie: Option<Spanned<String>>,
    /// The name of a header field.
    pub header: Option<Spanned<String>>,
    /// "ip": the client's address without its port.
    pub client: Option<Spanned<ClientKey>>,
    /// How many times its even share of the requests in flight an endpoint takes before its keys go on to others;
    /// 1.25 by default.
    pub max_load: Option<Spanned<f64>>,
}

/// How endpoints are probed: one of http, tcp and grpc, and when.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HealthCheck {
    /// The path (and query) that is asked for, such as "/healthz".
    pub http: Option<Spanned<String>>,
    /// Whether a connection alone is asked for.
    pub tcp: Option<Spanned<bool>>,
    /// The service that `grpc.health.v1` is asked about; "" is the server as a whole.
    pub grpc: Option<Spanned<String>>,
    /// The method of an http probe, "GET" by default.
    pub method: Option<Spanned<String>>,
    /// The statuses of a success: numbers, or texts such as "200-299" (default).
    #[serde(default)]
    pub status: Vec<Spanned<Status>>,
    /// A text that the first 64 KiB of the answer must hold.
    pub body: Option<Spanned<String>>,
    /// Fields that an http probe sends.
    #[serde(default)]
    pub headers: Entries<String>,
    /// The Host field of an http probe; the endpoint's address by default.
    pub host: Option<Spanned<String>>,
    /// The port that is asked instead of the endpoint's own.
    pub port: Option<Spanned<u64>>,
    /// The time between two probes of an endpoint.
    pub interval: Option<Spanned<DurationText>>,
    /// The time between two probes of an endpoint that is not healthy.
    pub down_interval: Option<Spanned<DurationText>>,
    /// How long a probe may take.
    pub timeout: Option<Spanned<DurationText>>,
    /// Successes in a row that make an endpoint healthy again, 2 by default; a new one needs one.
    pub healthy_after: Option<Spanned<u64>>,
    /// Failures in a row that make an endpoint unhealthy, 3 by default.
    pub unhealthy_after: Option<Spanned<u64>>,
}

/// A status or a range of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Status {
    /// One status.
    One(u64),
    /// "200" or "200-299".
    Range(String),
}

/// When an endpoint that misbehaves is ejected.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Eject {
    /// Whether endpoints are ejected at all; true by default.
    pub enabled: Option<Spanned<bool>>,
    /// 5xx answers and failed attempts in a row, 5 by default; 0 turns this off.
    pub consecutive_5xx: Option<Spanned<u64>>,
    /// Failed attempts and answers with 502, 503 or 504 in a row, 5 by default; 0 turns this off.
    pub consecutive_gateway_failures: Option<Spanned<u64>>,
    /// How often success rates are compared.
    pub interval: Option<Spanned<DurationText>>,
    /// An ejection lasts this long times the number of ejections so far.
    pub base_time: Option<Spanned<DurationText>>,
    /// The longest ejection.
    pub max_time: Option<Spanned<DurationText>>,
    /// The largest share of a pool that is ejected at once, 0.1 by default; one endpoint always may be.
    pub max_ejected: Option<Spanned<f64>>,
    /// How many endpoints it takes to compare success rates, 5 by default; 0 turns this off.
    pub success_rate_hosts: Option<Spanned<u64>>,
    /// How many requests in an interval an endpoint takes part with, 100 by default.
    pub success_rate_requests: Option<Spanned<u64>>,
    /// How many standard deviations below the mean an outlier is, 1.9 by default.
    pub success_rate_deviations: Option<Spanned<f64>>,
}

/// How an endpoint that has become available is warmed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SlowStart {
    /// How long it takes until it has its whole share.
    pub window: Option<Spanned<DurationText>>,
    /// The form of the rise: 1 (default) is linear, a higher one rises faster at first.
    pub aggression: Option<Spanned<f64>>,
    /// The least share of its weight, 0.1 by default.
    pub min_weight: Option<Spanned<f64>>,
}

/// A limit of requests in flight that follows the latency.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Adaptive {
    /// The least that the limit becomes, 8 by default.
    pub min: Option<Spanned<u64>>,
    /// The most that the limit becomes, 10000 by default.
    pub max: Option<Spanned<u64>>,
    /// How much slower than at its best the pool may become before the limit falls, 1.5 by default.
    pub tolerance: Option<Spanned<f64>>,
}
