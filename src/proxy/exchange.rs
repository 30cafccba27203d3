//! One attempt on one upstream connection: the request goes up and the response comes down, both at once.
//!
//! Invariant: each direction reads only when what it read before has been taken by the other side, so a message of
//! any length takes one read's worth of memory. Nothing of a response goes down before its whole head was understood.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, ReadBuf};

pub(super) use self::patience::LOOK;
use self::{
    down::Down,
    patience::{Overdue, Patience},
};
use super::{
    admission::Timed, attempt::Next, clock, downstream::Downstream, handler::Request,
    response_head::Afterwards, retry::Failure, tunnel::QUIET,
};
use crate::{telemetry::causes::TimeoutKind, upstream::stream::UpstreamStream};

mod down;
mod drained;
mod patience;

/// One attempt.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    downstream: &'a mut Downstream,
    upstream: &'a mut UpstreamStream,
    /// Whether the upstream connection has served a request before.
    reused: bool,
    request: &'a mut Request,
    up_state: Up,
    down: Down,
    patience: Patience,
    timed: Timed,
    /// Whether the runtime wakes this task when something comes from the client, be it a reset.
    is_watched: bool,
    /// Where the next attempt goes, once it was decided that this one is given up.
    next: Option<Box<Next>>,
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
    /// Where the next attempt goes, if there is one.
    pub(super) next: Option<Box<Next>>,
    /// What the client has of an answer.
    pub(super) begun: Begun,
}

/// What the client has of an answer when an attempt fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// Nothing behind which no other answer could come.
    Nothing,
    /// Some of one whose length or chunks show that it was cut.
    Framed,
    /// Some of one that the connection's end completes, so that only a reset shows that it was cut.
    UntilClose,
}

impl<'a> Exchange<'a> {
    /// An attempt that has not begun.
    pub(super) fn new(
        downstream: &'a mut Downstream,
        upstream: &'a mut UpstreamStream,
        reused: bool,
        request: &'a mut Request,
        per_try: Option<Instant>,
    ) -> Self {
        let patience = Patience::new(clock::now(), request.attempts.due, per_try);
        let timed = Timed::begin(request);
        let down = Down::default();
        Self {
            downstream,
            upstream,
            reused,
            request,
            up_state: Up::Sending,
            down,
            patience,
            timed,
            is_watched: false,
            next: None,
        }
    }

    /// Drives both directions until the response has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Finished, Failed>> {
        loop {
            if let Poll::Ready(result) = self.poll_both(cx) {
                return Poll::Ready(result.map_err(|failure| self.failed(failure)));
            }
            if (self.is_watched || self.downstream.standing.is_cut.get()) && self.is_client_gone(cx) {
                return Poll::Ready(Err(self.failed(Failure::ClientGone)));
            }
            let stream_idle = self.request.routed.settings().stream_idle_timeout;
            let next = self.patience.next(&self.downstream.listener, stream_idle);
            let next = next.unwrap_or_else(|| clock::now() + QUIET);
            if !self.downstream.deadline.poll_at(cx, next) {
                return Poll::Pending;
            }
            if let Some(failure) = self.overdue(cx, stream_idle) {
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
                if let (Some(time), false) =
                    (self.request.routed.settings().first_byte_timeout, self.down.is_final())
                {
                    self.patience.await_head(clock::now() + time);
                }
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
            match ready!(self.request.up.poll_flush(cx, self.upstream)) {
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
                    if !self.request.traits.expects_continue
                        || self.down.continued
                        || self.request.up.has_streamed()
                    {
                        self.patience.await_sending(clock::now());
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                // The end of the connection within a request is no end of the request.
                Poll::Ready(_) => return Poll::Ready(Err(Failure::ClientGone)),
            }
            self.patience.sending_came(clock::now());
            let bytes = buffer.filled();
            let mut aside = worker.buffers.take();
            let passed = self.request.body.pass(bytes, &mut aside)?;
            if self.is_body_too_large() {
                return Poll::Ready(Err(Failure::ClientBodyTooLarge));
            }
            let parts = (&bytes[..passed.direct], &*aside);
            let sent =
                self.request.up.poll_send(cx, self.upstream, parts, (&worker.buffers, &worker.kept_bytes));
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
    fn overdue(&mut self, cx: &mut Context<'_>, stream_idle: Option<Duration>) -> Option<Failure> {
        match self.patience.overdue(clock::now(), &self.downstream.listener, stream_idle)? {
            Overdue::Upstream(TimeoutKind::PerTry) => {
                if self.patience.awaits_sending() {
                    // It is the client that takes its time; another endpoint would wait for it as long.
                    self.patience.try_until(self.request.per_try_due(clock::now()));
                    return None;
                }
                // An attempt that is the last one after all goes on.
                self.patience.try_until(None);
                self.gives_way(Failure::TimedOut(TimeoutKind::PerTry))
            }
            Overdue::Upstream(kind) => Some(self.late(kind)),
            Overdue::Reading => Some(Failure::ClientStalledReading),
            Overdue::Sending if self.down.is_final() => {
                self.up_state = Up::Failed;
                self.patience.stop_sending();
                None
            }
            Overdue::Sending => Some(Failure::ClientStalledSending),
            Overdue::Look => {
                self.patience.look_no_more();
                self.look(cx)
            }
        }
    }

    /// Whose time it was that is over. The route's time for the request is the client's, too, and that of attempts
    /// before: it is the endpoint's if that alone was waited for, for a good part of it.
    #[cold]
    fn late(&self, kind: TimeoutKind) -> Failure {
        let owes = self.patience.awaits_sending();
        let is_its = match kind {
            TimeoutKind::Request => {
                let since = match self.down.is_final() {
                    // A stream is silent as long as there is nothing to tell.
                    _ if owes || self.down.stream.is_some() => None,
                    false => Some(self.patience.asked_since()),
                    true => self.patience.silent_since(),
                };
                since.is_some_and(|since| self.request.is_used_up_since(since))
            }
            TimeoutKind::StreamIdle => !owes,
            _ => true,
        };
        Failure::of_time(kind, is_its)
    }

    /// Whether the client has reset the connection. One that closed its sending side (a half-close) still wants its
    /// answer.
    ///
    /// A client that has sent nothing more is watched by the runtime from here on, so that however many requests
    /// wait for however long, each is looked at once. When a drain begins, all are woken, and those on the endpoint
    /// look regularly from then on.
    fn is_client_gone(&mut self, cx: &mut Context<'_>) -> bool {
        if self.downstream.standing.is_cut.get() {
            return true;
        }
        let mut byte = [0];
        let peeked = self.downstream.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte));
        self.is_watched = peeked.is_pending();
        // Behind bytes of a next request, or the end of its side, a reset shows as an error of the socket alone.
        // And while the endpoint drains, its deadline may have come at any look.
        if !self.is_watched || self.request.lease.occupancy.is_draining() {
            self.patience.look_by(clock::now() + LOOK);
        } else {
            self.patience.look_no_more();
        }
        match peeked {
            Poll::Pending => false,
            Poll::Ready(Err(_)) => true,
            Poll::Ready(Ok(_)) => self.downstream.is_reset(),
        }
    }

    /// Gives the attempt up after what would not end it, if another will be made; answers the failure that says so.
    #[cold]
    fn gives_way(&mut self, failure: Failure) -> Option<Failure> {
        self.next = self.request.next(self.downstream, &failure, self.down.is_untouched());
        self.next.is_some().then_some(failure)
    }

    #[cold]
    fn failed(&mut self, failure: Failure) -> Failed {
        self.timed.failed(self.request, &failure);
        let decided = self.next.take();
        let next = decided.or_else(|| self.request.next(self.downstream, &failure, self.down.is_untouched()));
        Failed { failure, next, begun: self.down.begun() }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.down.give_back(&self.downstream.worker.buffers);
    }
}
