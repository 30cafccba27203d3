//! One client's connection: its requests, one after the other.
//!
//! Invariant: while it waits for a request it holds no buffer, only its socket and its deadline.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

use super::{
    answer::Answer,
    awaiting, clock,
    downstream::{After, Downstream},
    forward,
    handler::{self, Begin, OwnAnswer},
    handshake::{self, Shaken},
    http2,
    linger::linger,
    listener::{Open, Standing},
    record,
    response_head::Afterwards,
    stream::ClientStream,
    worker::{Phase, Worker},
};
use crate::wire::fields::{LIMITS, Progress};

/// How long a connection that was accepted at the last moment has for its first request.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(3);

/// What the wait for a request came to.
enum Arrival {
    /// The client is gone, or was asked to go and is idle.
    Closed,
    /// A request.
    Request(Begin, RequestEnd),
    /// The client speaks HTTP/2. What it has sent is held.
    Http2,
}

/// What came of serving requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// The connection has ended.
    Ended,
    /// It is one of HTTP/2, whose first bytes are held.
    Http2,
}

/// What is left to know of a request's head once it is gone, for answers of our own.
#[derive(Debug, Clone, Copy)]
struct RequestEnd {
    is_head: bool,
    is_http11: bool,
    keeps_alive: bool,
}

/// Serves a client's connection to its end.
pub(super) async fn serve(
    worker: Rc<Worker>,
    standing: Rc<Standing>,
    stream: TcpStream,
    peer: SocketAddr,
    open: &Open,
) {
    let front = standing.front.borrow().clone();
    let stream = match front {
        None => ClientStream::Plain(stream),
        // In a box, so that a connection without TLS is no larger for it.
        Some(front) => match Box::pin(handshake::shake(&worker, &standing, &front, stream)).await {
            Shaken::Done(stream) => stream,
            Shaken::PlainHttp(stream) => {
                return refuse_plain(Downstream::new(worker, standing, stream, peer)).await;
            }
            Shaken::Failed => return,
        },
    };
    let is_http2 = stream.has_agreed_on_http2();
    let mut downstream = Downstream::new(worker, standing, stream, peer);
    if is_http2 || serve_requests(&mut downstream).await == Served::Http2 {
        // In a box, so that a connection of HTTP/1.1 is no larger for it.
        Box::pin(http2::serve(downstream, open.clone())).await;
    }
}

/// Answers a client that speaks plain HTTP where TLS is spoken.
async fn refuse_plain(mut downstream: Downstream) {
    let answer = Answer::closing(400, "a plain HTTP request was sent to a port of HTTPS");
    record::count_refused(&downstream, answer.status);
    if downstream.send_answer(&answer, None, None, None, false, Afterwards::Closes).await == After::Linger {
        linger(&mut downstream).await;
    }
}

/// Serves requests, one after the other, until the connection ends or turns out to be one of HTTP/2.
pub(super) async fn serve_requests(downstream: &mut Downstream) -> Served {
    // The first head must come as fast as any; only between requests may a client be idle for longer.
    downstream.deadline.arm(clock::now() + downstream.listener.head_timeout);
    let after = loop {
        let arrival = poll_fn(|cx| downstream.poll_request(cx)).await;
        if let Arrival::Request(Begin::Await(waiting), _) = arrival {
            downstream.waited = Some(waiting.patience);
            // In a box, so that only a request that waits pays for its room.
            if Box::pin(awaiting::endpoint(downstream, *waiting)).await {
                continue;
            }
            return Served::Ended;
        }
        downstream.waited = None;
        let after = match arrival {
            Arrival::Http2 => return Served::Http2,
            // What waits is decided anew, above.
            Arrival::Closed | Arrival::Request(Begin::Await(_), _) => After::Close,
            Arrival::Request(Begin::Forward(request), _) => forward::forward(downstream, request).await,
            Arrival::Request(Begin::Answer(own), end) => {
                let OwnAnswer { answer, mut account, routed } = *own;
                let closes = answer.close || !end.keeps_alive || downstream.is_leaving();
                let afterwards = Afterwards::of(!closes, end.is_http11);
                let (account, routed) = (account.as_mut(), routed.as_ref());
                downstream.send_answer(&answer, account, routed, None, end.is_head, afterwards).await
            }
        };
        if after != After::Next {
            break after;
        }
        downstream.has_served = true;
        downstream.deadline.arm(clock::now() + downstream.listener.keep_alive_timeout);
    };
    match after {
        After::Linger => linger(downstream).await,
        After::Close => downstream.stream.end_now(),
        After::Next | After::BreakOff => {}
    }
    Served::Ended
}

impl Downstream {
    /// Waits for a whole head and decides about it.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        if !self.held.is_empty()
            && !self.held.is_partial
            && let Some(arrival) = self.read_held()
        {
            return Poll::Ready(arrival);
        }
        let worker = Rc::clone(&self.worker);
        loop {
            let mut scratch = worker.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return self.poll_idle(cx),
                Poll::Ready(Err(_)) => return Poll::Ready(Arrival::Closed),
                Poll::Ready(Ok(())) => {}
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                return Poll::Ready(Arrival::Closed);
            }
            if let Some(arrival) = self.take_in(bytes) {
                return Poll::Ready(arrival);
            }
        }
    }

    /// Nothing has come. Has the client had its time, or is it to go?
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        let within_head = self.is_within_head();
        if self.deadline.poll_due(cx) {
            if !within_head {
                return Poll::Ready(Arrival::Closed);
            }
            return Poll::Ready(self.refuse(Answer::closing(408, "the request head did not come in time")));
        }
        if self.standing.is_cut.get() && !within_head {
            return Poll::Ready(Arrival::Closed);
        }
        if self.worker.phase.get() >= Phase::Draining && !within_head {
            if self.has_served {
                return Poll::Ready(Arrival::Closed);
            }
            // Its client has only just connected, and its first request is on the way.
            if !std::mem::replace(&mut self.is_at_last_chance, true) {
                self.deadline.arm(clock::now() + FIRST_REQUEST);
            }
        }
        Poll::Pending
    }

    /// Whether a part of a head is there. An empty line that some clients send behind a body is none.
    fn is_within_head(&self) -> bool {
        !matches!(self.held.bytes(), b"" | b"\r" | b"\r\n")
    }

    /// Takes in bytes that were read: answers what they came to once a head is whole, or wrong.
    fn take_in(&mut self, bytes: &[u8]) -> Option<Arrival> {
        if self.held.is_empty() {
            let (arrival, read) = self.read_head(bytes);
            self.held.add(&bytes[read..], &self.worker.buffers);
            if arrival.is_none() {
                self.note_partial();
            }
            return arrival;
        }
        let had_line = memchr::memchr(b'\n', self.held.bytes()).is_some();
        self.held.add(bytes, &self.worker.buffers);
        let length = self.held.bytes().len();
        // Only a line's end can complete a head or make a line wrong, so a head that drips in is not read again for
        // each drop; but one that grows too large, or has a first line that can't be one, is refused at once.
        let worth_reading = memchr::memchr(b'\n', bytes).is_some()
            || length >= LIMITS.head
            || (!had_line && (length <= 16 || length > LIMITS.target));
        if worth_reading {
            return self.read_held();
        }
        self.note_partial();
        None
    }

    /// Reads a head from the start of what is held.
    fn read_held(&mut self) -> Option<Arrival> {
        let mut held = std::mem::take(&mut self.held);
        let (arrival, read) = self.read_head(held.bytes());
        if arrival.is_some() {
            held.advance(read, &self.worker.buffers);
        }
        self.held = held;
        if arrival.is_none() {
            self.note_partial();
        }
        arrival
    }

    /// What is held is a part of a head at most. From the head's first byte on, its client has the time for a head; an
    /// empty line before it does not begin it.
    fn note_partial(&mut self) {
        self.held.is_partial = true;
        if self.is_within_head() && !std::mem::replace(&mut self.held.is_timed, true) {
            self.deadline.arm(clock::now() + self.listener.head_timeout);
        }
    }

    /// Reads a head from the start of `bytes`; answers what it came to, and how many bytes that took.
    fn read_head(&mut self, bytes: &[u8]) -> (Option<Arrival>, usize) {
        let worker = Rc::clone(&self.worker);
        let mut head = worker.request.borrow_mut();
        match head.parse(bytes, &LIMITS) {
            Ok(Progress::Partial) => (None, 0),
            Err(_) if self.begins_http2(bytes) => (Some(Arrival::Http2), 0),
            Err(error) => (Some(self.refuse(Answer::closing(error.status(), error))), bytes.len()),
            Ok(Progress::Complete(_)) => {
                let (begin, read) = handler::begin(self, bytes, &head);
                let end = RequestEnd {
                    is_head: head.method.of(bytes) == b"HEAD",
                    is_http11: head.is_http11,
                    keeps_alive: head.keeps_alive(),
                };
                (Some(Arrival::Request(begin, end)), read)
            }
        }
    }

    /// Whether these are the first bytes of a client that knows, without having asked, that HTTP/2 is spoken here
    /// (RFC 9113 3.3). Over TLS it would have asked.
    #[cold]
    fn begins_http2(&self, bytes: &[u8]) -> bool {
        let may = self.listener.http2 && !self.has_served && matches!(self.stream, ClientStream::Plain(_));
        may && http2::is_preface(bytes)
    }

    fn refuse(&self, answer: Answer) -> Arrival {
        record::count_refused(self, answer.status);
        let end = RequestEnd { is_head: false, is_http11: true, keeps_alive: false };
        Arrival::Request(Begin::answer(answer, None, None), end)
    }
}
