//! After a 101: bytes both ways until both sides have ended.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{buffers::Buffers, clock, downstream::Downstream, outbox::Outbox, worker::Worker};

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

/// How many bytes a tunnel has carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carried {
    /// From the client.
    pub(super) up: u64,
    /// To the client.
    pub(super) down: u64,
}

/// Carries bytes until both sides have ended, each with its own half-close, or one of them fails.
pub(super) async fn run(downstream: &mut Downstream, upstream: &mut TcpStream) -> Carried {
    // What the client has sent behind its request is the tunnel's first bytes.
    let held = downstream.held.take();
    let mut up = Direction::new(held);
    let mut down = Direction::new(Vec::new());
    let patience = downstream.listener.write_timeout;
    let mut stalled = (clock::now(), 0);
    poll_fn(|cx| {
        let worker = &downstream.worker;
        let up_ended = up.poll(cx, worker, &mut downstream.stream, upstream);
        let down_ended = down.poll(cx, worker, upstream, &mut downstream.stream);
        let failed = matches!(up_ended, Poll::Ready(Err(_))) || matches!(down_ended, Poll::Ready(Err(_)));
        if failed || (up_ended.is_ready() && down_ended.is_ready()) {
            return Poll::Ready(());
        }
        // A tunnel may be quiet for as long as it likes, but who is sent bytes must take some in time.
        if up.outbox.is_flushed() && down.outbox.is_flushed() {
            downstream.deadline.disarm();
            return Poll::Pending;
        }
        let taken = up.outbox.total() + down.outbox.total();
        if stalled.1 != taken {
            stalled = (clock::now(), taken);
        }
        if downstream.deadline.poll_at(cx, stalled.0 + patience) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    up.give_back(&downstream.worker.buffers);
    down.give_back(&downstream.worker.buffers);
    Carried { up: up.bytes, down: down.bytes }
}

impl Direction {
    fn new(first: Vec<u8>) -> Self {
        let bytes = first.len() as u64;
        Self { outbox: Outbox::new(first), state: State::Open, bytes }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        from: &mut TcpStream,
        to: &mut TcpStream,
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
