//! After a 101: bytes both ways until both sides have ended.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    buffers::Buffers, clock, downstream::Downstream, exchange::LOOK, outbox::Outbox, worker::Worker,
};
use crate::upstream::drain::Stream;

/// One direction of a tunnel.
#[derive(Debug)]
struct Direction {
    outbox: Outbox,
    state: State,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The sender has ended; the end is to be passed on.
    Ending,
    Ended,
}

/// How a tunnel has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carried {
    /// Bytes from the client.
    pub(super) up: u64,
    /// Bytes to the client.
    pub(super) down: u64,
    /// It was closed by us, because its endpoint drains.
    pub(super) was_closed: bool,
}

/// Who waits for nothing that has a time is woken this often; and when an endpoint of its worker begins to drain.
pub(super) const QUIET: Duration = Duration::from_secs(3600);
/// How long the two sides may take to take the last bytes of a tunnel that is closed.
const CLOSING: Duration = Duration::from_secs(2);

/// Carries bytes until both sides have ended, each with its own half-close, or one of them fails, or the drain of the
/// endpoint closes both.
pub(super) async fn run(downstream: &mut Downstream, upstream: &mut TcpStream, stream: &Stream) -> Carried {
    // What the client has sent behind its request is the tunnel's first bytes.
    let held = downstream.held.take();
    let mut up = Direction::new(held);
    let mut down = Direction::new(Vec::new());
    let patience = downstream.listener.write_timeout;
    let mut stalled = (clock::now(), 0);
    let mut closed_by = None;
    poll_fn(|cx| {
        let worker = &downstream.worker;
        if closed_by.is_none() && (stream.is_to_close() || downstream.standing.is_cut.get()) {
            closed_by = Some(clock::now() + CLOSING);
            up.close();
            down.close();
        }
        let up_ended = up.poll(cx, worker, &mut downstream.stream, upstream);
        let down_ended = down.poll(cx, worker, upstream, &mut downstream.stream);
        let failed = matches!(up_ended, Poll::Ready(Err(_))) || matches!(down_ended, Poll::Ready(Err(_)));
        if failed || (up_ended.is_ready() && down_ended.is_ready()) {
            return Poll::Ready(());
        }
        let taken = up.outbox.total() + down.outbox.total();
        if stalled.1 != taken {
            stalled = (clock::now(), taken);
        }
        // A tunnel may be quiet for as long as it likes, but who is sent bytes must take some in time.
        let is_quiet = up.outbox.is_flushed() && down.outbox.is_flushed() && downstream.stream.is_flushed();
        let limit = closed_by.or_else(|| (!is_quiet).then(|| stalled.0 + patience));
        let look = clock::now() + if stream.is_to_look() { LOOK } else { QUIET };
        let due = limit.map_or(look, |limit| limit.min(look));
        if downstream.deadline.poll_at(cx, due) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    up.give_back(&downstream.worker.buffers);
    down.give_back(&downstream.worker.buffers);
    Carried { up: up.bytes, down: down.bytes, was_closed: closed_by.is_some() }
}

impl Direction {
    fn new(first: Vec<u8>) -> Self {
        let bytes = first.len() as u64;
        Self { outbox: Outbox::new(first), state: State::Open, bytes }
    }

    /// Takes no more bytes in: what is on its way goes out, and then the end.
    fn close(&mut self) {
        if self.state == State::Open {
            self.state = State::Ending;
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.outbox.poll_flush(cx, to))?;
            self.give_back(&worker.buffers);
            match self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                    continue;
                }
                State::Open => {}
            }
            let mut scratch = worker.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.state = State::Ending;
                continue;
            }
            self.bytes += bytes.len() as u64;
            ready!(self.outbox.poll_send(cx, to, bytes, &[]))?;
        }
    }

    /// A tunnel that is quiet holds no buffer.
    fn give_back(&mut self, buffers: &Buffers) {
        self.outbox.give_back(buffers);
    }
}
