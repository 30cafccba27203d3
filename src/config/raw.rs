//! The file as it is written: a mirror of its keys, with the place of every value.
//!
//! It is the one source of the keys' names: the JSON Schema is generated from these types, [`super::shape`] checks a
//! file against that schema, and only then does serde fill them. Everything is optional here, even what the
//! schema requires, so that a faulty value can be taken out and the rest still be checked. Nothing outside
//! `config` sees these types. The comments on fields become the schema's descriptions.

use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use self::{dns::*, pool::*, sticky::*, tls::*};
use super::spanned::{Entries, Spanned};

mod dns;
mod pool;
mod sticky;
mod tls;

/// A configuration file of Switchback.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Switchback configuration")]
pub(super) struct File {
    /// Worker threads of the data plane; one per core by default.
    pub workers: Option<Spanned<u64>>,
    /// The admin API. Without this table it is off.
    pub admin: Option<Spanned<Admin>>,
    /// When the process is ready, and a second address for probes and scrapers alone. Without this table there is none.
    pub health: Option<Spanned<Probes>>,
    /// Where live changes are kept.
    pub state: Option<Spanned<State>>,
    /// The addresses that accept connections, at least one.
    #[schemars(required)]
    pub listener: Option<Spanned<Vec<Spanned<Listener>>>>,
    /// The pools by name: each is one version of a service.
    #[serde(default)]
    pub pool: Entries<Pool>,
    /// The splits by name: each is a set of weights over pools.
    #[serde(default)]
    pub split: Entries<Split>,
    /// The routes: which requests go where. The order matters only between routes that are equally specific.
    #[serde(default)]
    pub route: Vec<Spanned<Route>>,
    /// How names of endpoints are resolved.
    pub dns: Option<Spanned<Dns>>,
    /// What signs the pins of sticky splits.
    pub pins: Option<Spanned<Pins>>,
    /// The access log. Without this table it is off.
    pub access_log: Option<Spanned<AccessLog>>,
    /// How the process stops.
    pub shutdown: Option<Spanned<Shutdown>>,
}

/// The admin API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    /// An address with its port, such as "127.0.0.1:9900", or "unix:/path/of.sock". One that is not of loopback needs
    /// tls, and tokens or required certificates of clients.
    #[schemars(required)]
    pub listen: Option<Spanned<String>>,
    /// A file of tokens, of which every call then needs one. It is made by `switchback token new`.
    pub tokens: Option<Spanned<String>>,
    /// Has the admin API speak TLS. Without it it speaks plain HTTP.
    pub tls: Option<Spanned<AdminTls>>,
    /// Whether every change has to name, by If-Match, what the caller has seen (default: false).
    pub require_if_match: Option<bool>,
}

/// When the process is ready, and a second address for probes and scrapers alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Probes {
    /// An IP address and a port, such as "0.0.0.0:9901": livez, readyz and metrics, and nothing else.
    pub listen: Option<Spanned<String>>,
    /// Pools without an available endpoint of which readyz is 503; none by default.
    #[serde(default)]
    pub requires: Vec<Spanned<String>>,
}

/// Where live changes are kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// A file, or ":memory:".
    #[schemars(required)]
    pub path: Option<Spanned<String>>,
}

/// An address that accepts connections.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    /// Its name in logs and metrics.
    #[schemars(required)]
    pub name: Option<Spanned<String>>,
    /// The IP address and port to bind, such as `0.0.0.0:8080` or `[::]:8080`; port 0 takes a free one.
    #[schemars(required)]
    pub listen: Option<Spanned<String>>,
    /// Networks (or addresses) whose Forwarded, X-Forwarded-* and X-Request-Id are believed; none by default.
    #[serde(default)]
    pub trusted_proxies: Vec<Spanned<String>>,
    /// The host that an HTTP/1.0 request without Host gets; it is refused by default.
    pub default_host: Option<Spanned<String>>,
    /// Field names with an underscore: "refuse" (default) or "allow".
    pub underscores: Option<Spanned<Underscores>>,
    /// The most connections that are open at once, over all workers; over it, accepting pauses.
    pub max_connections: Option<Spanned<u64>>,
    /// The most requests in flight at once, shared out evenly over the workers; over it, a request is answered with
    /// 503 at once. 65536 by default.
    pub max_requests: Option<Spanned<u64>>,
    /// From the first byte of a head to its end.
    pub head_timeout: Option<Spanned<DurationText>>,
    /// How long a connection may be idle between requests.
    pub keep_alive_timeout: Option<Spanned<DurationText>>,
    /// The longest silence of a client that is sending a request body.
    pub body_timeout: Option<Spanned<DurationText>>,
    /// The longest time in which a client that is being sent a response takes no byte.
    pub write_timeout: Option<Spanned<DurationText>>,
    /// Whether HTTP/2 is spoken with clients that begin with it, or ask for it in their TLS handshake (default: true).
    pub http2: Option<bool>,
    /// The most requests of a connection of HTTP/2 that are in flight at once. 100 by default.
    pub http2_max_streams: Option<Spanned<u64>>,
    /// The port of HTTPS to which requests that come over plain HTTP are redirected; none are by default.
    pub redirect_to_https: Option<Spanned<u64>>,
    /// Has clients speak TLS. Without it they speak plain HTTP.
    pub tls: Option<Spanned<ListenerTls>>,
}

/// What happens to requests with an underscore in a field name.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Underscores {
    Refuse,
    Allow,
}

/// A named set of weights over pools.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Split {
    /// The weight of each pool; a pool's share is its weight divided by the sum.
    #[schemars(required)]
    pub weights: Option<Entries<u64>>,
    /// What buckets a request, so that the same user gets the same pool; drawn per request by default.
    pub key: Option<Spanned<SplitKey>>,
    /// The share of a pool with no available endpoint: "pass_on" (default) to the others, or "fail" with 503.
    pub when_unavailable: Option<Spanned<WhenUnavailable>>,
    /// How sessions stay with their pool: a cookie that pins them. Without it, each request is drawn by itself.
    pub sticky: Option<Spanned<Sticky>>,
}

/// What buckets a request: one of a cookie, a header or the client's address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SplitKey {
    /// The name of a cookie.
    pub cookie: Option<Spanned<String>>,
    /// The name of a header field.
    pub header: Option<Spanned<String>>,
    /// "ip": the client's address without its port.
    pub client: Option<Spanned<ClientKey>>,
}

/// What of the client buckets a request.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientKey {
    Ip,
}

/// What happens to the share of a pool with no available endpoint.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WhenUnavailable {
    PassOn,
    Fail,
}

/// Which requests go where, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    /// Its name in logs and metrics.
    #[schemars(required)]
    pub name: Option<Spanned<String>>,
    /// Hosts, any of which must match: "shop.example.com" or "*.example.com"; every host by default.
    #[serde(default)]
    pub hosts: Vec<Spanned<String>>,
    /// "/shop": this prefix by whole segments; "=/shop": this path alone. "/" by default.
    pub path: Option<Spanned<String>>,
    /// Methods, any of which must match; every method by default.
    #[serde(default)]
    pub methods: Vec<Spanned<String>>,
    /// Header fields that must have exactly these values.
    #[serde(default)]
    pub headers: Entries<String>,
    /// Query parameters that must have exactly these values (percent-decoded).
    #[serde(default)]
    pub query: Entries<String>,
    /// The split that gets the requests. One of split, pool and redirect is needed.
    pub split: Option<Spanned<String>>,
    /// The pool that gets the requests.
    pub pool: Option<Spanned<String>>,
    /// An answer that sends the client elsewhere.
    pub redirect: Option<Spanned<Redirect>>,
    /// From the request's head to the response's end, or "off".
    pub timeout: Option<Spanned<DurationText>>,
    /// From the request's last byte to the response's first, or "off" (default).
    pub first_byte_timeout: Option<Spanned<DurationText>>,
    /// The longest silence of an upstream within its response, or "off" (default).
    pub stream_idle_timeout: Option<Spanned<DurationText>>,
    /// When a failed attempt is repeated.
    pub retries: Option<Spanned<Retries>>,
    /// Edits of the request's header fields.
    pub request_headers: Option<Spanned<HeaderEdits>>,
    /// Edits of the response's header fields.
    pub response_headers: Option<Spanned<HeaderEdits>>,
    /// What replaces the matched prefix of the path.
    pub rewrite: Option<Spanned<Rewrite>>,
    /// Whether `//` in the path counts as `/`; false by default.
    pub merge_slashes: Option<Spanned<bool>>,
    /// The longest request body: bytes, a text such as "10MiB", or "off" (default).
    pub max_body: Option<Spanned<Size>>,
    /// How often requests of one key are taken; over it they are answered with 429. Unlimited by default.
    pub rate_limit: Option<Spanned<RateLimit>>,
    /// Whether a Forwarded field (RFC 7239) is sent upstream; false by default.
    pub forwarded: Option<Spanned<bool>>,
    /// Whether X-Request-Id is sent upstream and answered downstream; false by default.
    pub request_id: Option<Spanned<bool>>,
    /// Protocols that a client may upgrade to; ["websocket"] by default, [] for none.
    pub upgrades: Option<Spanned<Vec<Spanned<String>>>>,
}

/// The parts of the request's URL that a redirect replaces; at least one of scheme, host and path.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Redirect {
    /// 301, 302 (default), 303, 307 or 308.
    pub status: Option<Spanned<u64>>,
    /// "http" or "https"; the request's own by default.
    pub scheme: Option<Spanned<Scheme>>,
    /// The host and, where wanted, the port; the request's own by default.
    pub host: Option<Spanned<String>>,
    /// The whole path (and query, if it holds a `?`); the request's path and query by default.
    pub path: Option<Spanned<String>>,
}

/// The scheme of a URL.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scheme {
    Http,
    Https,
}

/// When a failed attempt is repeated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retries {
    /// Attempts beyond the first, 2 by default; 0 turns retries off.
    pub attempts: Option<Spanned<u64>>,
    /// Retries as a share of the requests, 0.2 by default; at least 10 a second are always allowed.
    pub budget: Option<Spanned<f64>>,
    /// How long an attempt may take to the response's head while another attempt is left, or "off" (default).
    pub per_try_timeout: Option<Spanned<DurationText>>,
    /// How much of a request body is kept for another attempt: bytes or a text such as "64KiB" (default).
    pub max_body: Option<Spanned<Size>>,
    /// Statuses of an answer, 500 to 599, after which an idempotent request is sent again; none by default.
    #[serde(default)]
    pub statuses: Vec<Spanned<u64>>,
    /// Whether requests that are not idempotent are sent again, too, where they may have been processed; false by
    /// default.
    pub non_idempotent: Option<Spanned<bool>>,
}

/// How often requests of one key are taken.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimit {
    /// So many requests, 1 to 1000000, in each `per`.
    #[schemars(required)]
    pub requests: Option<Spanned<u64>>,
    /// 1s by default, at most 24h.
    pub per: Option<Spanned<DurationText>>,
    /// How many requests are taken at once after a pause, 1 to 1000000; as many as `requests` by default.
    pub burst: Option<Spanned<u64>>,
    /// What requests are counted by; the client's address by default, and for requests without the key.
    pub key: Option<Spanned<SplitKey>>,
    /// How many keys are counted at a time, 65536 by default; each takes 16 bytes.
    pub keys: Option<Spanned<u64>>,
}

/// Edits of header fields.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderEdits {
    /// Fields that get this value, whatever they had.
    #[serde(default)]
    pub set: Entries<String>,
    /// Fields that are added to those there are.
    #[serde(default)]
    pub add: Entries<String>,
    /// Names of fields that are dropped.
    #[serde(default)]
    pub remove: Vec<Spanned<String>>,
}

/// What replaces the matched prefix of the path.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rewrite {
    /// The new prefix: "/v2" makes "/shop/cart" of route "/shop" to "/v2/cart"; "/" takes the prefix away.
    #[schemars(required)]
    pub prefix: Option<Spanned<String>>,
}

/// The access log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessLog {
    /// The file; "-" is the standard output.
    #[schemars(required)]
    pub path: Option<Spanned<String>>,
    /// "json" (default), or a template with fields in braces such as "{client} {method} {path} {status}".
    pub format: Option<Spanned<String>>,
    /// The share of requests that is logged, above 0 and at most 1 (default).
    pub sample: Option<Spanned<f64>>,
}

/// How the process stops on SIGTERM.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Shutdown {
    /// How long listeners stay open after readiness has failed.
    pub delay: Option<Spanned<DurationText>>,
    /// How long requests in flight may take after the listeners have closed.
    pub deadline: Option<Spanned<DurationText>>,
}

/// A whole number and a unit: "500ms", "2s", "1m" or "1h".
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct DurationText(#[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h)|off)$"))] pub String);

/// A number of bytes: an integer, a text such as "10MiB", or "off".
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Size {
    /// Bytes.
    Bytes(u64),
    /// A whole number and B, KB, KiB, MB, MiB, GB or GiB; or "off".
    Text(String),
}
