//! The response's way down.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Begun, Exchange, Up, drained::is_event_stream};
use crate::{
    proxy::{
        attempt,
        buffers::Buffers,
        clock,
        outbox::Outbox,
        pin,
        request_head::trailers_to_drop,
        response_head::{Afterwards, Incoming},
        retry::Failure,
    },
    upstream::{drain::Stream, http2::Refusal},
    wire::{
        body::Body,
        fields::{Known, LIMITS, Progress},
        response::{ResponseBody, ResponseHead},
    },
};

/// Interim responses to one request.
const INTERIM: u32 = 16;

/// What has come of the response.
#[derive(Debug)]
pub(super) struct Down {
    outbox: Outbox,
    state: State,
    /// A part of a response head.
    held: Vec<u8>,
    /// How many interim responses have come.
    interim: u32,
    /// Whether the client was told to send its body.
    pub(super) continued: bool,
    /// How many bytes had gone down when the final response began.
    final_from: u64,
    /// Whether the upstream connection can serve another request, as far as the response tells.
    pub(super) keeps_alive: bool,
    /// What the client was told of its connection.
    pub(super) afterwards: Afterwards,
    /// Set while the response is an event stream.
    pub(super) stream: Option<Stream>,
}

#[derive(Debug)]
enum State {
    Head,
    Body(Body),
    /// All of it was read.
    Read,
    /// A 101 was read: what follows is a tunnel.
    Tunnel,
}

impl Default for Down {
    fn default() -> Self {
        Self {
            outbox: Outbox::default(),
            state: State::Head,
            held: Vec::new(),
            interim: 0,
            continued: false,
            final_from: 0,
            keeps_alive: false,
            afterwards: Afterwards::Closes,
            stream: None,
        }
    }
}

impl Down {
    /// Whether the final response has begun.
    pub(super) fn is_final(&self) -> bool {
        !matches!(self.state, State::Head)
    }

    /// Whether the response was a 101.
    pub(super) fn is_tunnel(&self) -> bool {
        matches!(self.state, State::Tunnel)
    }

    /// Whether nothing has come, not even a part of a head, so that another attempt is possible.
    pub(super) fn is_untouched(&self) -> bool {
        !self.is_final() && self.interim == 0 && self.held.is_empty()
    }

    /// What the client has of an answer: some of the final response, or a part of an interim one, is something behind
    /// which no other answer can come.
    pub(super) fn begun(&self) -> Begun {
        let has_begun = match self.is_final() {
            true => self.outbox.total() > self.final_from,
            // Whole interim responses wait there, which may as well not come.
            false => self.outbox.is_cut(),
        };
        match &self.state {
            _ if !has_begun => Begun::Nothing,
            State::Body(body) if body.ends_with_connection() => Begun::UntilClose,
            _ => Begun::Framed,
        }
    }

    /// Gives all buffers back.
    pub(super) fn give_back(&mut self, buffers: &Buffers) {
        buffers.give(std::mem::take(&mut self.held));
        self.outbox.give_back(buffers);
    }

    /// Ends a response before the upstream does, in a form that its client takes for a proper end; answers whether
    /// there is one here.
    pub(super) fn end_early(&mut self, buffers: &Buffers) -> bool {
        let State::Body(body) = &mut self.state else { return false };
        if !body.end_early(self.outbox.room(buffers)) {
            return false;
        }
        self.state = State::Read;
        self.keeps_alive = false;
        true
    }

    /// From here on bytes of the final response go down; until the first of them has, another answer is possible.
    fn begin_final(&mut self) {
        self.final_from = if self.outbox.is_cut() { 0 } else { self.outbox.total() };
    }
}

impl Exchange<'_> {
    /// Brings the response down. Ready when all of it has been taken by the client.
    pub(super) fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let worker = Rc::clone(&self.downstream.worker);
        loop {
            match self.down.outbox.poll_flush(cx, &mut self.downstream.stream) {
                Poll::Pending => {
                    self.patience.await_reading(clock::now(), self.down.outbox.total());
                    return Poll::Pending;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::ClientGone)),
                Poll::Ready(Ok(())) => self.patience.stop_reading(),
            }
            if matches!(self.down.state, State::Read | State::Tunnel) {
                return Poll::Ready(Ok(()));
            }
            let mut scratch = worker.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *self.upstream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => self.patience.stop_silence(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.upstream_ended(Some(error)))),
                Poll::Pending => {
                    if self.down.is_final() {
                        self.patience.await_stream(clock::now());
                    }
                    // A response that pauses holds no buffer.
                    self.down.outbox.give_back(&worker.buffers);
                    return Poll::Pending;
                }
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.take_end()?;
            } else if matches!(self.down.state, State::Head) {
                self.take_head(cx, bytes)?;
            } else {
                self.take_body(cx, bytes)?;
            }
        }
    }

    /// Takes in bytes of a response head, and what follows it.
    fn take_head(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Failure> {
        if self.down.held.is_empty() {
            return self.read_heads(cx, bytes);
        }
        self.down.held.extend_from_slice(bytes);
        if memchr::memchr(b'\n', bytes).is_none() && self.down.held.len() < LIMITS.head {
            return Ok(());
        }
        let held = std::mem::take(&mut self.down.held);
        let result = self.read_heads(cx, &held);
        self.downstream.worker.buffers.give(held);
        result
    }

    /// Reads interim heads and the final one from the start of `bytes`.
    fn read_heads(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) -> Result<(), Failure> {
        let worker = Rc::clone(&self.downstream.worker);
        let mut head = worker.response.borrow_mut();
        loop {
            match head.parse(bytes, self.request.traits.is_head, &LIMITS)? {
                Progress::Partial => {
                    if self.down.held.capacity() == 0 {
                        self.down.held = worker.buffers.take();
                    }
                    self.down.held.extend_from_slice(bytes);
                    return Ok(());
                }
                Progress::Complete(end) => {
                    let rest = &bytes[end..];
                    if !(100..200).contains(&head.status) {
                        if head.status >= 500
                            && let Some(failure) = self.is_refused(&head, bytes)
                        {
                            return Err(failure);
                        }
                        if self.request.traits.is_call
                            && let Some(failure) = self.is_refused_call()
                        {
                            return Err(failure);
                        }
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

    /// Whether this final response is given up for another attempt: it has one of the route's statuses, and no layer
    /// behind us has repeated the request already.
    #[cold]
    fn is_refused(&mut self, head: &ResponseHead, bytes: &[u8]) -> Option<Failure> {
        let is_asked_for = self.request.routed.settings().retries.statuses.contains(&head.status);
        let mut fields = head.fields.lines.iter();
        let was_repeated = fields.any(|field| {
            field.known == Known::SwitchbackAttempt && attempt::number(field.value.of(bytes)) > 1
        });
        if is_asked_for && !was_repeated {
            self.gives_way(Failure::UpstreamStatus(head.status))
        } else {
            None
        }
    }

    /// Whether a call of gRPC is given up for another attempt: all that has come is one of the route's statuses.
    #[cold]
    fn is_refused_call(&mut self) -> Option<Failure> {
        let status = self.upstream.sole_grpc_status()?;
        let is_asked_for = self.request.routed.settings().retries.grpc.contains(&status);
        if is_asked_for { self.gives_way(Failure::UpstreamGrpc(status)) } else { None }
    }

    /// Writes the head of the final response.
    fn begin_response(&mut self, head: &ResponseHead, bytes: &[u8]) {
        let traits = self.request.traits;
        let worker = &self.downstream.worker;
        let edits = &self.request.routed.settings().response_headers;
        let mut body = Body::of_response(head.body, traits.is_http11);
        body.drop_trailers(trailers_to_drop(edits, &head.fields, bytes));
        // An upstream that answers before it has the whole request may never read the rest of it, and would take that
        // rest for another request.
        self.down.keeps_alive = head.keeps_alive() && self.up_state == Up::Sent;
        // A request that is not read to its end now may never be; the client is told before it counts on more.
        let stays = traits.keeps_alive
            && self.request.body.is_done()
            && self.up_state != Up::Failed
            && (traits.is_http11 || !matches!(head.body, ResponseBody::Chunked | ResponseBody::UntilClose))
            && !self.downstream.is_leaving();
        self.down.afterwards = Afterwards::of(stays, traits.is_http11);
        self.down.begin_final();
        self.patience.head_came();
        let attempt = if head.status >= 500 { self.request.attempt_mark() } else { None };
        let out = self.down.outbox.room(&worker.buffers);
        let incoming = Incoming {
            buffer: bytes,
            head,
            routed: &self.request.routed,
            attempt,
            hsts: self.downstream.hsts(),
        };
        incoming.write(out, &body, self.down.afterwards, &worker.date);
        if self.request.session.is_some() {
            pin::add(out, self.request, worker);
        }
        self.request.account.answered(head.status);
        self.down.state = if body.is_done() { State::Read } else { State::Body(body) };
        if self.up_state == Up::Sent {
            // No other attempt will need it, and the response may be a long one.
            self.request.up.give_back(&worker.buffers, &worker.kept_bytes);
        }
        // What has a length has an end, and is no stream.
        if matches!(head.body, ResponseBody::Chunked | ResponseBody::UntilClose)
            && head.fields.value(bytes, "content-type", 0).is_some_and(is_event_stream)
        {
            self.open_stream();
            self.timed.forget();
        } else {
            self.timed.head_came(self.request);
        }
    }

    /// Writes the head that makes the connection a tunnel, and what the upstream has sent in it already.
    fn begin_tunnel(&mut self, head: &ResponseHead, bytes: &[u8], rest: &[u8]) -> Result<(), Failure> {
        let settings = self.request.routed.settings();
        let asked = self.request.traits.upgrade.map(|index| settings.upgrades[index].as_bytes());
        let switched = head.fields.value(bytes, "upgrade", 0);
        if !switched.zip(asked).is_some_and(|(switched, asked)| switched.eq_ignore_ascii_case(asked)) {
            return Err(Failure::UpstreamMalformed(
                "it switches to a protocol that was not asked for".into(),
            ));
        }
        self.down.begin_final();
        self.patience.head_came();
        let out = self.down.outbox.room(&self.downstream.worker.buffers);
        Incoming { buffer: bytes, head, routed: &self.request.routed, attempt: None, hsts: None }
            .write_upgrade(out);
        if self.request.session.is_some() {
            pin::add(out, self.request, &self.downstream.worker);
        }
        out.extend_from_slice(rest);
        self.request.account.sent += rest.len() as u64;
        self.request.account.answered(101);
        self.down.state = State::Tunnel;
        Ok(())
    }

    /// Passes an interim response on, to a client that knows them.
    fn interim(&mut self, head: &ResponseHead, bytes: &[u8]) -> Result<(), Failure> {
        self.down.interim += 1;
        if self.down.interim > INTERIM {
            return Err(Failure::UpstreamMalformed("it sends interim responses without end".into()));
        }
        let traits = self.request.traits;
        if traits.is_http11 && (head.status != 100 || traits.expects_continue) {
            self.down.continued |= head.status == 100;
            let out = self.down.outbox.room(&self.downstream.worker.buffers);
            Incoming { buffer: bytes, head, routed: &self.request.routed, attempt: None, hsts: None }
                .write_interim(out);
        }
        Ok(())
    }

    /// Passes bytes of the response's body on.
    fn take_body(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Failure> {
        let State::Body(body) = &mut self.down.state else {
            // Bytes behind a complete response belong to nothing: the connection has lost its meaning.
            self.down.keeps_alive &= bytes.is_empty();
            return Ok(());
        };
        let buffers = &self.downstream.worker.buffers;
        let mut aside = if body.is_plain() { Vec::new() } else { buffers.take() };
        let passed = match body.pass(bytes, &mut aside) {
            Ok(passed) => passed,
            Err(error) => {
                buffers.give(aside);
                return Err(Failure::UpstreamMalformed(error.to_string()));
            }
        };
        self.request.account.sent = body.data_bytes();
        self.down.keeps_alive &= passed.read == bytes.len();
        if body.is_done() {
            self.down.state = State::Read;
        }
        self.down.outbox.room(buffers);
        let sent =
            self.down.outbox.poll_send(cx, &mut self.downstream.stream, &bytes[..passed.direct], &aside);
        buffers.give(aside);
        match sent {
            Poll::Ready(Err(_)) => Err(Failure::ClientGone),
            _ => Ok(()),
        }
    }

    /// The upstream has ended its side.
    fn take_end(&mut self) -> Result<(), Failure> {
        self.down.keeps_alive = false;
        if let State::Body(body) = &mut self.down.state
            && body.end(self.down.outbox.room(&self.downstream.worker.buffers))
        {
            self.down.state = State::Read;
            return Ok(());
        }
        Err(self.upstream_ended(None))
    }

    /// What it means that the upstream's side ended here.
    fn upstream_ended(&self, error: Option<io::Error>) -> Failure {
        match self.down.state {
            State::Head if self.down.is_untouched() => {
                match self.upstream.refusal() {
                    None => {}
                    Some(Refusal::Gone) => return Failure::UpstreamRefused { is_gone: true },
                    Some(Refusal::Refused) => return Failure::UpstreamRefused { is_gone: false },
                    Some(Refusal::Unsayable) => return Failure::ClientUnsayable,
                }
                // Whether it was closed, reset or timed out is for the log alone.
                tracing::debug!(?error, "the upstream closed the connection without an answer");
                Failure::UpstreamSilent { reused: self.reused, wrote: self.request.up.sent() > 0 }
            }
            State::Head => Failure::UpstreamMalformed("it ends within its head".into()),
            _ => Failure::UpstreamTruncated,
        }
    }
}
