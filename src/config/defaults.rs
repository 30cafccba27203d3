//! Every default and every limit of the file, each with its reason. No other file has a default of its own.

use std::time::Duration;

use super::settings::{Balance, DnsFamily, MinVersion, WhenUnavailable};
use crate::model::slow_start::SlowStart;

// --- listeners

/// With a few KiB for an idle connection, what a small machine carries; well under common limits on open files once
/// raised, and a bound on what a flood of connections can take.
pub const MAX_CONNECTIONS: usize = 100_000;
/// Under the default cap on connections, so that a jam behind us turns into fast refusals before it turns into memory:
/// some 10 KiB each, about half a gigabyte in all.
pub const MAX_REQUESTS: usize = 65_536;
/// A head is a packet or two; a client that takes longer is broken or means harm.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the 60 s after which common load balancers in front close a connection, so that they close first and
/// no request meets a connection that is being closed.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);
/// A silence, not a total: slow uploads go on, stalled ones end.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// As for bodies: a client that takes no byte for so long has gone.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Every browser speaks it, and gRPC needs it.
pub const HTTP2: bool = true;
/// What RFC 9113 6.5.2 recommends at least, and browsers count on.
pub const HTTP2_STREAMS: usize = 100;

/// As long as for a head: a handshake is two packets each way.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// What every client of the last ten years speaks; below it are known attacks.
pub const MIN_TLS_VERSION: MinVersion = MinVersion::V12;
/// What the lists of names that browsers know from the start ask for.
pub const HSTS_MAX_AGE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// More than any browser keeps.
pub const MAX_HSTS_MAX_AGE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

// --- pools

/// The better choice wherever requests or endpoints differ in cost, and no worse where they don't.
pub const BALANCE: Balance = Balance::LeastRequest;
/// One retransmission of the first packet (1 s) still fits in.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Below the 5 s after which Node.js closes an idle connection, the shortest of the common application servers: who
/// closes last sends requests into closed connections.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// For each endpoint and worker: enough for bursts of a busy endpoint, few enough files for many endpoints.
pub const MAX_IDLE: usize = 256;
/// Endpoints of a pool are alike unless the file says otherwise.
pub const ENDPOINT_WEIGHT: u32 = 1;
/// Often enough that a dead endpoint is out within some seconds, seldom enough that a thousand cost little.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// A recovery should be seen at once; this is the time between probes of an endpoint that is down.
pub const HEALTH_DOWN_INTERVAL: Duration = Duration::from_secs(1);
/// A probe that takes longer is as good as failed: so would requests be.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// One success may be chance.
pub const HEALTHY_AFTER: u32 = 2;
/// Two failures may be a lost packet or a pause of the collector.
pub const UNHEALTHY_AFTER: u32 = 3;
/// With less than half of a pool left, its rest would drown in the traffic of the ejected; Envoy's figure.
pub const PANIC_THRESHOLD: f64 = 0.5;
/// Envoy's window and form; used where the file says `slow_start`.
pub const SLOW_START: SlowStart =
    SlowStart { window: Duration::from_secs(30), aggression: 1.0, min_weight: 0.1 };
/// Requests that wait for a connection, where their number is limited: a burst, not a queue.
pub const MAX_PENDING: u32 = 1024;
/// A second's wait is felt; after it, another instance may be the better choice.
pub const PENDING_TIMEOUT: Duration = Duration::from_secs(1);
/// Whoever balances over several instances does better with a 503 at once, which it takes elsewhere. A sidecar, whose only
/// endpoint comes and goes with each restart, waits.
pub const UNAVAILABLE_WAIT: Duration = Duration::ZERO;
/// Bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2018) with a quarter over the even share.
pub const MAX_LOAD: u32 = 125;
/// The limit that finds itself: never under a handful, or it could not measure.
pub const ADAPTIVE_MIN: u32 = 8;
/// Over this, a limit is none.
pub const ADAPTIVE_MAX: u32 = 10_000;
/// Half as slow again as at its best is taken for a queue.
pub const ADAPTIVE_TOLERANCE: f64 = 1.5;
/// As long as the slowest request may take commonly.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(30);
/// Clients of streams connect again at once: spread over minutes, they are no storm.
pub const DRAIN_STREAM_DEADLINE: Duration = Duration::from_secs(300);

// --- splits

/// A release must not fail requests that another version can serve.
pub const WHEN_UNAVAILABLE: WhenUnavailable = WhenUnavailable::PassOn;

// --- routes

/// Every host's whole path.
pub const PATH: &str = "/";
/// What people wait for at most; streams say "off".
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// The first retry meets another endpoint; the second covers a restart of that one. More only multiplies load.
pub const RETRY_ATTEMPTS: u32 = 2;
/// A fifth more load at worst when everything fails.
pub const RETRY_BUDGET: f64 = 0.2;
/// A body of this size is held for another attempt: forms and calls of APIs, not uploads.
pub const RETRY_MAX_BODY: usize = 64 * 1024;
/// Redirects that can be taken back: a permanent one stays in browsers.
pub const REDIRECT_STATUS: u16 = 302;
/// The upgrade that browsers use. `h2c` is never one.
pub const UPGRADES: &[&str] = &["websocket"];

// --- names of endpoints

/// Whoever publishes both means both; a machine without IPv6 says "ipv4".
pub const DNS_FAMILY: DnsFamily = DnsFamily::Any;
/// A time to live of 0 means "ask for each use", which for a proxy is nearly always: one question a second is the bound.
pub const DNS_MIN_TTL: Duration = Duration::from_secs(1);
/// A name that was given a long time to live before it was moved is followed within five minutes all the same.
pub const DNS_MAX_TTL: Duration = Duration::from_secs(300);
/// Three tries of more than a second each: the first may be lost, and a recursive resolver may have to ask far away.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a start waits for the names: for one question and its answer's way into the table, whatever else is slow.
pub const DNS_START_WAIT: Duration = Duration::from_secs(5);

// --- access log

/// Every request: a log with gaps surprises.
pub const SAMPLE: f64 = 1.0;

// --- shutdown

/// A stop on a developer's machine waits for nothing. Behind a load balancer, set it to the time in which its probe
/// sees that readiness has failed.
pub const SHUTDOWN_DELAY: Duration = Duration::ZERO;
/// Under the 30 s after which Kubernetes and systemd kill commonly, so that what is left is cut in order.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(25);

// --- limits

/// The largest file. 100,000 routes of 200 to 400 bytes are 20 to 40 MiB.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// More threads than any machine has cores are a slip of the keyboard.
pub const MAX_WORKERS: u64 = 1024;
/// Listeners: each is a socket in each worker.
pub const MAX_LISTENERS: usize = 1_000;
/// Certificates of a listener: each is read at a start, and looked at again and again.
pub const MAX_CERTIFICATES: usize = 1_000;
/// Subjects and names with a role: whoever has more gives tokens.
pub const MAX_CLIENT_ROLES: usize = 1_000;
/// Files of lists of revocations: one for each authority.
pub const MAX_REVOCATION_LISTS: usize = 100;
/// Pools and splits: each has its series in the metrics.
pub const MAX_POOLS: usize = 20_000;
/// Splits; see [`MAX_POOLS`].
pub const MAX_SPLITS: usize = 20_000;
/// Pools that readiness needs: each is looked at for each answer.
pub const MAX_REQUIRED_POOLS: usize = 1_000;
/// Endpoints of a pool: a draw looks at two, but a table holds them all.
pub const MAX_ENDPOINTS: usize = 10_000;
/// Names of endpoints, over all pools: with the shortest time to live, a few thousand questions a second.
pub const MAX_DNS_NAMES: usize = 1_000;
/// Addresses of one name: far over what a service publishes that is meant to be balanced by its clients.
pub const MAX_DNS_ADDRESSES: usize = 256;
/// Name servers: they are tried one after the other.
pub const MAX_DNS_SERVERS: usize = 8;
/// The lowest `min_ttl`: what name servers on the same machine can take.
pub const DNS_LOWEST_TTL: Duration = Duration::from_millis(10);
/// Routes: twice what the look-up is measured with.
pub const MAX_ROUTES: usize = 200_000;
/// Hosts of a route.
pub const MAX_HOSTS: usize = 1_000;
/// Methods, header matches, query matches and upgrades of a route, each: they are tried one after the other.
pub const MAX_MATCHES: usize = 32;
/// Networks of `trusted_proxies`: they are tried one after the other for each connection.
pub const MAX_TRUSTED_PROXIES: usize = 1_000;
/// Header edits of a route in one direction; a head has at most 100 fields.
pub const MAX_HEADER_EDITS: usize = 100;
/// A path pattern or a header value, in bytes; a request's target may have 8 KiB.
pub const MAX_TEXT_BYTES: usize = 4096;
/// The most attempts of one request after the first.
pub const MAX_RETRY_ATTEMPTS: u64 = 10;
/// The most of a request body that is kept for another attempt: it is held in memory.
pub const MAX_RETRY_BODY: u64 = 16 << 20;
/// The longest streak of successes or failures, and the most requests, that a decision may wait for.
pub const MAX_STREAK: u64 = 1_000_000;
/// A cookie's Path or Domain, in bytes: a browser takes 1024 at most.
pub const MAX_ATTRIBUTE_BYTES: usize = 255;
/// An access log template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 4096;
/// The most connections a listener may be given.
pub const MAX_MAX_CONNECTIONS: u64 = 10_000_000;
/// The most requests in flight that a connection of HTTP/2 may be given: each may hold some 100 KiB.
pub const MAX_HTTP2_STREAMS: u64 = 10_000;
/// The most idle connections to an endpoint for each worker.
pub const MAX_MAX_IDLE: u64 = 65_536;
/// The shortest timeout: under it a sound peer on the same machine would be cut off.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(1);
/// The longest timeout: a longer one is meant as none, and a day bounds what a forgotten connection holds.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest `max_body`: 1 PiB.
pub const MAX_BODY_BYTES: u64 = 1 << 50;

/// Keys of a rate limit that are counted at a time.
pub const RATE_LIMIT_KEYS: usize = 65_536;
/// The most of them: 64 MiB.
pub const MAX_RATE_LIMIT_KEYS: u64 = 4 << 20;
/// The most requests of a rate limit, and the most of them at once.
pub const MAX_RATE_LIMIT: u64 = 1_000_000;
/// The time in which the requests of a rate limit are taken.
pub const RATE_LIMIT_PER: Duration = Duration::from_secs(1);
/// The longest such time.
pub const MAX_RATE_LIMIT_PER: Duration = Duration::from_secs(24 * 3600);
