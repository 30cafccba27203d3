//! The validated configuration: what the rest of the program reads.

use std::{
    collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration,
};

use ipnet::IpNet;

pub use self::{dns::*, pool::*, sticky::*};
use super::defaults;
pub use super::references::Reference;
pub use crate::model::access_log::{AccessLogFormat, AccessLogSettings as AccessLog, LogField, LogPiece};
use crate::model::{name::Name, role::Role, weights::Weights};
pub use crate::tls::{ClientSettings, Hsts, MinVersion, PairFiles, Settings as TlsSettings};

mod dns;
mod pool;
mod sticky;

/// A whole configuration in which every reference resolves.
#[derive(Debug, Clone)]
pub struct Config {
    /// The text that it was made of, as it is written: its references are not followed in it.
    pub text: Arc<str>,
    /// The references in it to values that are kept elsewhere.
    pub references: Arc<[Reference]>,
    /// Worker threads of the data plane; `None` is one per core.
    pub workers: Option<NonZeroUsize>,
    /// Where the admin API listens; `None` turns it off.
    pub admin: Option<AdminAddress>,
    /// Has the admin API speak TLS.
    pub admin_tls: Option<Arc<TlsSettings>>,
    /// What callers of the admin API may by the subjects and names of their certificates; none says that they may do
    /// everything.
    pub admin_roles: BTreeMap<String, Role>,
    /// The file of tokens that the admin API asks for; `None` asks for none.
    pub tokens: Option<PathBuf>,
    /// The second address, for probes and scrapers alone.
    pub health: Option<SocketAddr>,
    /// The pools each of which needs an available endpoint for the process to be ready.
    pub required_pools: Vec<Name>,
    /// Whether a change by the admin API has to name, by If-Match, what the caller has seen.
    pub require_if_match: bool,
    /// Where revisions are kept (`[state] path`); `None` keeps them in memory, for want of a better place.
    pub state: Option<StatePlace>,
    /// Addresses that accept connections, at least one.
    pub listeners: Vec<Arc<Listener>>,
    /// Pools in the file's order.
    pub pools: Vec<Arc<Pool>>,
    /// Splits in the file's order; their weights are the declared ones.
    pub splits: Vec<Arc<Split>>,
    /// Routes in the file's order, which is the last tie-breaker of their precedence.
    pub routes: Vec<Arc<Route>>,
    /// How names of endpoints are resolved.
    pub dns: Dns,
    /// What signs pins.
    pub pins: Pins,
    /// The access log, off by default.
    pub access_log: Option<AccessLog>,
    /// How the process stops.
    pub shutdown: Shutdown,
}

/// Where revisions are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatePlace {
    /// In the database at this path.
    File(PathBuf),
    /// Nowhere: they end with the process.
    Memory,
}

/// Where the admin API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// An address: of loopback, unless it is served over TLS to those who prove who they are.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// An address that Switchback accepts connections on.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Its name in logs and metrics.
    pub name: Name,
    /// The address to bind.
    pub address: SocketAddr,
    /// Networks whose `Forwarded`, `X-Forwarded-*` and `X-Request-Id` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The host (lower case, without port) that an HTTP/1.0 request without `Host` gets.
    pub default_host: Option<Box<str>>,
    /// Whether field names may hold an underscore (many applications read `-` and `_` as one).
    pub allow_underscores: bool,
    /// The most connections that are open at once, over all workers; over it, accepting pauses.
    pub max_connections: usize,
    /// The most requests in flight at once, shared out evenly over the workers; over it, they are answered with 503.
    pub max_requests: usize,
    /// From the first byte of a head to its end.
    pub head_timeout: Duration,
    /// How long a keep-alive connection may be idle between requests.
    pub keep_alive_timeout: Duration,
    /// The longest silence of a client that is sending a request body.
    pub body_timeout: Duration,
    /// The longest time in which a client that is being sent a response takes no byte.
    pub write_timeout: Duration,
    /// Whether HTTP/2 is spoken with clients that begin with it, or ask for it in their handshake.
    pub http2: bool,
    /// The most requests of a connection of HTTP/2 that are in flight at once.
    pub http2_max_streams: usize,
    /// The port of HTTPS to which requests that come over plain HTTP are redirected.
    pub redirect_to_https: Option<u16>,
    /// Has clients speak TLS.
    pub tls: Option<Arc<TlsSettings>>,
}

/// A named set of weights over pools.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Its name.
    pub name: Name,
    /// The declared weights; every pool in it is declared.
    pub weights: Weights,
    /// What buckets a request, if anything does.
    pub key: Option<SplitKey>,
    /// What happens to the share of a pool that has no available endpoint.
    pub when_unavailable: WhenUnavailable,
    /// Whether and how sessions stay with a pool.
    pub sticky: Option<Sticky>,
}

/// What a split's bucketing key is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitKey {
    /// The value of a cookie (case-sensitive name).
    Cookie(Box<str>),
    /// The value of a header field (lower-case name).
    Header(Box<str>),
    /// The client's IP address, without its port.
    ClientIp,
}

/// What happens to the share of a pool that has no available endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnavailable {
    /// The other pools take it, by their weights.
    PassOn,
    /// It is answered with 503.
    Fail,
}

/// Which requests go where, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its name.
    pub name: Name,
    /// Which requests it takes.
    pub matches: RouteMatch,
    /// Where they go.
    pub action: Action,
    /// The time from the request's head to the response's end; `None` is unlimited. Tunnels are exempt once open.
    pub timeout: Option<Duration>,
    /// From the request's last byte to the response's first; `None` leaves it to `timeout`.
    pub first_byte_timeout: Option<Duration>,
    /// The longest silence of an upstream within its response; `None` leaves it to `timeout`.
    pub stream_idle_timeout: Option<Duration>,
    /// When a failed attempt is repeated.
    pub retries: Retries,
    /// Edits of the request's fields, after hop-by-hop fields were removed.
    pub request_headers: HeaderEdits,
    /// Edits of the response's fields.
    pub response_headers: HeaderEdits,
    /// The prefix that replaces the matched one (`rewrite = { prefix = "/v2" }`), normalised, without a last slash
    /// (so `/` is the empty text). Only routes with a prefix path have one.
    pub rewrite_prefix: Option<Box<str>>,
    /// Whether `//` in the path counts as `/`.
    pub merge_slashes: bool,
    /// The longest request body in bytes; over it the request is answered with 413. `None` is unlimited.
    pub max_body: Option<u64>,
    /// How often requests of one key are taken; `None` is unlimited.
    pub rate_limit: Option<RateLimit>,
    /// Whether a `Forwarded` field (RFC 7239) is sent upstream.
    pub forwarded: bool,
    /// Whether `X-Request-Id` is sent upstream and answered downstream.
    pub request_id: bool,
    /// Protocols (lower case) that a client may upgrade to; `websocket` by default.
    pub upgrades: Vec<Box<str>>,
}

/// How often a route takes requests of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// So many requests in each `per`, one by one.
    pub requests: u64,
    /// The time in which as many are taken again.
    pub per: Duration,
    /// How many are taken at once after a pause.
    pub burst: u64,
    /// What they are counted by.
    pub key: SplitKey,
    /// How many keys are counted at a time.
    pub keys: usize,
}

impl RateLimit {
    /// The seconds in which as many requests are taken again as are taken at once, rounded up.
    pub fn window(&self) -> u64 {
        (self.per.as_secs_f64() * self.burst as f64 / self.requests as f64).ceil() as u64
    }
}

/// Which requests a route takes. All of its parts must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteMatch {
    /// Any of these; empty is every host.
    pub hosts: Vec<HostPattern>,
    /// The path.
    pub path: PathPattern,
    /// Any of these methods (as written, case-sensitive); empty is every method.
    pub methods: Vec<Box<str>>,
    /// All of these fields (lower-case name, exact value; of a repeated field any line may match).
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// All of these query parameters (percent-decoded name and value, exact; the first of a repeated one counts).
    pub query: Vec<(Box<str>, Box<str>)>,
}

/// A host that a route takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host: lower case, without port, IPv6 in brackets.
    Exact(Box<str>),
    /// `*.example.com`, held as `.example.com`: any host that ends so, with at least one label more.
    Wildcard(Box<str>),
}

/// A path that a route takes, normalised as request paths are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This path alone.
    Exact(Box<str>),
    /// Whole segments from the start, without a last slash: `/` is held as the empty text, `/a` takes `/a`, `/a/`
    /// and `/a/b`, not `/ab`.
    Prefix(Box<str>),
}

/// Where the requests of a route go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A declared split.
    Split(Name),
    /// A declared pool.
    Pool(Name),
    /// Answered by Switchback itself.
    Redirect(Redirect),
}

/// `redirect = { … }`: the parts of the request's URL that are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`; the request's own by default.
    pub scheme: Option<Box<str>>,
    /// Host and, where wanted, port; the request's own by default.
    pub host: Option<Box<str>>,
    /// The whole path (and query, if it holds a `?`); the request's path and query by default.
    pub path: Option<Box<str>>,
}

/// When a failed attempt is repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct Retries {
    /// Attempts beyond the first; 0 turns retries off.
    pub attempts: u32,
    /// Retries as a share of the requests; at least 10 a second are always allowed.
    pub budget: f64,
    /// The longest that one attempt may take to the response's head, while another attempt is left; `None` leaves it
    /// to the route's times.
    pub per_try_timeout: Option<Duration>,
    /// Bytes of a request body that are kept for another attempt; a longer body is not sent twice.
    pub max_body: usize,
    /// Statuses (500 to 599) of an upstream's answer after which an idempotent request is sent again.
    pub statuses: Vec<u16>,
    /// Whether requests that are not idempotent are repeated, too, where they may have been processed.
    pub non_idempotent: bool,
}

/// Edits of header fields, ready to be applied while a head is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderEdits {
    /// Lower-case names of fields that are dropped: those of `remove` and of `set`.
    pub drop: Vec<Box<str>>,
    /// Whole lines, `Name: value\r\n`, of `set` and then `add`.
    pub lines: Box<[u8]>,
}

/// How the process stops on SIGTERM: readiness fails at once, listeners close after `delay`, and what is in flight
/// then has until `deadline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// How long listeners stay open after readiness has failed.
    pub delay: Duration,
    /// How long requests in flight may take after the listeners have closed.
    pub deadline: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: defaults::RETRY_ATTEMPTS,
            budget: defaults::RETRY_BUDGET,
            per_try_timeout: None,
            max_body: defaults::RETRY_MAX_BODY,
            statuses: Vec::new(),
            non_idempotent: false,
        }
    }
}
