//! A connection of HTTP/2 to an endpoint, and the task that drives it.
//!
//! Invariant: whoever holds a stream of it has it alive, and it ends when nobody does and it takes no more, by a GOAWAY. It
//! holds one of its endpoint's places until then.

use std::{
    cell::{Cell, RefCell},
    future::{Future as _, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};

use super::{
    heartbeat::Heartbeat,
    link::{Io, Link},
    stream::Stream,
};
use crate::{
    upstream::{connections::Place, socket::Socket, way::NoConnection},
    wire::request::RequestHead,
};

/// Requests in flight on a connection, unless the endpoint allows fewer: beyond that another is opened.
const MOST: usize = 128;
/// What is received of one response and not passed on yet: some 130 MB a second over half a millisecond.
const STREAM_WINDOW: u32 = 64 << 10;
/// The same of all responses of a connection: as much as all its streams may hold, so that clients who read nothing never
/// hold up the others.
const CONNECTION_WINDOW: u32 = MOST as u32 * STREAM_WINDOW;
/// The smallest that an endpoint may count on (RFC 9113 4.2): larger frames gain nothing and delay other streams.
const FRAME: u32 = 16 << 10;
/// The fields of a response, counted as RFC 9113 6.5.2 does: as large as a head of HTTP/1.1 may be.
const HEADER_LIST: u32 = 64 << 10;
/// Streams that were cancelled from here and are remembered, and for how long: what the endpoint has sent on them meanwhile is
/// no fault of its. A crowd of clients that go away at once is no reason to end a connection that others use.
const CANCELLED: usize = 8 * MOST;
const REMEMBERED: Duration = Duration::from_secs(10);
/// What is held of one request for an endpoint that has opened its window and does not read the connection.
const SEND_BUFFER: usize = 64 << 10;

/// A connection of HTTP/2 to an endpoint.
#[derive(Debug)]
pub struct Carrier {
    /// Opens streams; `None` from the moment on that it takes no more.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    streams: Cell<usize>,
    /// Whether it has had a stream.
    has_served: Cell<bool>,
    /// How it was made.
    pub(super) terms: Terms,
    idle_since: Cell<Instant>,
    standing: Cell<Standing>,
    /// Who waits for the settings of the endpoint.
    dialer: RefCell<Option<Waker>>,
    /// The request head that is being taken apart. Borrowed for a synchronous act only, never over a wait.
    pub(super) head: RefCell<RequestHead>,
    /// How many there are of the worker.
    of_worker: Rc<Cell<usize>>,
}

/// How a connection was made, and for how long it is good.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The number of the way.
    pub way: u64,
    /// The epoch of its endpoint's drains.
    pub epoch: u32,
    /// When it is too old for another request; `None` never.
    pub good_until: Option<Instant>,
    /// How long it is kept without a request.
    pub idle_timeout: Duration,
    /// Whether TLS is spoken.
    pub is_secured: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The endpoint has said nothing yet.
    Begun,
    /// It has sent its settings.
    Settled,
    Over,
}

impl Carrier {
    /// Begins to speak HTTP/2 on a connection; ready when the endpoint has answered by its settings.
    pub async fn begin(
        stream: Socket,
        terms: Terms,
        place: Place,
        of_worker: &Rc<Cell<usize>>,
        now: Instant,
    ) -> Result<Rc<Self>, NoConnection> {
        let link = Rc::new(RefCell::new(Link::new(stream)));
        // What is written waits in the link, so this takes no time.
        let (sender, http2) = handshake(Io(Rc::clone(&link))).await.map_err(|_| NoConnection::NotHttp2)?;
        of_worker.set(of_worker.get() + 1);
        let carrier = Rc::new(Self {
            sender: RefCell::new(Some(sender)),
            streams: Cell::new(0),
            has_served: Cell::new(false),
            terms,
            idle_since: Cell::new(now),
            standing: Cell::new(Standing::Begun),
            dialer: RefCell::default(),
            head: RefCell::default(),
            of_worker: Rc::clone(of_worker),
        });
        tokio::task::spawn_local(drive(Rc::clone(&carrier), http2, link, place));
        // Whoever stops waiting leaves nobody who could open a stream.
        let waiting = Leaves(Some(Rc::clone(&carrier)));
        poll_fn(|cx| match carrier.standing.get() {
            Standing::Begun => {
                carrier.dialer.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
            Standing::Settled => Poll::Ready(Ok(())),
            Standing::Over => Poll::Ready(Err(NoConnection::NotHttp2)),
        })
        .await?;
        waiting.done();
        Ok(carrier)
    }

    /// Whether it takes another stream now.
    pub(super) fn has_room(&self) -> bool {
        let mut sender = self.sender.borrow_mut();
        let Some(open) = &mut *sender else { return false };
        match open.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => self.streams.get() < MOST.min(open.current_max_send_streams()),
            Poll::Pending => false,
            // The endpoint has sent a GOAWAY, or the connection has failed.
            Poll::Ready(Err(_)) => {
                *sender = None;
                false
            }
        }
    }

    /// A stream, of one that has room.
    pub(super) fn open(self: &Rc<Self>) -> Option<Stream> {
        let sender = self.sender.borrow().clone()?;
        let was_idle = self.has_served.replace(true) && self.streams.get() == 0;
        self.streams.set(self.streams.get() + 1);
        Some(Stream::new(Rc::clone(self), sender, was_idle))
    }

    /// How many streams are open.
    pub(super) fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Whether it takes no more streams, whatever becomes of those that it has.
    pub(super) fn is_leaving(&self) -> bool {
        self.sender.borrow().is_none() || self.standing.get() == Standing::Over
    }

    /// Whether it is good for another request.
    pub(super) fn is_good(&self, now: Instant, way: u64, epoch: u32) -> bool {
        let Terms { way: own, epoch: opened, good_until, .. } = self.terms;
        own == way && opened == epoch && good_until.is_none_or(|until| until > now)
    }

    /// Whether it has been without a stream for as long as it is kept.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.streams.get() == 0 && self.idle_since.get() + self.terms.idle_timeout <= now
    }

    /// Takes no more streams. It ends, by a GOAWAY, when those that it has do.
    pub fn leave(&self) {
        // The h2 crate ends a connection that nobody can open a stream on, once it has none.
        self.sender.replace(None);
    }

    /// A stream has ended.
    pub(super) fn end_stream(&self) {
        self.streams.set(self.streams.get() - 1);
        if self.streams.get() == 0 {
            self.idle_since.set(Instant::now());
        }
    }

    fn become_known(&self, standing: Standing) {
        self.standing.set(standing);
        if let Some(dialer) = self.dialer.take() {
            dialer.wake();
        }
    }
}

/// Has a connection leave that nobody waits for any more.
struct Leaves(Option<Rc<Carrier>>);

impl Leaves {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaves {
    fn drop(&mut self) {
        if let Some(carrier) = &self.0 {
            carrier.leave();
        }
    }
}

/// Drives a connection to its end.
async fn drive(
    carrier: Rc<Carrier>,
    mut http2: Connection<Io, Bytes>,
    link: Rc<RefCell<Link>>,
    place: Place,
) {
    let mut heartbeat = Heartbeat::new(http2.ping_pong());
    poll_fn(|cx| {
        let is_over = match Pin::new(&mut http2).poll(cx) {
            Poll::Ready(ended) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an HTTP/2 connection to an endpoint failed");
                }
                true
            }
            Poll::Pending => false,
        };
        let mut link = link.borrow_mut();
        let sent = link.poll_send(cx);
        if is_over || matches!(sent, Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        if carrier.standing.get() == Standing::Begun && link.has_settings() {
            carrier.become_known(Standing::Settled);
        }
        if carrier.streams() == 0 {
            link.rest();
        }
        heartbeat.poll(cx, link.received, carrier.streams() > 0)
    })
    .await;
    // Streams that are still open learn of the end as the connection goes.
    drop(http2);
    carrier.leave();
    carrier.become_known(Standing::Over);
    carrier.of_worker.set(carrier.of_worker.get() - 1);
    drop((link, place));
}

async fn handshake(io: Io) -> Result<(SendRequest<Bytes>, Connection<Io, Bytes>), h2::Error> {
    Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(CANCELLED)
        .reset_stream_duration(REMEMBERED)
        .max_local_error_reset_streams(None)
        .initial_max_send_streams(MOST)
        .handshake(io)
        .await
}
