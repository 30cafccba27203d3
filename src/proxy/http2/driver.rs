//! The task that drives a connection: it takes streams, sends what they write, and ends the connection in time.
//!
//! Invariant: whatever the client does or leaves undone, there is a time at which the connection ends; and as long as a
//! client behaves, it ends by a GOAWAY that says which requests were taken (RFC 9113 6.8), so that none is lost.

use std::{
    cell::RefCell,
    future::{Future as _, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Connection, SendResponse},
};
use http::Request;

use super::{
    client::Client,
    limits::{self, LAST_WORD, LEAVE_WITHIN, QUIET_BEFORE_END},
    link::{Io, Link},
    stream::Stream,
};
use crate::{
    proxy::{
        clock,
        connection::{FIRST_REQUEST, serve_requests},
        downstream::Downstream,
        linger::linger,
        listener::Open,
        stream::ClientStream,
        tunnel::QUIET,
        worker::Phase,
    },
    telemetry::registry::GoAway,
};

/// A GOAWAY without an error, that names the highest stream there can be.
const GO_AWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// A connection and where it stands.
struct Driver {
    client: Rc<Client>,
    link: Rc<RefCell<Link>>,
    http2: Connection<Io, Bytes>,
    /// Whether it has had a stream.
    has_served: bool,
    /// Since when the client is told to connect anew.
    leaving_since: Option<Instant>,
    /// Whether no more streams are taken than are on the way.
    is_closing: bool,
    /// When it is closed, once it was ended for the client's fault or by a cut.
    ends_at: Option<Instant>,
    /// Since when it has no stream.
    idle_since: Option<Instant>,
    /// Since when a block of fields is not whole.
    fields_since: Option<Instant>,
    /// Since when the client takes no byte, and how many it had taken then.
    stalled: Option<(Instant, u64)>,
    /// When it is asked to leave though no request has come.
    last_chance: Option<Instant>,
}

/// Serves a connection to its end. What was read of it already is held in `downstream`.
pub(in crate::proxy) async fn serve(downstream: Downstream, open: Open) {
    let client = Rc::new(Client::new(&downstream, open));
    let link = Rc::new(RefCell::new(Link::new(downstream)));
    if let Some(http2) = begin(&client, &link).await {
        let mut driver = Driver::new(client, Rc::clone(&link), http2);
        poll_fn(|cx| driver.poll(cx)).await;
    }
    // Whoever else held it went with the connection.
    if let Some(link) = Rc::into_inner(link) {
        let mut link = link.into_inner();
        linger(&mut link.downstream).await;
    }
}

/// Waits for what a connection begins with; `None` if it does not come, or is something else.
async fn begin(client: &Rc<Client>, link: &Rc<RefCell<Link>>) -> Option<Connection<Io, Bytes>> {
    let mut handshake = pin!(limits::handshake(Io(Rc::clone(link)), &client.listener));
    let mut due = clock::now() + client.listener.head_timeout;
    poll_fn(|cx| {
        let begun = handshake.as_mut().poll(cx);
        let mut link = link.borrow_mut();
        // Our settings go out while the client's are waited for.
        if let Poll::Ready(Err(_)) = link.poll_send(cx) {
            return Poll::Ready(None);
        }
        if let Poll::Ready(begun) = begun {
            return Poll::Ready(begun.ok());
        }
        if client.standing.is_cut.get() {
            return Poll::Ready(None);
        }
        if client.worker.phase.get() >= Phase::Draining {
            due = due.min(clock::now() + FIRST_REQUEST);
        }
        if link.downstream.deadline.poll_at(cx, due) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

impl Driver {
    fn new(client: Rc<Client>, link: Rc<RefCell<Link>>, http2: Connection<Io, Bytes>) -> Self {
        Self {
            client,
            link,
            http2,
            has_served: false,
            leaving_since: None,
            is_closing: false,
            ends_at: None,
            idle_since: None,
            fields_since: None,
            stalled: None,
            last_chance: None,
        }
    }

    /// Drives the connection until it has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.note_driver(cx.waker());
        loop {
            let is_over = self.poll_streams(cx).is_ready();
            // By now what was written of them has gone into frames, as far as it can.
            if !is_over && self.client.break_off_now() {
                continue;
            }
            let sent = self.link.borrow_mut().poll_send(cx);
            if is_over || matches!(sent, Poll::Ready(Err(_))) {
                return Poll::Ready(());
            }
            let now = clock::now();
            self.look(now, sent.is_pending());
            if self.ends_for_cause(now) {
                continue;
            }
            let due = self.due().unwrap_or_else(|| now + QUIET);
            if !self.link.borrow().downstream.deadline.poll_at(cx, due) {
                return Poll::Pending;
            }
            if self.is_overdue(clock::now()) {
                return Poll::Ready(());
            }
        }
    }

    /// Takes the streams that have come. Ready when the connection has ended.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.http2.poll_accept(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok((request, respond)))) => self.take(request, respond),
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Ready(Some(Err(error))) => {
                    // The h2 crate has told the client why, unless the client was the one to go.
                    if error.is_library() && error.is_go_away() {
                        let is_flood = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
                        self.count(if is_flood { GoAway::Flood } else { GoAway::Malformed });
                    }
                    tracing::debug!(%error, client = %self.client.peer.ip, "an HTTP/2 connection failed");
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Has a stream served, in a task of its own.
    fn take(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        self.has_served = true;
        let client = &self.client;
        let Some(place) = client.place() else {
            // Nothing of it was done: its client may send it again, elsewhere (RFC 9113 8.7).
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        };
        let Some(stream) = Stream::new(client, request, respond) else { return };
        let downstream = Downstream::of(
            Rc::clone(&client.worker),
            Rc::clone(&client.standing),
            Rc::clone(&client.listener),
            ClientStream::Http2(Box::new(stream)),
            client.peer.clone(),
        );
        tokio::task::spawn_local(async move {
            let mut downstream = downstream;
            serve_requests(&mut downstream).await;
            drop(downstream);
            drop(place);
        });
    }

    /// Notes since when what lasts.
    fn look(&mut self, now: Instant, is_stalled: bool) {
        let mut link = self.link.borrow_mut();
        for _ in 0..self.client.answered.take() {
            link.meter.answered();
        }
        if self.client.streams() > 0 {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(now);
            link.rest();
        }
        if link.meter.is_within_fields() {
            self.fields_since.get_or_insert(now);
        } else {
            self.fields_since = None;
        }
        if !is_stalled {
            self.stalled = None;
        } else if self.stalled.is_none_or(|(_, taken)| taken != link.total()) {
            self.stalled = Some((now, link.total()));
        }
    }

    /// Begins to end the connection if there is a cause; answers whether it did.
    fn ends_for_cause(&mut self, now: Instant) -> bool {
        if self.ends_at.is_some() {
            return false;
        }
        let client = &self.client;
        if self.link.borrow().meter.is_flooded() {
            self.end(GoAway::Flood, Reason::ENHANCE_YOUR_CALM, now);
            return true;
        }
        if client.standing.is_cut.get() {
            self.end(GoAway::Leaving, Reason::NO_ERROR, now);
            return true;
        }
        if let Some(since) = self.leaving_since {
            let is_time = self.is_quiet_at().is_some_and(|at| at <= now) || since + LEAVE_WITHIN <= now;
            return is_time && self.close(now);
        }
        if !(client.worker.is_leaving() || client.standing.is_closed.get()) {
            return false;
        }
        if self.has_served {
            return self.leave(GoAway::Leaving, now);
        }
        // Its client has only just connected, and its first request is on the way.
        if client.worker.phase.get() >= Phase::HandedOver || client.standing.is_closed.get() {
            self.last_chance.get_or_insert(now + FIRST_REQUEST);
        }
        false
    }

    /// When a client that was asked to leave has had no request in flight for long enough.
    fn is_quiet_at(&self) -> Option<Instant> {
        Some(self.leaving_since?.max(self.idle_since?) + QUIET_BEFORE_END)
    }

    /// When something is due, if anything is.
    fn due(&self) -> Option<Instant> {
        let settings = &self.client.listener;
        let idle = if self.is_closing { FIRST_REQUEST } else { settings.keep_alive_timeout };
        let leaving = self.leaving_since.filter(|_| !self.is_closing).map(|since| since + LEAVE_WITHIN);
        let quiet = self.is_quiet_at().filter(|_| !self.is_closing);
        let stalled = self.stalled.map(|(since, _)| since + settings.write_timeout);
        let fields = self.fields_since.map(|since| since + settings.head_timeout);
        // What a client has not taken yet is waited for by its own time, and one that leaves for it to be quiet.
        let is_waited_for = self.stalled.is_none() && (self.leaving_since.is_none() || self.is_closing);
        let idle = self.idle_since.filter(|_| is_waited_for).map(|since| since + idle);
        let last_chance = self.last_chance.filter(|_| self.leaving_since.is_none());
        // Once it was ended there is nothing else to wait for.
        self.ends_at
            .or_else(|| [stalled, fields, idle, leaving, quiet, last_chance].into_iter().flatten().min())
    }

    /// Does what is due; answers whether the connection is closed for it, without a word.
    fn is_overdue(&mut self, now: Instant) -> bool {
        let is_past = |since: Option<Instant>, time| since.is_some_and(|since| since + time <= now);
        let settings = Rc::clone(&self.client.listener);
        if let Some(ends_at) = self.ends_at {
            return ends_at <= now;
        }
        if is_past(self.stalled.map(|(since, _)| since), settings.write_timeout) {
            // A word would wait behind what the client does not take.
            self.count(GoAway::Slow);
            return true;
        }
        if is_past(self.fields_since, settings.head_timeout) {
            self.end(GoAway::Slow, Reason::ENHANCE_YOUR_CALM, now);
        } else if self.leaving_since.is_none() && self.last_chance.is_some_and(|at| at <= now) {
            self.leave(GoAway::Leaving, now);
        } else if self.leaving_since.is_some() {
            return self.is_closing && self.stalled.is_none() && is_past(self.idle_since, FIRST_REQUEST);
        } else if is_past(self.idle_since, settings.keep_alive_timeout) {
            self.leave(GoAway::Idle, now);
        }
        false
    }

    /// Asks the client to connect anew, by a GOAWAY that refuses nothing (RFC 9113 6.8). Answers whether it could be.
    ///
    /// The h2 crate would say at once, and a round trip later finally, which stream is the last. Clients that go on to
    /// open streams until they hear that, as those of the h2 crate do, would lose some: they answer its PING before they send
    /// the requests that they had taken on. So here it follows when the client has had none in flight for a while.
    fn leave(&mut self, why: GoAway, now: Instant) -> bool {
        if !self.link.borrow_mut().add_frame(&GO_AWAY) {
            return false;
        }
        self.count(why);
        self.leaving_since = Some(now);
        true
    }

    /// Takes no more streams but those on the way; answers whether that is news. The connection ends with them.
    fn close(&mut self, now: Instant) -> bool {
        if std::mem::replace(&mut self.is_closing, true) {
            return false;
        }
        self.idle_since = self.idle_since.map(|_| now);
        self.http2.graceful_shutdown();
        true
    }

    /// Ends the connection with all that is on it.
    fn end(&mut self, why: GoAway, reason: Reason, now: Instant) {
        self.count(why);
        self.ends_at = Some(now + LAST_WORD);
        self.http2.abrupt_shutdown(reason);
    }

    fn count(&self, why: GoAway) {
        self.client.worker.counts.http2_goaways[why as usize].add(1);
    }
}
