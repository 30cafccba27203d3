//! A request that waits for a connection, where its endpoint may have no more of them.
//!
//! Invariant: whoever stops waiting, for whatever reason, leaves the queue and gives on what it was granted. Within a
//! worker the order is that of coming; between workers, what frees a place goes to the longest wait, while a
//! connection that has just served stays with its worker for some requests ([`TURNS`]), as a new one costs more.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    connections::{Connection, Place},
    gate::Limit,
    local::{LocalEndpoint, Upstreams},
    places::{Grant, Ticket},
};

/// How often in a row a worker hands a connection to its own waiting requests while those of others wait, too. It
/// spreads the cost of a new connection over so many requests, and bounds by how many one worker's overtake another's.
const TURNS: u32 = 32;

/// One of a worker's waiting requests.
#[derive(Debug)]
pub struct Waiter {
    ticket: Arc<Ticket>,
    handed: Rc<RefCell<Option<Connection>>>,
    wish: Wish,
}

/// Which connections serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The number of the way that they are made in.
    pub way: u64,
    /// Of which protocol they are.
    pub wants: Wants,
    /// Whether one that was used does not.
    pub fresh: bool,
}

/// Of which protocol a connection is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Streams,
    /// What the endpoint has agreed to.
    Either,
}

/// A request's wait. Dropping it ends it.
#[derive(Debug)]
pub struct Waiting {
    endpoint: Rc<LocalEndpoint>,
    ticket: Arc<Ticket>,
    handed: Rc<RefCell<Option<Connection>>>,
    wish: Wish,
}

/// What a wait has come to.
#[derive(Debug)]
pub enum Granted {
    /// A connection may be opened.
    Place(Place),
    /// One that has just served another request.
    Connection(Connection),
}

impl Upstreams {
    /// Begins to wait, unless `most` requests of the pool do.
    pub fn wait(&self, endpoint: &Rc<LocalEndpoint>, most: u32, wish: Wish) -> Result<Waiting, Limit> {
        endpoint.state.gate.wait(most)?;
        let handed = Rc::new(RefCell::new(None));
        let ticket = endpoint.places.join();
        // A stream has served nobody, on however old a connection it is.
        if !wish.fresh || wish.wants != Wants::Http1 {
            let waiter = Waiter { ticket: Arc::clone(&ticket), handed: Rc::clone(&handed), wish };
            endpoint.waiters.borrow_mut().push_back(waiter);
        }
        if endpoint.places.waiting() > 0 {
            self.plead(endpoint.id);
        }
        Ok(Waiting { endpoint: Rc::clone(endpoint), ticket, handed, wish })
    }
}

impl LocalEndpoint {
    /// Takes back a connection whose request has ended: for one that waits, or to be kept for `time` among at most
    /// `most`.
    #[inline]
    pub fn give(&self, connection: Connection, now: Instant, time: Duration, most: usize) {
        let epoch = self.drain.epoch();
        if connection.epoch != epoch {
            return;
        }
        let connection = match self.places.waiting() {
            0 => Some(connection),
            _ => self.give_to_waiting(connection, now),
        };
        if let Some(connection) = connection {
            // Of the epoch that it was found to be of: if that is over by now, it is closed with the others of it.
            self.idle_of(epoch).give(connection, now, time, most);
        }
    }

    /// Gives a connection, or its place, to a request that waits; answers it if none does any more.
    #[cold]
    fn give_to_waiting(&self, mut connection: Connection, now: Instant) -> Option<Connection> {
        if connection.good_until.is_some_and(|good_until| good_until <= now) || !connection.is_quiet() {
            return None;
        }
        let mut waiters = self.waiters.borrow_mut();
        let others_wait = self.places.waiting() as usize > waiters.len();
        if !others_wait || self.turns.get() < TURNS {
            let fits = |waiter: &Waiter| waiter.wish.fits(&connection);
            while let Some(at) = waiters.iter().position(fits)
                && let Some(waiter) = waiters.remove(at)
            {
                if self.places.hand_over(&waiter.ticket) {
                    self.turns.set(self.turns.get() + 1);
                    waiter.handed.replace(Some(Connection { reused: true, ..connection }));
                    return None;
                }
            }
        }
        self.turns.set(0);
        // What is dropped here is closed, and its place goes to the longest wait.
        (self.places.waiting() == 0).then_some(connection)
    }
}

impl LocalEndpoint {
    /// Gives streams that are free to requests of this worker that wait.
    #[inline]
    pub fn offer(&self) {
        if !self.carriers().is_empty() && self.places.waiting() > 0 {
            self.offer_streams();
        }
    }

    #[cold]
    fn offer_streams(&self) {
        let (now, epoch) = (Instant::now(), self.drain.epoch());
        let mut waiters = self.waiters.borrow_mut();
        while let Some(at) = waiters.iter().position(|waiter| waiter.wish.wants != Wants::Http1)
            && let Some(stream) = self.carriers().open(now, waiters[at].wish.way, epoch)
            && let Some(waiter) = waiters.remove(at)
        {
            if self.places.hand_over(&waiter.ticket) {
                waiter.handed.replace(Some(Connection::of_stream(stream)));
            }
        }
    }
}

impl Wish {
    /// Whether a connection that has served another request serves this one.
    fn fits(&self, connection: &Connection) -> bool {
        match self.wants {
            Wants::Http1 => !connection.stream.is_stream(),
            Wants::Streams => connection.stream.is_stream(),
            Wants::Either => !self.fresh || connection.stream.is_stream(),
        }
    }
}

impl Waiting {
    /// What has come.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<Granted> {
        self.ticket.poll(cx).map(|grant| match grant {
            Grant::Place => Granted::Place(Place::granted(self.endpoint.shared())),
            Grant::Connection => {
                let handed = self.handed.borrow_mut().take();
                let handed = handed.expect("it is put there in the turn in which it is granted");
                if handed.epoch == self.endpoint.drain.epoch() && handed.way == self.wish.way {
                    return Granted::Connection(handed);
                }
                match handed.place {
                    // A drain has begun or ended meanwhile, or it is one of another way: it is closed, its place serves another.
                    Some(place) => Granted::Place(place),
                    // A stream has none to give on: whoever has it sees that its endpoint drains.
                    None => Granted::Connection(handed),
                }
            }
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.endpoint.waiters.borrow_mut().retain(|waiter| !Arc::ptr_eq(&waiter.ticket, &self.ticket));
        self.endpoint.places.leave(&self.ticket);
        self.endpoint.state.gate.end_wait();
        // One that came too late is closed: its place goes to the next.
        drop(self.handed.borrow_mut().take());
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, task::Waker};

    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        model::name::Name,
        telemetry::registry::Registry as Series,
        upstream::{registry::Registry, socket::Socket, stream::UpstreamStream},
    };

    const PLAIN: Wish = Wish { way: 0, wants: Wants::Http1, fresh: false };

    /// An endpoint that may have one connection.
    fn endpoint(upstreams: &mut Upstreams, address: SocketAddr) -> Rc<LocalEndpoint> {
        let series = Series::default();
        let name = Name::new("app").unwrap();
        let endpoint = Registry::default().endpoint(&name, address, false, &series);
        endpoint.places.cap(Some(1));
        upstreams.local(&endpoint)
    }

    /// Its connection, in use, and the other end of it.
    async fn connected(listener: &TcpListener, endpoint: &LocalEndpoint) -> (Connection, TcpStream) {
        let place = Place::take(endpoint.shared()).expect("it is the first");
        let stream = TcpStream::connect(endpoint.address).await.unwrap();
        let epoch = endpoint.drain.epoch();
        let (other, _) = listener.accept().await.unwrap();
        let stream = UpstreamStream::Own(Socket::Plain(stream));
        (Connection { stream, reused: false, good_until: None, epoch, way: 0, place: Some(place) }, other)
    }

    fn poll(waiting: &mut Waiting) -> Poll<Granted> {
        waiting.poll(&Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_connection_that_was_handed_over_before_a_drain_is_a_place_after_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut upstreams = Upstreams::default();
        let endpoint = endpoint(&mut upstreams, listener.local_addr().unwrap());
        for drains in [0, 1, 3] {
            let (connection, mut other) = connected(&listener, &endpoint).await;
            let mut waiting = upstreams.wait(&endpoint, 1, PLAIN).unwrap();
            assert!(poll(&mut waiting).is_pending());
            endpoint.give(connection, Instant::now(), Duration::from_secs(60), 10);
            // Drained; drained, undrained and drained again; before the request has its turn.
            for change in 0..drains {
                if change % 2 == 0 { endpoint.drain.begin() } else { endpoint.drain.end() }
            }
            let granted = poll(&mut waiting);
            assert_eq!(endpoint.places.taken(), 1, "whatever it is, it holds the only place");
            match &granted {
                Poll::Ready(Granted::Connection(connection)) => assert!(drains == 0 && connection.reused),
                Poll::Ready(Granted::Place(_)) => {
                    assert!(drains > 0);
                    assert_eq!(other.read(&mut [0]).await.unwrap(), 0, "the connection was closed");
                }
                Poll::Pending => panic!("it was handed a connection"),
            }
            drop((granted, waiting));
            assert_eq!((endpoint.places.taken(), endpoint.places.waiting()), (0, 0));
        }
    }

    #[tokio::test]
    async fn what_was_handed_to_one_that_went_away_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut upstreams = Upstreams::default();
        let endpoint = endpoint(&mut upstreams, listener.local_addr().unwrap());
        let (connection, mut other) = connected(&listener, &endpoint).await;
        let waiting = upstreams.wait(&endpoint, 1, PLAIN).unwrap();
        endpoint.give(connection, Instant::now(), Duration::from_secs(60), 10);
        drop(waiting);
        assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
        assert_eq!((endpoint.places.taken(), endpoint.places.waiting()), (0, 0));
    }
}
