//! One worker's idle connections to one endpoint.
//!
//! Invariant: a connection is here only between requests: its last response was read to the end, and nothing has come
//! on it since. The newest is used first, so that the others grow old and are closed.

use std::{
    cell::RefCell,
    io,
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
pub struct IdleConnections(RefCell<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    expires: Instant,
}

impl IdleConnections {
    /// The newest connection that is still good.
    #[inline]
    pub fn take(&self, now: Instant) -> Option<Connection> {
        let mut idle = self.0.borrow_mut();
        while let Some(newest) = idle.pop() {
            if newest.expires > now && is_quiet(&newest.stream) {
                return Some(Connection { stream: newest.stream, reused: true });
            }
        }
        None
    }

    /// Keeps a connection for `time`, unless `most` are kept already.
    #[inline]
    pub fn give(&self, stream: TcpStream, now: Instant, time: Duration, most: usize) {
        let mut idle = self.0.borrow_mut();
        if idle.len() < most && is_quiet(&stream) {
            idle.push(Idle { stream, expires: now + time });
        }
    }

    /// Closes every one.
    #[cold]
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Closes those that are too old or that the endpoint has closed; with `all`, every one.
    pub fn sweep(&self, now: Instant, all: bool) {
        self.0.borrow_mut().retain(|idle| !all && idle.expires > now && is_quiet(&idle.stream));
    }
}

/// Whether nothing has come on an idle connection: neither its end nor bytes that nobody asked for. The runtime's
/// readiness answers it without a system call, unless something has come.
#[inline]
fn is_quiet(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
