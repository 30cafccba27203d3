//! The registry of all series: who counts what, and the sums over the workers.
//!
//! A series is declared when a table that has it is built, and keeps its [`Slot`] for the life of the process, so
//! that its counts outlive the table. A worker takes its own [`Traffic`] of a slot on the first request that needs
//! it; from then on it holds the handle. Endpoints come and go: theirs have no slot, whoever needs them holds them
//! ([`super::endpoints`]).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{
    counter::Counter,
    endpoints::{EndpointSeries, Endpoints},
    pins::{PinCounts, PinTotals},
    traffic::{ConnectionCounts, Traffic, TrafficCounts},
};
use crate::model::name::Name;

/// What a series is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The requests of a route.
    Route(Name),
    /// The requests that a split (first) sent to a pool (second).
    Split(Name, Name),
    /// The requests of a pool.
    Pool(Name),
    /// The requests of an endpoint of a pool.
    Endpoint(Name, SocketAddr),
}

/// A series' place in the registry: small, dense, never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

/// Counts of one worker that belong to no series.
#[derive(Debug, Default)]
pub struct WorkerCounts {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections open now.
    pub connections: Counter,
    /// Requests refused before they had a route: malformed, too large, too slow or too many.
    pub refused: Counter,
    /// Requests that no route took.
    pub unrouted: Counter,
    /// Requests that a rate limit took uncounted, as it had no place for their key.
    pub rate_limit_uncounted: Counter,
    /// Records that the access log dropped because its queue was full.
    pub log_dropped: Counter,
    /// The generation of the routing table that this worker used last.
    pub generation: Counter,
    /// Connections that have turned out to be of HTTP/2, and those of them that are open now.
    pub http2_connections: Counter,
    #[expect(missing_docs, reason = "said above")]
    pub http2_connections_open: Counter,
    /// Streams that were taken on them, and those of them that are open now.
    pub http2_streams: Counter,
    #[expect(missing_docs, reason = "said above")]
    pub http2_streams_open: Counter,
    /// Streams that clients have reset.
    pub http2_resets_received: Counter,
    /// Streams that were reset here.
    pub http2_resets_sent: Counter,
    /// Connections of HTTP/2 that were ended here, by the cause.
    pub http2_goaways: [Counter; GoAway::ALL.len()],
    /// TLS handshakes, by what came of them.
    pub handshakes: [Counter; HandshakeResult::ALL.len()],
    /// What drains have cut, in the order of [`CUT_KINDS`].
    pub drain_cut: [Counter; CUT_KINDS.len()],
}

/// Why a connection of HTTP/2 is ended from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoAway {
    /// The process stops or was replaced, or the listener is no more.
    Leaving,
    /// No request has come for long.
    Idle,
    /// The client has sent more frames, resets or fields than any sound one does.
    Flood,
    /// The client took too long to send a block of fields, or took no byte for too long.
    Slow,
    /// What the client sent is no HTTP/2.
    Malformed,
}

impl GoAway {
    /// All, in their order.
    pub const ALL: [Self; 5] = [Self::Leaving, Self::Idle, Self::Flood, Self::Slow, Self::Malformed];

    /// The name that metrics have for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leaving => "leaving",
            Self::Idle => "idle",
            Self::Flood => "flood",
            Self::Slow => "slow",
            Self::Malformed => "malformed",
        }
    }
}

/// What came of a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeResult {
    /// Requests could come.
    Done,
    /// It took too long.
    TimedOut,
    /// The client went away.
    Gone,
    /// The client ended it with an alert.
    RefusedByClient,
    /// There is no version, cipher suite or signature that both sides know.
    Incompatible,
    /// The client has shown no certificate where one is required.
    NoCertificate,
    /// The client's certificate does not count.
    BadCertificate,
    /// The client asked for other protocols (ALPN).
    NoProtocol,
    /// The client spoke plain HTTP.
    PlainHttp,
    /// What came was no TLS, or wrong.
    Malformed,
}

impl HandshakeResult {
    /// All, in their order.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::TimedOut,
        Self::Gone,
        Self::RefusedByClient,
        Self::Incompatible,
        Self::NoCertificate,
        Self::BadCertificate,
        Self::NoProtocol,
        Self::PlainHttp,
        Self::Malformed,
    ];

    /// The name that metrics have for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::TimedOut => "timed_out",
            Self::Gone => "gone",
            Self::RefusedByClient => "refused_by_client",
            Self::Incompatible => "incompatible",
            Self::NoCertificate => "no_certificate",
            Self::BadCertificate => "bad_certificate",
            Self::NoProtocol => "no_protocol",
            Self::PlainHttp => "plain_http",
            Self::Malformed => "malformed",
        }
    }
}

/// What a drain cuts, by the names that metrics have for it.
pub const CUT_KINDS: [&str; 3] = ["request", "tunnel", "event_stream"];

/// All series of the process.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
    /// Lines that the access log took from its queue and could not write; its writer counts them.
    pub log_lost: Arc<Counter>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: BTreeMap<Key, Slot>,
    endpoints: Endpoints,
    /// By slot: each worker's counts.
    series: Vec<Vec<Arc<Traffic>>>,
    /// Of sticky splits alone: each worker's counts of pins.
    pins: BTreeMap<Slot, Vec<Arc<PinCounts>>>,
    workers: Vec<Arc<WorkerCounts>>,
}

impl Slot {
    /// An index into a vector that is as long as the registry.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Registry {
    /// The slot of a series, new if it has none. A declared series is shown with zeros from then on. Endpoints have
    /// none: see [`Self::endpoint`].
    pub fn declare(&self, key: &Key) -> Slot {
        debug_assert!(!matches!(key, Key::Endpoint(..)), "endpoints have no slots");
        let mut inner = self.lock();
        if let Some(slot) = inner.slots.get(key) {
            return *slot;
        }
        let slot = Slot(u32::try_from(inner.series.len()).expect("a table's size is limited far under 2^32"));
        inner.slots.insert(key.clone(), slot);
        inner.series.push(Vec::new());
        slot
    }

    /// Fresh counts of a series for one worker to write.
    pub fn traffic(&self, slot: Slot) -> Arc<Traffic> {
        let traffic = Arc::new(Traffic::default());
        self.lock().series[slot.index()].push(Arc::clone(&traffic));
        traffic
    }

    /// Fresh counts of the pins of a series for one worker to write.
    pub fn pins(&self, slot: Slot) -> Arc<PinCounts> {
        let pins = Arc::new(PinCounts::default());
        self.lock().pins.entry(slot).or_default().push(Arc::clone(&pins));
        pins
    }

    /// The sum of a series' pins over all workers; zeros if it has none.
    pub fn pin_counts(&self, key: &Key) -> PinTotals {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // The sketches take a while to read: no worker that wants a handle meanwhile shall wait for it.
        let workers = {
            let inner = self.lock();
            inner.slots.get(key).and_then(|slot| inner.pins.get(slot)).cloned().unwrap_or_default()
        };
        PinTotals::of(workers.iter().map(Arc::as_ref), since_1970.as_secs())
    }

    /// Fresh counts of a worker for it to write.
    pub fn worker(&self) -> Arc<WorkerCounts> {
        let counts = Arc::new(WorkerCounts::default());
        self.lock().workers.push(Arc::clone(&counts));
        counts
    }

    /// The counts of an endpoint, new if it has none. They are shown, with zeros at first, until it is retired.
    pub fn endpoint(&self, pool: &Name, address: SocketAddr) -> Arc<EndpointSeries> {
        self.lock().endpoints.declare(pool, address)
    }

    /// Shows an endpoint no more, and keeps what it counted in its pool's totals. Nobody may count anything of it from
    /// now on.
    pub fn retire_endpoint(&self, pool: &Name, address: SocketAddr) {
        self.lock().endpoints.retire(pool, address);
    }

    /// How many endpoints are shown.
    pub fn endpoints(&self) -> usize {
        self.lock().endpoints.shown()
    }

    /// How many endpoints were retired.
    pub fn endpoints_retired(&self) -> u64 {
        self.lock().endpoints.retired()
    }

    /// The connections of each pool, to all endpoints that it has ever had, in order.
    pub fn connections(&self) -> Vec<(Name, ConnectionCounts)> {
        self.lock().endpoints.connections()
    }

    /// The sum of a series over all workers; zeros if there is none.
    pub fn counts(&self, key: &Key) -> TrafficCounts {
        let inner = self.lock();
        if let Key::Endpoint(pool, address) = key {
            let series = inner.endpoints.find(pool, *address);
            drop(inner);
            return series.map(|series| series.counts()).unwrap_or_default();
        }
        inner.slots.get(key).map(|slot| sum(&inner.series[slot.index()])).unwrap_or_default()
    }

    /// All keys, in order. Their counts can be many megabytes, so whoever needs a part takes it by [`Self::counts`].
    pub fn keys(&self) -> Vec<Key> {
        let inner = self.lock();
        let endpoints = inner.endpoints.iter().map(|(pool, address)| Key::Endpoint(pool.clone(), address));
        inner.slots.keys().cloned().chain(endpoints).collect()
    }

    /// Every worker's own counts.
    pub fn workers(&self) -> Vec<Arc<WorkerCounts>> {
        self.lock().workers.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held can't leave it half changed: each change is one insertion.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sum(series: &[Arc<Traffic>]) -> TrafficCounts {
    let mut counts = TrafficCounts::default();
    for traffic in series {
        traffic.add_to(&mut counts);
    }
    counts
}

/// One worker's handles, by slot.
#[derive(Debug)]
pub struct LocalSeries {
    registry: Arc<Registry>,
    handles: Vec<Option<Arc<Traffic>>>,
    pins: Vec<Option<Arc<PinCounts>>>,
}

impl LocalSeries {
    /// Handles for one worker; none is taken yet.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, handles: Vec::new(), pins: Vec::new() }
    }

    /// This worker's counts of a series.
    #[inline]
    pub fn of(&mut self, slot: Slot) -> &Arc<Traffic> {
        if self.handles.get(slot.index()).is_none_or(Option::is_none) {
            self.take(slot);
        }
        self.handles[slot.index()].as_ref().expect("taken above")
    }

    /// This worker's counts of the pins of a series.
    #[inline]
    pub fn pins(&mut self, slot: Slot) -> &PinCounts {
        let index = slot.index();
        if self.pins.get(index).is_none_or(Option::is_none) {
            if self.pins.len() <= index {
                self.pins.resize(index + 1, None);
            }
            self.pins[index] = Some(self.registry.pins(slot));
        }
        self.pins[index].as_ref().expect("taken above")
    }

    #[cold]
    fn take(&mut self, slot: Slot) {
        if self.handles.len() <= slot.index() {
            self.handles.resize(slot.index() + 1, None);
        }
        self.handles[slot.index()] = Some(self.registry.traffic(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_keeps_its_slot_and_adds_its_workers_up() {
        let registry = Arc::new(Registry::default());
        let key = Key::Route(Name::new("shop").unwrap());
        let slot = registry.declare(&key);
        assert_eq!(registry.declare(&key), slot);
        assert_eq!(registry.counts(&key), TrafficCounts::default());
        for _ in 0..2 {
            let mut worker = LocalSeries::new(Arc::clone(&registry));
            for _ in 0..3 {
                worker.of(slot).by_class[1].add(1);
            }
        }
        assert_eq!(registry.counts(&key).requests(), 6);
        assert_eq!(registry.keys(), [key]);
    }

    #[test]
    fn a_retired_endpoint_is_shown_no_more_and_stays_in_the_totals() {
        let registry = Registry::default();
        let (pool, address) = (Name::new("blue").unwrap(), SocketAddr::from(([127, 0, 0, 1], 1)));
        let key = Key::Endpoint(pool.clone(), address);
        for round in 1..=3 {
            let series = registry.endpoint(&pool, address);
            assert_eq!(registry.counts(&key), TrafficCounts::default(), "it is a new one");
            for _worker in 0..2 {
                let traffic = series.traffic();
                traffic.connects.add(3);
                traffic.reuses.add(1);
                traffic.by_class[1].add(4);
            }
            assert_eq!((registry.counts(&key).requests(), registry.endpoints()), (8, 1));
            let total = |registry: &Registry| registry.connections()[0].1;
            let before = total(&registry);
            assert_eq!((before.connects, before.reuses), (6 * round, 2 * round));
            for _ in 0..2 {
                registry.retire_endpoint(&pool, address);
                assert_eq!(total(&registry), before, "nothing is lost, and nothing counted twice");
            }
            assert_eq!((registry.keys(), registry.endpoints_retired()), (vec![], round));
        }
    }
}
