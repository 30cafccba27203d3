//! One client's connection: its requests, one after the other.
//!
//! Invariant: while it waits for a request it holds no buffer, only its socket and its deadline.

use std::{
    future::poll_fn,
    io::{self, Write as _},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

use super::{
    account::Account,
    answer::Answer,
    clock,
    deadline::Deadline,
    forward,
    handler::{self, Begin},
    linger::linger,
    response_head::Afterwards,
    worker::{Phase, Worker},
};
use crate::{
    config::Listener,
    upstream::local::Lease,
    wire::fields::{LIMITS, Progress},
};

/// How long a connection that was accepted at the last moment has for its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// A client's connection.
#[derive(Debug)]
pub(super) struct Downstream {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Rc<Listener>,
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    peer_text: PeerText,
    pub(super) deadline: Deadline,
    /// Bytes that were read and belong to a request to come: a part of a head, or pipelined requests.
    pub(super) held: Vec<u8>,
    /// Whether what is held was read as a head already and found to be only a part of one.
    held_is_partial: bool,
    /// Whether it has served a request.
    served: bool,
}

/// A peer's IP address as text, made once for a connection.
#[derive(Debug)]
struct PeerText {
    text: [u8; 46],
    length: u8,
}

/// How a connection goes on after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The next request may come.
    Next,
    /// The response was sent, but there may be bytes to come that nobody wants: stop writing, read on for a while.
    Linger,
    /// It is closed at once.
    Close,
}

/// What the wait for a request came to.
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for each request")]
enum Arrival {
    /// The client is gone, or was asked to go and is idle.
    Closed,
    /// A request.
    Request(Begin, RequestEnd),
}

/// What is left to know of a request's head once it is gone, for answers of our own.
#[derive(Debug, Clone, Copy)]
struct RequestEnd {
    is_head: bool,
    is_http11: bool,
    keeps_alive: bool,
}

/// Serves a client's connection to its end.
pub(super) async fn serve(worker: Rc<Worker>, listener: Rc<Listener>, stream: TcpStream, peer: SocketAddr) {
    let deadline = worker.deadlines.register();
    let peer_text = PeerText::new(peer);
    let mut downstream = Downstream {
        worker,
        listener,
        stream,
        peer,
        peer_text,
        deadline,
        held: Vec::new(),
        held_is_partial: false,
        served: false,
    };
    // The first head must come as fast as any; only between requests may a client be idle for longer.
    downstream.deadline.arm(clock::now() + downstream.listener.head_timeout);
    let after = loop {
        let after = match poll_fn(|cx| downstream.poll_request(cx)).await {
            Arrival::Closed => After::Close,
            Arrival::Request(Begin::Forward(request), _) => forward::forward(&mut downstream, request).await,
            Arrival::Request(Begin::Answer(answer, account), end) => {
                downstream.answer(&answer, account, end).await
            }
        };
        if after != After::Next {
            break after;
        }
        downstream.served = true;
        downstream.deadline.arm(clock::now() + downstream.listener.keep_alive_timeout);
    };
    if after == After::Linger {
        linger(&mut downstream).await;
    }
}

impl Downstream {
    /// The peer's IP address as text.
    #[inline]
    pub(super) fn peer_text(&self) -> &[u8] {
        &self.peer_text.text[..usize::from(self.peer_text.length)]
    }

    /// Waits for a whole head and decides about it.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        let worker = Rc::clone(&self.worker);
        if !self.held.is_empty() && !self.held_is_partial {
            let held = std::mem::take(&mut self.held);
            let arrival = self.read_head(&held);
            match &arrival {
                None => self.held = held,
                Some(_) => worker.buffers.give(held),
            }
            if let Some(arrival) = arrival {
                return Poll::Ready(arrival);
            }
        }
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
        let within_head = !self.held.is_empty();
        if self.deadline.poll_due(cx) {
            if !within_head {
                return Poll::Ready(Arrival::Closed);
            }
            let answer = Answer::closing(408, "the request head did not come in time");
            return Poll::Ready(self.refuse(answer));
        }
        if self.worker.phase.get() >= Phase::Draining && !within_head {
            if self.served {
                return Poll::Ready(Arrival::Closed);
            }
            // Its client has only just connected, and its first request is on the way.
            self.served = true;
            self.deadline.arm(clock::now() + FIRST_REQUEST);
        }
        Poll::Pending
    }

    /// Takes in bytes that were read: answers what they came to once a head is whole, or wrong.
    fn take_in(&mut self, bytes: &[u8]) -> Option<Arrival> {
        if self.held.is_empty() {
            let arrival = self.read_head(bytes);
            if arrival.is_none() {
                self.deadline.arm(clock::now() + self.listener.head_timeout);
                self.held = self.worker.buffers.take();
                self.held.extend_from_slice(bytes);
            }
            return arrival;
        }
        let had_line = memchr::memchr(b'\n', &self.held).is_some();
        self.held.extend_from_slice(bytes);
        // Only a line's end can complete a head or make a line wrong, so a head that drips in is not read again for
        // each drop; but one that grows too large, or has a first line that can't be one, is refused at once.
        let worth_reading = memchr::memchr(b'\n', bytes).is_some()
            || self.held.len() >= LIMITS.head
            || (!had_line && (self.held.len() <= 16 || self.held.len() > LIMITS.target));
        if !worth_reading {
            return None;
        }
        let held = std::mem::take(&mut self.held);
        let arrival = self.read_head(&held);
        match &arrival {
            None => self.held = held,
            Some(_) => self.worker.buffers.give(held),
        }
        arrival
    }

    /// Reads a head from the start of `bytes`; what follows the request is held.
    fn read_head(&mut self, bytes: &[u8]) -> Option<Arrival> {
        let worker = Rc::clone(&self.worker);
        let mut head = worker.request.borrow_mut();
        match head.parse(bytes, &LIMITS) {
            Ok(Progress::Partial) => {
                self.held_is_partial = true;
                None
            }
            Err(error) => {
                let answer = Answer::closing(error.status(), error);
                worker.counts.refused.add(1);
                Some(self.refuse(answer))
            }
            Ok(Progress::Complete(_)) => {
                let (begin, read) = handler::begin(self, bytes, &head);
                let end = RequestEnd {
                    is_head: head.method.of(bytes) == b"HEAD",
                    is_http11: head.is_http11,
                    keeps_alive: head.keeps_alive(),
                };
                self.held_is_partial = false;
                self.hold(&bytes[read..]);
                Some(Arrival::Request(begin, end))
            }
        }
    }

    /// Keeps bytes of requests to come.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            if self.held.capacity() == 0 {
                self.held = self.worker.buffers.take();
            }
            self.held.extend_from_slice(bytes);
        }
    }

    fn refuse(&self, answer: Answer) -> Arrival {
        let end = RequestEnd { is_head: false, is_http11: true, keeps_alive: false };
        Arrival::Request(Begin::Answer(answer, None), end)
    }

    /// Sends an answer of our own.
    async fn answer(&mut self, answer: &Answer, account: Option<Account>, end: RequestEnd) -> After {
        let closes = answer.close || !end.keeps_alive || self.worker.is_leaving();
        let afterwards = match (closes, end.is_http11) {
            (true, _) => Afterwards::Closes,
            (false, true) => Afterwards::Stays,
            (false, false) => Afterwards::StaysAndSaysSo,
        };
        self.send_answer(answer, account.map(|account| (account, None)), end.is_head, afterwards).await
    }

    /// Writes an answer of our own and closes the account.
    pub(super) async fn send_answer(
        &mut self,
        answer: &Answer,
        account: Option<(Account, Option<&Lease>)>,
        to_head: bool,
        afterwards: Afterwards,
    ) -> After {
        let mut out = self.worker.buffers.take();
        answer.write(&mut out, to_head, afterwards, self.worker.date.borrow_mut().text());
        self.deadline.arm(clock::now() + self.listener.write_timeout);
        let mut sent = 0;
        let written = poll_fn(|cx| self.poll_send(cx, &out, &mut sent)).await;
        self.worker.buffers.give(out);
        if let Some((mut account, lease)) = account {
            account.answered(answer.status);
            account.close(lease, written.is_ok());
        }
        match (written, afterwards) {
            (Err(_), _) => After::Close,
            (Ok(()), Afterwards::Closes) => After::Linger,
            (Ok(()), _) => After::Next,
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8], sent: &mut usize) -> Poll<io::Result<()>> {
        use tokio::io::AsyncWrite;
        while *sent < bytes.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &bytes[*sent..]) {
                Poll::Pending if self.deadline.poll_due(cx) => {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                poll => *sent += ready!(poll)?,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        self.worker.buffers.give(std::mem::take(&mut self.held));
    }
}

impl PeerText {
    fn new(peer: SocketAddr) -> Self {
        let mut text = [0; 46];
        let mut rest = &mut text[..];
        write!(rest, "{}", peer.ip().to_canonical()).expect("46 bytes hold every IP address");
        let length = (46 - rest.len()) as u8;
        Self { text, length }
    }
}
