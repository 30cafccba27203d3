//! Connections to an endpoint, and one worker's idle ones.
//!
//! Invariant: a connection is idle only between requests: its last response was read to the end, and nothing has come
//! on it since. The newest is used first, so that the others grow old and are closed. Every connection holds one of
//! its endpoint's places from before it is opened until after it is closed.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{endpoint::Endpoint, http2, stream::UpstreamStream};

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Connection {
    /// The socket. It is closed before the place is given up, as it stands before it.
    pub stream: UpstreamStream,
    /// Whether it has served a request before: what a failure with no answer then means is uncertain.
    pub reused: bool,
    /// When it is too old for another request; `None` never.
    pub good_until: Option<Instant>,
    /// The epoch of its endpoint's drains that it was opened in; in another it serves no more requests.
    pub epoch: u32,
    /// The number of the way in which it was made; requests that are to go another way don't use it.
    pub way: u64,
    /// Its place among those that its endpoint has; that of a stream is its connection's.
    pub place: Option<Place>,
}

/// One of the places for connections that an endpoint has.
#[derive(Debug)]
pub struct Place(Arc<Endpoint>);

/// The idle ones, the newest last.
#[derive(Debug, Default)]
pub struct IdleConnections {
    /// From the oldest to the newest.
    idle: RefCell<VecDeque<Idle>>,
    /// How many the worker has, to all endpoints.
    of_worker: Rc<Cell<usize>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    expires: Instant,
}

impl Place {
    /// A place, if there is one and nobody has waited for it longer.
    pub fn take(endpoint: &Arc<Endpoint>) -> Option<Self> {
        endpoint.places.take().then(|| Self(Arc::clone(endpoint)))
    }

    /// A place that was granted to somebody who waited for it.
    pub(super) fn granted(endpoint: &Arc<Endpoint>) -> Self {
        Self(Arc::clone(endpoint))
    }
}

impl Connection {
    /// A stream on a connection that carries many.
    pub fn of_stream(stream: http2::Stream) -> Self {
        let ((way, epoch), reused) = (stream.origin(), stream.was_idle());
        let stream = UpstreamStream::Http2(Box::new(stream));
        Self { stream, reused, good_until: None, epoch, way, place: None }
    }

    /// Whether nothing has come on it between requests.
    #[inline]
    pub fn is_quiet(&mut self) -> bool {
        self.stream.is_quiet()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.give_up();
    }
}

impl IdleConnections {
    /// None, of a worker that counts them all in `of_worker`.
    pub fn new(of_worker: Rc<Cell<usize>>) -> Self {
        Self { idle: RefCell::default(), of_worker }
    }

    /// The newest connection that is still good. Newer ones that were made in another way are closed.
    #[inline]
    pub fn take(&self, now: Instant, way: u64) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut newest) = idle.pop_back() {
            self.of_worker.set(self.of_worker.get() - 1);
            if newest.connection.way == way && newest.expires > now && newest.connection.is_quiet() {
                return Some(Connection { reused: true, ..newest.connection });
            }
        }
        None
    }

    /// Keeps a connection for `time`, unless `most` are kept already.
    #[inline]
    pub fn give(&self, mut connection: Connection, now: Instant, time: Duration, most: usize) {
        let mut idle = self.idle.borrow_mut();
        let expires = now + time;
        let expires = connection.good_until.map_or(expires, |good_until| good_until.min(expires));
        if idle.len() < most && expires > now && connection.is_quiet() {
            idle.push_back(Idle { connection, expires });
            self.of_worker.set(self.of_worker.get() + 1);
        }
    }

    /// Closes every one.
    #[cold]
    pub fn clear(&self) {
        let mut idle = self.idle.borrow_mut();
        self.of_worker.set(self.of_worker.get() - idle.len());
        idle.clear();
    }

    /// Closes the one that has been idle longest; answers whether there was one.
    pub fn close_oldest(&self) -> bool {
        self.shed(1) == 1
    }

    /// Closes those that are too old or that the endpoint has closed; with `all`, every one.
    pub fn sweep(&self, now: Instant, all: bool) {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain_mut(|idle| !all && idle.expires > now && idle.connection.is_quiet());
        self.of_worker.set(self.of_worker.get() - (before - idle.len()));
    }

    /// Closes the oldest, up to this many; answers how many that were.
    pub fn shed(&self, most: usize) -> usize {
        let mut idle = self.idle.borrow_mut();
        let count = most.min(idle.len());
        idle.drain(..count);
        self.of_worker.set(self.of_worker.get() - count);
        count
    }
}
