//! One worker's side of the endpoints: its handle of each, with its own counts, and the lease on one.

use std::{cell::Cell, ops::Deref, rc::Rc, sync::Arc, time::Instant};

use super::{connections::IdleConnections, endpoint::Endpoint};
use crate::telemetry::{registry::LocalSeries, traffic::Traffic};

/// A worker's handles of the endpoints that it has used. Nothing in it is shared with another thread.
#[derive(Debug, Default)]
pub struct Upstreams {
    handles: Vec<Option<Rc<LocalEndpoint>>>,
    /// Idle connections to all of them.
    idle: Rc<Cell<usize>>,
}

/// A worker's handle of one endpoint.
#[derive(Debug)]
pub struct LocalEndpoint {
    shared: Arc<Endpoint>,
    /// This worker's counts of the endpoint.
    pub traffic: Arc<Traffic>,
    /// This worker's idle connections to it.
    pub idle: IdleConnections,
}

/// The claim that a request holds on an endpoint until its response has ended.
#[derive(Debug)]
pub struct Lease(Rc<LocalEndpoint>);

impl Upstreams {
    /// This worker's handle of an endpoint.
    #[inline]
    pub fn local(&mut self, endpoint: &Arc<Endpoint>, series: &mut LocalSeries) -> Rc<LocalEndpoint> {
        let index = endpoint.id.index();
        if self.handles.get(index).is_none_or(Option::is_none) {
            if self.handles.len() <= index {
                self.handles.resize(index + 1, None);
            }
            let traffic = Arc::clone(series.of(endpoint.slot));
            self.handles[index] = Some(Rc::new(LocalEndpoint {
                shared: Arc::clone(endpoint),
                traffic,
                idle: IdleConnections::new(Rc::clone(&self.idle)),
            }));
        }
        Rc::clone(self.handles[index].as_ref().expect("made above"))
    }

    /// Claims an endpoint for one request; `None` if it is draining.
    #[inline]
    pub fn claim(&mut self, endpoint: &Arc<Endpoint>, series: &mut LocalSeries) -> Option<Lease> {
        endpoint.occupancy.claim().then(|| {
            let local = self.local(endpoint, series);
            local.traffic.in_flight.add(1);
            Lease(local)
        })
    }

    /// How many idle connections there are, to all endpoints.
    #[inline]
    pub fn idle(&self) -> usize {
        self.idle.get()
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

    /// Closes idle connections that are too old, that the other side has closed, or whose endpoint is draining.
    pub fn sweep(&self, now: Instant) {
        for endpoint in self.handles.iter().flatten() {
            endpoint.idle.sweep(now, endpoint.occupancy.is_draining());
        }
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
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.traffic.in_flight.subtract(1);
        self.0.occupancy.release();
    }
}
