//! One worker's idle connections to one endpoint.
//!
//! Invariant: a connection is here only between requests: its last response was read to the end, and nothing has come
//! on it since. The newest is used first, so that the others grow old and are closed.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: TcpStream,
    /// Whether it has served a request before: what a failure with no answer then means is uncertain.
    pub reused: bool,
}

/// The idle ones.
#[derive(Debug, Default)]
pub struct IdleConnections {
    /// From the oldest to the newest.
    idle: RefCell<Vec<Idle>>,
    /// How many the worker has, to all endpoints.
    of_worker: Rc<Cell<usize>>,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    expires: Instant,
}

impl IdleConnections {
    /// None, of a worker that counts them all in `of_worker`.
    pub fn new(of_worker: Rc<Cell<usize>>) -> Self {
        Self { idle: RefCell::default(), of_worker }
    }

    /// The newest connection that is still good.
    #[inline]
    pub fn take(&self, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(newest) = idle.pop() {
            self.of_worker.set(self.of_worker.get() - 1);
            if newest.expires > now && is_quiet(&newest.stream) {
                return Some(Connection { stream: newest.stream, reused: true });
            }
        }
        None
    }

    /// Keeps a connection for `time`, unless `most` are kept already.
    #[inline]
    pub fn give(&self, stream: TcpStream, now: Instant, time: Duration, most: usize) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < most && is_quiet(&stream) {
            idle.push(Idle { stream, expires: now + time });
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

    /// Closes those that are too old or that the endpoint has closed; with `all`, every one.
    pub fn sweep(&self, now: Instant, all: bool) {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain(|idle| !all && idle.expires > now && is_quiet(&idle.stream));
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

/// Whether nothing has come on an idle connection: neither its end nor bytes that nobody asked for. The runtime's
/// readiness answers it without a system call, unless something has come.
#[inline]
fn is_quiet(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
