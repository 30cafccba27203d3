//! From a connection to a listener with TLS to one whose requests can be read.
//!
//! Invariant: handshakes cost a hundred times what a request does, so in each turn of a worker's loop only a few of them are
//! worked on. Whoever is connected already waits for those at most, however many clients come at once. Until a client
//! has sent its first byte nothing is kept for it.

use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::{
    io::ReadBuf,
    net::TcpStream,
    sync::{Notify, Semaphore},
};

use super::{
    clock,
    connection::FIRST_REQUEST,
    deadline::Deadline,
    listener::Standing,
    stream::ClientStream,
    worker::{Phase, Worker},
};
use crate::{
    telemetry::registry::HandshakeResult,
    tls::{Front, Handshake, Ill},
};

/// Steps of handshakes in a turn of the loop: with ECDSA less than a millisecond in all.
const IN_A_TURN: usize = 8;

/// The share of the loop that handshakes have.
#[derive(Debug)]
pub(super) struct Turns {
    left: Semaphore,
    used: Notify,
}

/// What came of a handshake.
#[derive(Debug)]
pub(super) enum Shaken {
    /// Requests may come.
    Done(ClientStream),
    /// The client speaks plain HTTP, and can be told so.
    PlainHttp(ClientStream),
    /// Nothing more can be said.
    Failed,
}

impl Default for Turns {
    fn default() -> Self {
        Self { left: Semaphore::new(IN_A_TURN), used: Notify::new() }
    }
}

impl Turns {
    /// Waits for the turn of a step.
    async fn next(&self) {
        let permit = self.left.acquire().await.expect("the semaphore is never closed");
        permit.forget();
        self.used.notify_one();
    }

    /// Begins a new turn after each that had steps. Never ends.
    pub(super) async fn follow(&self) {
        loop {
            self.used.notified().await;
            // The runtime looks for what its sockets have and lets all who are ready go first.
            tokio::task::yield_now().await;
            self.left.add_permits(IN_A_TURN - self.left.available_permits());
        }
    }
}

/// Makes a handshake, within the time that the listener gives it.
pub(super) async fn shake(
    worker: &Rc<Worker>,
    standing: &Standing,
    front: &Front,
    socket: TcpStream,
) -> Shaken {
    let due = clock::now() + front.settings.handshake_timeout;
    let waiting = Waiting { worker, standing, deadline: worker.deadlines.register(), due };
    let (result, shaken) = match attempt(waiting, front, socket).await {
        Ok(Shaken::PlainHttp(stream)) => (HandshakeResult::PlainHttp, Shaken::PlainHttp(stream)),
        Ok(shaken) => (HandshakeResult::Done, shaken),
        Err(result) => (result, Shaken::Failed),
    };
    worker.counts.handshakes[result as usize].add(1);
    shaken
}

async fn attempt(
    mut waiting: Waiting<'_>,
    front: &Front,
    socket: TcpStream,
) -> Result<Shaken, HandshakeResult> {
    let mut first = [0];
    waiting
        .until(|cx| {
            let peeked = socket.poll_peek(cx, &mut ReadBuf::new(&mut first));
            peeked.map(|peeked| if matches!(peeked, Ok(1..)) { Ok(()) } else { Err(Ill::Gone) })
        })
        .await?;
    // A record begins with its type, a number under 64 (RFC 8446 5.1); a request with the first letter of its method.
    if first[0].is_ascii_alphabetic() {
        return Ok(Shaken::PlainHttp(ClientStream::Plain(socket)));
    }
    let mut handshake = Handshake::begin(socket, front).map_err(|error| {
        tracing::error!(listener = %front.listener, %error, "a handshake can't begin");
        HandshakeResult::Malformed
    })?;
    let turns = &waiting.worker.handshakes;
    while !handshake.is_done() {
        waiting.until(|cx| handshake.poll_receive(cx)).await?;
        let mut turn = pin!(turns.next());
        waiting.until(|cx| turn.as_mut().poll(cx).map(Ok)).await?;
        handshake.process()?;
        waiting.until(|cx| handshake.poll_send(cx)).await?;
    }
    Ok(Shaken::Done(ClientStream::Tls(Box::new(handshake.into_stream()))))
}

/// Who waits for a step of a handshake, and until when.
struct Waiting<'w> {
    worker: &'w Worker,
    standing: &'w Standing,
    deadline: Deadline,
    due: Instant,
}

impl Waiting<'_> {
    /// Waits for what `poll` answers, unless it takes too long or the listener goes.
    async fn until(
        &mut self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<(), Ill>>,
    ) -> Result<(), HandshakeResult> {
        poll_fn(|cx| {
            if let Poll::Ready(result) = poll(cx) {
                return Poll::Ready(result.map_err(HandshakeResult::from));
            }
            if self.standing.is_cut.get() {
                return Poll::Ready(Err(HandshakeResult::Gone));
            }
            if self.worker.phase.get() >= Phase::Draining {
                self.due = self.due.min(clock::now() + FIRST_REQUEST);
            }
            if self.deadline.poll_at(cx, self.due) {
                return Poll::Ready(Err(HandshakeResult::TimedOut));
            }
            Poll::Pending
        })
        .await
    }
}

impl From<Ill> for HandshakeResult {
    fn from(ill: Ill) -> Self {
        match ill {
            Ill::Gone => Self::Gone,
            Ill::RefusedByClient => Self::RefusedByClient,
            Ill::Incompatible => Self::Incompatible,
            Ill::NoCertificate => Self::NoCertificate,
            Ill::BadCertificate => Self::BadCertificate,
            Ill::NoProtocol => Self::NoProtocol,
            Ill::Malformed => Self::Malformed,
        }
    }
}
