//! A client's connection, as those who serve its requests see it.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{
    account::Account, answer::Answer, awaiting::Patience, clock, deadline::Deadline, held::Held,
    listener::Standing, peer::Peer, response_head::Afterwards, routed::Routed, stream::ClientStream,
    worker::Worker,
};
use crate::{
    config::{Hsts, Listener},
    upstream::local::Lease,
};

/// A client's connection.
#[derive(Debug)]
pub(super) struct Downstream {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Rc<Listener>,
    /// What has become of the listener since the connection was accepted.
    pub(super) standing: Rc<Standing>,
    pub(super) stream: ClientStream,
    pub(super) peer: Peer,
    pub(super) deadline: Deadline,
    pub(super) held: Held,
    /// Whether it has served a request: if so, it may be closed between requests when the worker drains.
    pub(super) has_served: bool,
    /// Whether it was given a last time for its first request, because the worker drains.
    pub(super) is_at_last_chance: bool,
    /// How long the request that stands first in `held` may wait for an endpoint, once it has begun to.
    pub(super) waited: Option<Patience>,
}

/// How a connection goes on after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The next request may come.
    Next,
    /// The response was sent, but there may be bytes to come that nobody wants: stop writing, read on for a while.
    Linger,
    /// It is closed at once, since all was said.
    Close,
    /// It is closed at once, within a message: over TLS without the word that would say that it was whole.
    BreakOff,
}

impl Downstream {
    pub(super) fn new(
        worker: Rc<Worker>,
        standing: Rc<Standing>,
        stream: ClientStream,
        peer: SocketAddr,
    ) -> Self {
        let listener = Rc::clone(&standing.settings.borrow());
        let peer = Peer::new(peer, &listener, stream.session());
        Self::of(worker, standing, listener, stream, peer)
    }

    /// The same of a client that is known.
    pub(super) fn of(
        worker: Rc<Worker>,
        standing: Rc<Standing>,
        listener: Rc<Listener>,
        stream: ClientStream,
        peer: Peer,
    ) -> Self {
        let deadline = worker.deadlines.register();
        Self {
            worker,
            listener,
            standing,
            stream,
            peer,
            deadline,
            held: Held::default(),
            has_served: false,
            is_at_last_chance: false,
            waited: None,
        }
    }

    /// Whether the client is asked to go: the process stops, or the listener is no more.
    #[inline]
    pub(super) fn is_leaving(&self) -> bool {
        self.worker.is_leaving() || self.standing.is_closed.get()
    }

    /// What a browser is told of HTTPS, to which it has come.
    #[inline]
    pub(super) fn hsts(&self) -> Option<&[u8]> {
        let settings = self.listener.tls.as_ref().filter(|_| self.peer.tls.is_some())?;
        settings.hsts.as_ref().map(Hsts::value)
    }

    /// Whether nothing may be waited for any longer: the process stops. A request that waits when a successor or another
    /// listener has taken over is still this one's to serve.
    pub(super) fn is_ending(&self) -> bool {
        self.worker.is_ending() || self.standing.is_cut.get()
    }

    /// Writes an answer of our own, with what the route adds, and closes the account.
    pub(super) async fn send_answer(
        &mut self,
        answer: &Answer,
        account: Option<&mut Account>,
        routed: Option<&Routed>,
        lease: Option<&Lease>,
        to_head: bool,
        afterwards: Afterwards,
    ) -> After {
        let mut out = self.worker.buffers.take();
        let body = {
            let mut date = self.worker.date.borrow_mut();
            answer.write(&mut out, to_head, afterwards, date.text(), routed, self.hsts())
        };
        self.deadline.arm(clock::now() + self.listener.write_timeout);
        let mut sent = 0;
        let written = poll_fn(|cx| self.poll_send(cx, &out, &mut sent)).await;
        self.worker.buffers.give(out);
        if let Some(account) = account {
            account.answered(answer.status);
            account.grpc = answer.grpc;
            account.sent = body as u64;
            account.close(lease, written.is_ok());
        }
        match (written, afterwards) {
            (Err(_), _) => After::BreakOff,
            (Ok(()), Afterwards::Closes) => After::Linger,
            (Ok(()), _) => After::Next,
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8], sent: &mut usize) -> Poll<io::Result<()>> {
        loop {
            let stream = Pin::new(&mut self.stream);
            let poll = match &bytes[*sent..] {
                [] => stream.poll_flush(cx).map_ok(|()| None),
                rest => stream.poll_write(cx, rest).map_ok(Some),
            };
            match poll {
                Poll::Pending if self.deadline.poll_due(cx) => {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                poll => match ready!(poll)? {
                    Some(taken) => *sent += taken,
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }

    /// Whether the client has reset the connection. One that closed its sending side (a half-close) still wants its
    /// answer; only a reset leaves an error on the socket.
    pub(super) fn is_reset(&self) -> bool {
        self.stream.is_reset()
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        self.held.clear(&self.worker.buffers);
    }
}
