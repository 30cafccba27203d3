//! One attempt on one upstream connection: the request goes up and the response comes down, both at once.
//!
//! Invariant: each direction reads only when what it read before has been taken by the other side, so a message of
//! any length takes one read's worth of memory. Nothing of a response goes down before its whole head was understood.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

use super::{
    clock,
    connection::Downstream,
    handler::{Request, Traits},
    outbox::Outbox,
    request_id::RequestId,
    response_head::{Afterwards, Incoming},
    retry::Failure,
};
use crate::wire::{
    body::Body,
    fields::{LIMITS, Progress},
    response::{ResponseBody, ResponseHead},
};

/// While a request waits, its client is looked at this often: has it reset the connection?
const LOOK: Duration = Duration::from_millis(500);
/// Interim responses to one request.
const INTERIM: u32 = 16;

/// One attempt.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    downstream: &'a mut Downstream,
    upstream: &'a mut TcpStream,
    reused: bool,
    request: &'a mut Request,
    /// On the way up. At first the whole message, which stays in hand for another attempt.
    up: &'a mut Outbox,
    up_state: Up,
    /// Whether the request, as far as it was sent, is still in `up`.
    replayable: bool,
    /// On the way down.
    down: Outbox,
    down_state: Down,
    /// A part of a response head.
    held: Vec<u8>,
    interim: u32,
    keeps_alive: bool,
    afterwards: Afterwards,
    /// Since when a client owes us bytes of its body, or is owed bytes that it does not take.
    waiting: Option<(Owes, Instant)>,
    due: Option<Instant>,
    /// When the client is looked at.
    look_at: Instant,
    /// How many bytes had gone down when the final response began.
    final_from: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Up {
    Sending,
    Sent,
    /// The upstream takes no more; it may have answered already.
    Failed,
}

#[derive(Debug)]
enum Down {
    Head,
    Body(Body),
    /// All of it was read.
    Read,
    /// A 101 was read: what follows is a tunnel.
    Tunnel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owes {
    Sending,
    Reading,
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
    /// Whether any byte of a final response's head has gone to the client, so that no other answer can.
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
        Self {
            downstream,
            upstream,
            reused,
            request,
            up,
            up_state: Up::Sending,
            replayable: true,
            down: Outbox::default(),
            down_state: Down::Head,
            held: Vec::new(),
            interim: 0,
            keeps_alive: false,
            afterwards: Afterwards::Closes,
            waiting: None,
            due,
            look_at: clock::now() + LOOK,
            final_from: 0,
        }
    }

    /// Drives both directions until the response has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Finished, Failed>> {
        loop {
            self.waiting = self.waiting.filter(|(owes, _)| *owes == Owes::Sending || !self.down.is_flushed());
            match self.poll_both(cx) {
                Poll::Ready(result) => return Poll::Ready(result.map_err(|failure| self.failed(failure))),
                Poll::Pending => {}
            }
            // The time that was armed before counts: arming anew first would put the look at the client off for ever.
            let was_due = self.downstream.deadline.poll_due(cx);
            self.arm();
            if !was_due && !self.downstream.deadline.poll_due(cx) {
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
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Ready(Ok(state)) => self.up_state = state,
                Poll::Pending => {}
            }
        }
        ready!(self.poll_down(cx))?;
        let request_read = self.request.body.is_done();
        Poll::Ready(Ok(Finished {
            upstream_reusable: self.keeps_alive && self.up_state == Up::Sent,
            request_read,
            afterwards: self.afterwards,
            tunnel: matches!(self.down_state, Down::Tunnel),
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
                    self.waiting.get_or_insert_with(|| (Owes::Sending, clock::now()));
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                // The end of the connection within a request is no end of the request.
                Poll::Ready(_) => return Poll::Ready(Err(Failure::ClientGone)),
            }
            self.waiting = self.waiting.filter(|(owes, _)| *owes != Owes::Sending);
            self.replayable = false;
            let bytes = buffer.filled();
            let mut aside = worker.buffers.take();
            let passed = self.request.body.pass(bytes, &mut aside)?;
            if self.is_body_too_large() {
                return Poll::Ready(Err(Failure::ClientBodyTooLarge));
            }
            let rest = &bytes[passed.read..];
            let sent = self.up.poll_send(cx, self.upstream, &bytes[..passed.direct], &aside);
            worker.buffers.give(aside);
            if !rest.is_empty() {
                if self.downstream.held.capacity() == 0 {
                    self.downstream.held = worker.buffers.take();
                }
                self.downstream.held.extend_from_slice(rest);
            }
            if let Poll::Ready(Err(_)) = sent {
                return Poll::Ready(Ok(Up::Failed));
            }
        }
    }

    fn is_body_too_large(&self) -> bool {
        let most = self.request.table.routes[self.request.route].settings.max_body;
        most.is_some_and(|most| self.request.body.announced_bytes() > most)
    }

    /// Brings the response down. Ready when all of it has been taken by the client.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            match self.down.poll_flush(cx, &mut self.downstream.stream) {
                Poll::Pending => {
                    self.waiting.get_or_insert_with(|| (Owes::Reading, clock::now()));
                    return Poll::Pending;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::ClientGone)),
                Poll::Ready(Ok(())) if matches!(self.down_state, Down::Read | Down::Tunnel) => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(())) => {}
            }
            self.waiting = self.waiting.filter(|(owes, _)| *owes != Owes::Reading);
            let worker = std::rc::Rc::clone(&self.downstream.worker);
            let mut scratch = worker.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut *self.upstream).poll_read(cx, &mut buffer)) {
                Ok(()) => {}
                Err(error) => return Poll::Ready(Err(self.upstream_ended(Some(error)))),
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.take_end()?;
                continue;
            }
            if matches!(self.down_state, Down::Head) {
                self.take_head(cx, bytes)?;
            } else {
                self.take_body(cx, bytes)?;
            }
        }
    }

    /// Takes in bytes of a response head, and what follows it.
    fn take_head(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Failure> {
        if self.held.is_empty() {
            return self.read_heads(cx, bytes);
        }
        self.held.extend_from_slice(bytes);
        if memchr::memchr(b'\n', bytes).is_none() && self.held.len() < LIMITS.head {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        let result = self.read_heads(cx, &held);
        self.downstream.worker.buffers.give(held);
        result
    }

    /// Reads interim heads and the final one from the start of `bytes`.
    fn read_heads(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) -> Result<(), Failure> {
        let worker = std::rc::Rc::clone(&self.downstream.worker);
        let mut head = worker.response.borrow_mut();
        loop {
            match head.parse(bytes, self.request.traits.is_head, &LIMITS)? {
                Progress::Partial => {
                    if self.held.capacity() == 0 {
                        self.held = worker.buffers.take();
                    }
                    self.held.extend_from_slice(bytes);
                    return Ok(());
                }
                Progress::Complete(end) => {
                    let rest = &bytes[end..];
                    if !(100..200).contains(&head.status) {
                        self.begin_response(&head, bytes);
                        return self.take_body(cx, rest);
                    }
                    if head.status == 101 {
                        return self.begin_tunnel(&head, bytes, rest);
                    }
                    self.interim(&head, bytes)?;
                    if rest.is_empty() {
                        return Ok(());
                    }
                    bytes = rest;
                }
            }
        }
    }

    /// Writes the head of the final response.
    fn begin_response(&mut self, head: &ResponseHead, bytes: &[u8]) {
        let Traits { is_http11, keeps_alive, .. } = self.request.traits;
        let body = Body::of_response(head.body, is_http11);
        self.keeps_alive = head.keeps_alive();
        // A request that is not read to its end now may never be; the client is told before it counts on more.
        let stays = keeps_alive
            && self.request.body.is_done()
            && self.up_state != Up::Failed
            && (is_http11 || !matches!(head.body, ResponseBody::Chunked | ResponseBody::UntilClose))
            && !self.downstream.worker.is_leaving();
        self.afterwards = match (stays, is_http11) {
            (false, _) => Afterwards::Closes,
            (true, true) => Afterwards::Stays,
            (true, false) => Afterwards::StaysAndSaysSo,
        };
        self.begin_final();
        let edits = &self.request.table.routes[self.request.route].settings.response_headers;
        let incoming = Incoming { buffer: bytes, head, edits };
        let mut date = self.downstream.worker.date.borrow_mut();
        let id = self.request.request_id.as_deref().map(RequestId::text);
        incoming.write(&mut self.down.bytes, &body, self.afterwards, date.text(), id);
        self.request.account.answered(head.status);
        self.down_state = if body.is_done() { Down::Read } else { Down::Body(body) };
    }

    /// Writes the head that makes the connection a tunnel, and what the upstream has sent in it already.
    fn begin_tunnel(&mut self, head: &ResponseHead, bytes: &[u8], rest: &[u8]) -> Result<(), Failure> {
        let upgrades = &self.request.table.routes[self.request.route].settings.upgrades;
        let asked = self.request.traits.upgrade.map(|index| upgrades[index].as_bytes());
        let switched = head.fields.value(bytes, "upgrade", 0);
        if !switched.zip(asked).is_some_and(|(switched, asked)| switched.eq_ignore_ascii_case(asked)) {
            return Err(Failure::UpstreamMalformed(
                "it switches to a protocol that was not asked for".into(),
            ));
        }
        self.begin_final();
        let edits = &self.request.table.routes[self.request.route].settings.response_headers;
        Incoming { buffer: bytes, head, edits }.write_upgrade(&mut self.down.bytes);
        self.down.bytes.extend_from_slice(rest);
        self.request.account.sent += rest.len() as u64;
        self.request.account.answered(101);
        self.down_state = Down::Tunnel;
        Ok(())
    }

    /// Passes an interim response on, to a client that knows them.
    fn interim(&mut self, head: &ResponseHead, bytes: &[u8]) -> Result<(), Failure> {
        self.interim += 1;
        if self.interim > INTERIM {
            return Err(Failure::UpstreamMalformed("it sends interim responses without end".into()));
        }
        let traits = self.request.traits;
        if traits.is_http11 && (head.status != 100 || traits.expects_continue) {
            self.make_room_down();
            let edits = &self.request.table.routes[self.request.route].settings.response_headers;
            Incoming { buffer: bytes, head, edits }.write_interim(&mut self.down.bytes);
        }
        Ok(())
    }

    /// From here on bytes of the final response go down; until the first of them has, another answer is possible.
    fn begin_final(&mut self) {
        self.make_room_down();
        self.final_from = if self.down.is_flushed() { self.down.total() } else { 0 };
    }

    fn make_room_down(&mut self) {
        if self.down.bytes.capacity() == 0 {
            self.down = Outbox::new(self.downstream.worker.buffers.take());
        }
    }

    /// Passes bytes of the response's body on.
    fn take_body(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Failure> {
        let Down::Body(body) = &mut self.down_state else {
            // Bytes behind a complete response belong to nothing: the connection has lost its meaning.
            self.keeps_alive &= bytes.is_empty();
            return Ok(());
        };
        let worker = &self.downstream.worker;
        let mut aside = worker.buffers.take();
        let passed = body.pass(bytes, &mut aside);
        let Ok(passed) = passed else {
            worker.buffers.give(aside);
            return Err(Failure::UpstreamTruncated);
        };
        self.request.account.sent = body.data_bytes();
        self.keeps_alive &= passed.read == bytes.len();
        if body.is_done() {
            self.down_state = Down::Read;
        }
        let sent = self.down.poll_send(cx, &mut self.downstream.stream, &bytes[..passed.direct], &aside);
        worker.buffers.give(aside);
        match sent {
            Poll::Ready(Err(_)) => Err(Failure::ClientGone),
            _ => Ok(()),
        }
    }

    /// The upstream has ended its side.
    fn take_end(&mut self) -> Result<(), Failure> {
        self.keeps_alive = false;
        if let Down::Body(body) = &mut self.down_state
            && body.end(&mut self.down.bytes)
        {
            self.down_state = Down::Read;
            return Ok(());
        }
        Err(self.upstream_ended(None))
    }

    /// What it means that the upstream's side ended here.
    fn upstream_ended(&self, error: Option<io::Error>) -> Failure {
        match self.down_state {
            Down::Head if self.held.is_empty() && self.interim == 0 => {
                // A timed-out or unreachable established connection is silent, too; the cause goes to the log alone.
                tracing::debug!(error = ?error, "the upstream closed the connection without an answer");
                Failure::UpstreamSilent { reused: self.reused, wrote: self.up.total() > 0 }
            }
            Down::Head => Failure::UpstreamMalformed("it ends within its head".into()),
            _ => Failure::UpstreamTruncated,
        }
    }

    fn failed(&mut self, failure: Failure) -> Failed {
        let is_final = !matches!(self.down_state, Down::Head);
        // After an interim response an answer may still follow, but no other attempt.
        let replayable = self.replayable && !is_final && self.interim == 0;
        Failed { failure, replayable, answered: is_final && self.down.total() > self.final_from }
    }

    /// Sets the deadline to whatever is due first.
    fn arm(&self) {
        let owed = self.waiting.map(|(owes, since)| since + self.patience(owes));
        let due = [owed, self.due].into_iter().flatten().fold(self.look_at, Instant::min);
        self.downstream.deadline.arm(due);
    }

    fn patience(&self, owes: Owes) -> Duration {
        match owes {
            Owes::Sending => self.downstream.listener.body_timeout,
            Owes::Reading => self.downstream.listener.write_timeout,
        }
    }

    /// What is over its time, if it is more than time to look at the client.
    fn overdue(&mut self) -> Option<Failure> {
        let now = clock::now();
        self.look_at = now + LOOK;
        if self.due.is_some_and(|due| due <= now) {
            return Some(Failure::TimedOut);
        }
        if let Some((owes, since)) = self.waiting
            && since + self.patience(owes) <= now
        {
            return Some(match owes {
                Owes::Sending => Failure::ClientStalledSending,
                Owes::Reading => Failure::ClientStalledReading,
            });
        }
        // A client that closed its sending side (a half-close) still wants its answer; one that has reset the
        // connection does not, and only that leaves an error on the socket.
        match self.downstream.stream.take_error() {
            Ok(None) => None,
            Ok(Some(_)) | Err(_) => Some(Failure::ClientGone),
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        let buffers = &self.downstream.worker.buffers;
        buffers.give(std::mem::take(&mut self.held));
        buffers.give(std::mem::take(&mut self.down.bytes));
    }
}
