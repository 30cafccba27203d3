//! One attempt on one upstream connection: the request goes up and the response comes down, both at once.
//!
//! Invariant: each direction reads only when what it read before has been taken by the other side, so a message of
//! any length takes one read's worth of memory. Nothing of a response goes down before its whole head was understood.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

pub(super) use self::patience::LOOK;
use self::{
    down::Down,
    patience::{Overdue, Patience},
};
use super::{
    clock, downstream::Downstream, handler::Request, outbox::Outbox, response_head::Afterwards,
    retry::Failure,
};

mod down;
mod drained;
mod patience;

/// One attempt.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    downstream: &'a mut Downstream,
    upstream: &'a mut TcpStream,
    /// Whether the upstream connection has served a request before.
    reused: bool,
    request: &'a mut Request,
    /// On the way up. At first the whole message, which stays in hand for another attempt.
    up: &'a mut Outbox,
    up_state: Up,
    /// Whether the request, as far as it was sent, is still in `up`.
    replayable: bool,
    down: Down,
    patience: Patience,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Up {
    Sending,
    Sent,
    /// No more of it can or need be sent; the upstream may have answered already.
    Failed,
}

/// How an attempt ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finished {
    /// The upstream connection can serve another request.
    pub(super) upstream_reusable: bool,
    /// The request was read to its end.
    pub(super) request_read: bool,
    /// What the response has told the client.
    pub(super) afterwards: Afterwards,
    /// What follows is a tunnel.
    pub(super) tunnel: bool,
}

/// How an attempt failed.
#[derive(Debug)]
pub(super) struct Failed {
    /// Why.
    pub(super) failure: Failure,
    /// Whether the whole request, as far as it was sent, is still in hand.
    pub(super) replayable: bool,
    /// Whether bytes have gone to the client behind which no other answer can come.
    pub(super) answered: bool,
}

impl<'a> Exchange<'a> {
    /// An attempt that has not begun. `up` holds the message.
    pub(super) fn new(
        downstream: &'a mut Downstream,
        upstream: &'a mut TcpStream,
        reused: bool,
        request: &'a mut Request,
        up: &'a mut Outbox,
        due: Option<Instant>,
    ) -> Self {
        let patience = Patience::new(clock::now(), due);
        let down = Down::default();
        Self {
            downstream,
            upstream,
            reused,
            request,
            up,
            up_state: Up::Sending,
            replayable: true,
            down,
            patience,
        }
    }

    /// Drives both directions until the response has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Finished, Failed>> {
        loop {
            if let Poll::Ready(result) = self.poll_both(cx) {
                return Poll::Ready(result.map_err(|failure| self.failed(failure)));
            }
            let next = self.patience.next(&self.downstream.listener);
            if !self.downstream.deadline.poll_at(cx, next) {
                return Poll::Pending;
            }
            if let Some(failure) = self.overdue() {
                return Poll::Ready(Err(self.failed(failure)));
            }
        }
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<Result<Finished, Failure>> {
        if self.up_state == Up::Sending {
            match self.poll_up(cx) {
                Poll::Ready(Ok(state)) => self.up_state = state,
                // The answer stands, whatever becomes of the rest of the request.
                Poll::Ready(Err(_)) if self.down.is_final() => self.up_state = Up::Failed,
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => {}
            }
            if self.up_state != Up::Sending {
                self.patience.stop_sending();
            }
        }
        ready!(self.poll_down(cx))?;
        Poll::Ready(Ok(Finished {
            upstream_reusable: self.down.keeps_alive && self.up_state == Up::Sent,
            request_read: self.request.body.is_done(),
            afterwards: self.down.afterwards,
            tunnel: self.down.is_tunnel(),
        }))
    }

    /// Sends the request: what is in hand, then what the client sends.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<Up, Failure>> {
        loop {
            match ready!(self.up.poll_flush(cx, self.upstream)) {
                Err(_) => return Poll::Ready(Ok(Up::Failed)),
                Ok(()) if self.request.body.is_done() => return Poll::Ready(Ok(Up::Sent)),
                Ok(()) => {}
            }
            let worker = &self.downstream.worker;
            let mut scratch = worker.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.downstream.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => {
                    // Who waits for a 100 that has not come owes nothing.
                    if !self.request.traits.expects_continue || self.down.continued || !self.replayable {
                        self.patience.await_sending(clock::now());
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                // The end of the connection within a request is no end of the request.
                Poll::Ready(_) => return Poll::Ready(Err(Failure::ClientGone)),
            }
            self.patience.stop_sending();
            self.replayable = false;
            let bytes = buffer.filled();
            let mut aside = worker.buffers.take();
            let passed = self.request.body.pass(bytes, &mut aside)?;
            if self.is_body_too_large() {
                return Poll::Ready(Err(Failure::ClientBodyTooLarge));
            }
            let sent = self.up.poll_send(cx, self.upstream, &bytes[..passed.direct], &aside);
            worker.buffers.give(aside);
            self.downstream.held.add(&bytes[passed.read..], &worker.buffers);
            if let Poll::Ready(Err(_)) = sent {
                return Poll::Ready(Ok(Up::Failed));
            }
        }
    }

    fn is_body_too_large(&self) -> bool {
        let most = self.request.routed.settings().max_body;
        most.is_some_and(|most| self.request.body.announced_bytes() > most)
    }

    /// What is over its time, if it is more than time to look at the client.
    fn overdue(&mut self) -> Option<Failure> {
        match self.patience.overdue(clock::now(), &self.downstream.listener)? {
            Overdue::Request => Some(Failure::TimedOut),
            Overdue::Reading => Some(Failure::ClientStalledReading),
            Overdue::Sending if self.down.is_final() => {
                self.up_state = Up::Failed;
                self.patience.stop_sending();
                None
            }
            Overdue::Sending => Some(Failure::ClientStalledSending),
            Overdue::Look => self.look(),
        }
    }

    fn failed(&self, failure: Failure) -> Failed {
        Failed {
            failure,
            replayable: self.replayable && self.down.is_untouched(),
            answered: self.down.has_answered(),
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.down.give_back(&self.downstream.worker.buffers);
    }
}
