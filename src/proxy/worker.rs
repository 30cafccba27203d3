//! What the tasks of a worker share.
//!
//! Invariant: none of it is ever seen by another thread, but what says so; and what is borrowed from it is borrowed for a
//! synchronous act, never over a wait.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use super::{
    budget::{Budget, Reserve},
    buffers::Buffers,
    clock::{self, DateValue},
    deadline::Deadlines,
    handshake::Turns,
    replay::KeptBytes,
    requests::Requests,
};
use crate::{
    routing::{
        live::{Live, Reader},
        select::Chooser,
    },
    telemetry::{
        access_log,
        registry::{LocalSeries, Registry, WorkerCounts},
    },
    upstream::{
        drain::{Kind, Marks},
        local::{LocalEndpoint, Upstreams},
    },
    wire::{request::RequestHead, response::ResponseHead},
};

/// What one read takes from a socket at most.
const SCRATCH: usize = 64 << 10;

/// Where the data plane stands on its way from start to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Takes connections and requests.
    Serving,
    /// Still takes connections, but asks each client, with its next response, to connect anew elsewhere.
    Leaving,
    /// A successor takes the connections. Each client is asked to connect anew with its next response; an idle connection
    /// stays until then, as its client may be sending a request in this very moment.
    HandedOver,
    /// Takes no more connections; requests in flight end, idle connections are closed.
    Draining,
    /// Ends at once.
    Stopped,
}

/// What the tasks of a worker share. None of it is ever seen by another thread, but what says so.
#[derive(Debug)]
pub(super) struct Worker {
    /// What sockets are read into. Borrowed for a synchronous act only, never over a wait.
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// The request head that is being read. Borrowed as the scratch is.
    pub(super) request: RefCell<RequestHead>,
    /// The response head that is being read. Borrowed as the scratch is.
    pub(super) response: RefCell<ResponseHead>,
    pub(super) buffers: Buffers,
    pub(super) requests: Requests,
    pub(super) kept_bytes: KeptBytes,
    pub(super) deadlines: Rc<Deadlines>,
    /// The share of the loop that handshakes have.
    pub(super) handshakes: Turns,
    pub(super) routing: RefCell<Routing>,
    pub(super) counts: Arc<WorkerCounts>,
    pub(super) date: RefCell<DateValue>,
    pub(super) phase: Cell<Phase>,
    /// When each stream's turn comes if its endpoint drains.
    pub(super) marks: RefCell<Marks>,
    /// Idle upstream connections that are kept even with few clients.
    idle_floor: usize,
    log: RefCell<Option<AccessLog>>,
}

/// What a worker decides requests with.
#[derive(Debug)]
pub(super) struct Routing {
    pub(super) reader: Reader,
    pub(super) chooser: Chooser,
    pub(super) upstreams: Upstreams,
    pub(super) series: LocalSeries,
    pub(super) budget: Budget,
    /// For request ids and the log's sample.
    pub(super) rng: fastrand::Rng,
}

/// The access log, as a worker reaches it.
#[derive(Debug)]
pub(super) struct AccessLog {
    pub(super) sender: access_log::Sender,
    pub(super) sample: f64,
}

impl Worker {
    pub(super) fn new(
        live: &Live,
        series: Arc<Registry>,
        upstreams: Upstreams,
        reserve: Arc<Reserve>,
        log: Option<AccessLog>,
        idle_floor: usize,
    ) -> Self {
        let counts = series.worker();
        Self {
            scratch: RefCell::new(vec![0; SCRATCH].into()),
            request: RefCell::default(),
            response: RefCell::default(),
            buffers: Buffers::default(),
            requests: Requests::default(),
            kept_bytes: KeptBytes::default(),
            deadlines: Rc::default(),
            handshakes: Turns::default(),
            routing: RefCell::new(Routing {
                reader: live.reader(),
                chooser: Chooser::new(fastrand::u64(..)),
                upstreams,
                series: LocalSeries::new(series),
                budget: Budget::new(reserve, clock::now()),
                rng: fastrand::Rng::new(),
            }),
            counts,
            date: RefCell::new(DateValue::new()),
            phase: Cell::new(Phase::Serving),
            marks: RefCell::new(Marks::new(fastrand::u32(..))),
            idle_floor,
            log: RefCell::new(log),
        }
    }

    /// Whether clients are asked to go.
    #[inline]
    pub(super) fn is_leaving(&self) -> bool {
        self.phase.get() != Phase::Serving
    }

    /// Whether the process stops. After a hand-over it does not yet: its requests have until the deadline.
    pub(super) fn is_ending(&self) -> bool {
        !matches!(self.phase.get(), Phase::Serving | Phase::HandedOver)
    }

    /// Counts what a drain has cut.
    pub(super) fn count_cut(&self, endpoint: &LocalEndpoint, kind: Kind) {
        endpoint.drain.count_cut(kind);
        self.counts.drain_cut[kind as usize].add(1);
    }

    /// Closes idle upstream connections until they and the requests in flight, each of which has one, are no more than the
    /// clients' connections, or than the worker's share of idle ones. So the upstream side has its part of the descriptors,
    /// and never takes the other's.
    pub(super) fn make_room(&self) {
        let routing = self.routing.borrow();
        // A stream of HTTP/2 may need a connection of its own as a client does.
        let clients = self.counts.connections.value() + self.counts.http2_streams_open.value();
        let clients = usize::try_from(clients).unwrap_or(usize::MAX);
        let used = routing.upstreams.idle() + self.requests.in_flight();
        let over = used.saturating_sub(clients.max(self.idle_floor));
        if over > 0 {
            routing.upstreams.shed(over);
        }
    }

    /// Whether the next request is one of the access log's sample.
    #[inline]
    pub(super) fn is_logged(&self) -> bool {
        let sampled = |log: &AccessLog| log.sample >= 1.0 || self.routing.borrow_mut().rng.f64() < log.sample;
        self.log.borrow().as_ref().is_some_and(sampled)
    }

    /// Logs to another log from now on, or to none.
    pub(super) fn log_to(&self, log: Option<AccessLog>) {
        self.log.replace(log);
    }

    /// Hands a record to the access log, or drops and counts it if the log's queue is full.
    pub(super) fn log(&self, record: Box<access_log::Record>) {
        if let Some(log) = &*self.log.borrow()
            && !log.sender.try_send(*record)
        {
            self.counts.log_dropped.add(1);
        }
    }
}
