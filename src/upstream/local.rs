//! One worker's side of the endpoints: its handle of each, with its own counts, and the lease on one.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    ops::Deref,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    connections::IdleConnections,
    endpoint::{Endpoint, EndpointId},
    http2::Carriers,
    occupancy::Claim,
    pleas::Pleas,
    waiting::Waiter,
};
use crate::telemetry::traffic::Traffic;

/// How often a worker tells of an endpoint with which no TLS can be spoken.
const TELLS_EVERY: Duration = Duration::from_secs(10);

/// A worker's handles of the endpoints that it has used. Nothing in it is shared with another thread.
#[derive(Debug, Default)]
pub struct Upstreams {
    handles: Vec<Option<Rc<LocalEndpoint>>>,
    pleas: Arc<Pleas>,
    /// Which worker this is.
    worker: usize,
    /// Idle connections to all of them.
    idle: Rc<Cell<usize>>,
    /// Connections of HTTP/2 to all of them.
    carriers: Rc<Cell<usize>>,
}

/// A worker's handle of one endpoint.
#[derive(Debug)]
pub struct LocalEndpoint {
    shared: Arc<Endpoint>,
    /// This worker's counts of the endpoint.
    pub traffic: Arc<Traffic>,
    idle: IdleConnections,
    /// Those that carry many requests.
    carriers: Carriers,
    /// How many of those the worker has, to all endpoints.
    count: Rc<Cell<usize>>,
    /// Whether it has chosen HTTP/1.1 when it was asked last.
    prefers_http1: Cell<bool>,
    /// The epoch of drains that `idle` is of.
    epoch: Cell<u32>,
    /// The epoch of the newest drain whose beginning this worker has seen in a sweep.
    swept: Cell<Option<u32>>,
    /// This worker's requests that wait for a connection to it, in the order in which they came.
    pub(super) waiters: RefCell<VecDeque<Waiter>>,
    /// When it was last told that no TLS can be spoken with it.
    told: Cell<Option<Instant>>,
    /// How often in a row a connection went to one of them while those of other workers waited.
    pub(super) turns: Cell<u32>,
}

/// The claim that a request holds on an endpoint until its response has ended.
#[derive(Debug)]
pub struct Lease {
    endpoint: Rc<LocalEndpoint>,
    /// Whether it was let in at the pool's gate, and has to be let out.
    is_gated: bool,
}

impl Upstreams {
    /// A worker's, which asks the others and is asked by them.
    pub fn new(pleas: Arc<Pleas>, worker: usize) -> Self {
        Self { handles: Vec::new(), pleas, worker, idle: Rc::default(), carriers: Rc::default() }
    }

    /// This worker's handle of an endpoint. It is found by the endpoint's number, which is nobody else's as long as the
    /// handle holds the endpoint.
    #[inline]
    pub fn local(&mut self, endpoint: &Arc<Endpoint>) -> Rc<LocalEndpoint> {
        let index = endpoint.id.index();
        if self.handles.get(index).is_none_or(Option::is_none) {
            if self.handles.len() <= index {
                self.handles.resize(index + 1, None);
            }
            self.handles[index] = Some(Rc::new(LocalEndpoint {
                shared: Arc::clone(endpoint),
                traffic: endpoint.series.traffic(),
                idle: IdleConnections::new(Rc::clone(&self.idle)),
                carriers: Carriers::default(),
                count: Rc::clone(&self.carriers),
                prefers_http1: Cell::new(false),
                epoch: Cell::new(endpoint.drain.epoch()),
                swept: Cell::new(None),
                waiters: RefCell::default(),
                told: Cell::default(),
                turns: Cell::new(0),
            }));
        }
        Rc::clone(self.handles[index].as_ref().expect("made above"))
    }

    /// Claims an endpoint for one request, unless it is draining or has `most` requests already.
    #[inline]
    pub fn claim(&mut self, endpoint: &Arc<Endpoint>, most: u64) -> Result<Lease, Claim> {
        match endpoint.occupancy.claim(most) {
            Claim::Granted => {
                let local = self.local(endpoint);
                local.traffic.in_flight.add(1);
                Ok(Lease { endpoint: local, is_gated: false })
            }
            refused => Err(refused),
        }
    }

    /// How many idle connections there are, to all endpoints.
    #[inline]
    pub fn idle(&self) -> usize {
        self.idle.get()
    }

    /// How many connections of HTTP/2 there are, to all endpoints.
    pub fn carriers(&self) -> usize {
        self.carriers.get()
    }

    /// Has all connections of HTTP/2 end when their streams have.
    pub fn leave(&self) {
        let now = Instant::now();
        for endpoint in self.handles.iter().flatten() {
            endpoint.carriers.sweep(now, endpoint.drain.epoch(), true);
        }
    }

    /// Closes this many idle connections, the oldest of an endpoint first.
    #[cold]
    pub fn shed(&self, mut count: usize) {
        for endpoint in self.handles.iter().flatten() {
            if count == 0 {
                return;
            }
            count -= endpoint.idle.shed(count);
        }
    }

    /// Closes idle connections that are too old, that the other side has closed, or whose endpoint is draining, and lets
    /// go of endpoints that were retired. Answers whether an endpoint has begun to drain since the last sweep, be it
    /// anew, so that its requests and streams are to look.
    pub fn sweep(&mut self, now: Instant) -> bool {
        let mut began = false;
        for handle in &mut self.handles {
            let Some(endpoint) = handle else { continue };
            if endpoint.is_retired() {
                *handle = None;
                continue;
            }
            let is_draining = endpoint.occupancy.is_draining();
            endpoint.idle().sweep(now, is_draining);
            endpoint.carriers.sweep(now, endpoint.drain.epoch(), is_draining);
            if is_draining {
                // Read behind the bit, so that it is not older than the drain that has set it.
                let epoch = Some(endpoint.drain.epoch());
                began |= endpoint.swept.replace(epoch) != epoch;
            }
        }
        began
    }

    /// Asks the other workers to give up an idle connection to an endpoint.
    pub(super) fn plead(&self, endpoint: EndpointId) {
        self.pleas.ask(self.worker, endpoint);
    }

    /// Gives up idle connections that other workers have asked for, as many as requests wait for them.
    pub fn answer_pleas(&self) {
        for asked in self.pleas.taken(self.worker) {
            if let Some(endpoint) = self.handles.get(asked.index()).and_then(Option::as_ref) {
                while endpoint.places.waiting() > 0 && endpoint.idle().close_oldest() {}
                if endpoint.places.waiting() > 0 {
                    endpoint.carriers.give_way();
                }
            }
        }
    }
}

impl LocalEndpoint {
    /// This worker's idle connections to it; none from before a drain. What listens there may be another process by now,
    /// and that a connection has ended may not have come to this thread's attention yet.
    #[inline]
    pub fn idle(&self) -> &IdleConnections {
        self.idle_of(self.drain.epoch())
    }

    /// The same in an epoch that was read already: what is decided by one reading holds for the other, too.
    #[inline]
    pub(super) fn idle_of(&self, epoch: u32) -> &IdleConnections {
        if self.epoch.replace(epoch) != epoch {
            self.idle.clear();
        }
        &self.idle
    }

    /// This worker's connections to it that carry many requests.
    #[inline]
    pub fn carriers(&self) -> &Carriers {
        &self.carriers
    }

    /// How many of those this worker has, to all endpoints.
    pub fn count(&self) -> &Rc<Cell<usize>> {
        &self.count
    }

    /// Whether it has chosen HTTP/1.1 when it was asked last.
    pub fn prefers_http1(&self) -> bool {
        self.prefers_http1.get()
    }

    /// Notes what it has chosen.
    pub fn prefer_http1(&self, prefers: bool) {
        self.prefers_http1.set(prefers);
    }

    /// Whether it is time to tell again that no TLS can be spoken with it: however many requests find out, the log is to
    /// stay readable.
    pub fn is_to_tell(&self, now: Instant) -> bool {
        let is_time = self.told.get().is_none_or(|told| told + TELLS_EVERY <= now);
        if is_time {
            self.told.set(Some(now));
        }
        is_time
    }

    /// What all workers share of it.
    pub fn shared(&self) -> &Arc<Endpoint> {
        &self.shared
    }
}

impl Lease {
    /// It holds a permit of the pool's gate from now on.
    pub fn gated(mut self) -> Self {
        self.is_gated = true;
        self
    }

    /// Whether it holds a permit of the pool's gate.
    pub(super) fn is_gated(&self) -> bool {
        self.is_gated
    }
}

impl Deref for LocalEndpoint {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.shared
    }
}

impl Deref for Lease {
    type Target = Rc<LocalEndpoint>;

    fn deref(&self) -> &Rc<LocalEndpoint> {
        &self.endpoint
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.traffic.in_flight.subtract(1);
        self.endpoint.occupancy.release();
        if self.is_gated {
            self.endpoint.state.gate.leave();
        }
        self.endpoint.offer();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::name::Name, telemetry::registry::Registry as Series, upstream::registry::Registry};

    fn endpoint(upstreams: &mut Upstreams) -> Rc<LocalEndpoint> {
        let name = Name::new("app").expect("a name");
        let address = "127.0.0.1:80".parse().expect("an address");
        let endpoint = Registry::default().endpoint(&name, address, false, &Series::default());
        upstreams.local(&endpoint)
    }

    #[test]
    fn each_drain_is_seen_once_also_one_that_is_begun_again_between_two_sweeps() {
        let mut upstreams = Upstreams::default();
        let endpoint = endpoint(&mut upstreams);
        let drain = || {
            endpoint.drain.begin();
            endpoint.occupancy.drain();
        };
        let undrain = || {
            endpoint.drain.end();
            endpoint.occupancy.undrain();
        };
        let now = Instant::now();
        assert!(!upstreams.sweep(now));
        drain();
        assert_eq!([upstreams.sweep(now), upstreams.sweep(now)], [true, false]);
        undrain();
        drain();
        assert_eq!([upstreams.sweep(now), upstreams.sweep(now)], [true, false]);
        undrain();
        assert!(!upstreams.sweep(now));
        drain();
        assert!(upstreams.sweep(now));
    }
}
