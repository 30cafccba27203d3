//! The engine's response on its way into frames.
//!
//! Invariant: bytes are taken only as far as the client's windows let them go out, so a client that takes nothing holds
//! nothing but what it has asked for. END_STREAM goes out for a response that is whole, and for no other.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderName, HeaderValue, Response as HttpResponse, StatusCode};

use super::{chunks::Chunks, client::Client};
use crate::wire::{
    fields::{Known, KnownSet, Limits, Progress},
    response::{ResponseBody, ResponseHead},
};

/// The head is the engine's own, and holds what a route adds to one that was within the limits of heads.
const OWN: Limits = Limits { target: 0, head: 1 << 20, fields: 512 };

/// The fields of a connection of HTTP/1.1, which HTTP/2 has no use for (RFC 9113 8.2.2).
const OF_THE_CONNECTION: KnownSet = KnownSet::of(&[
    Known::Connection,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::Te,
    Known::TransferEncoding,
    Known::Upgrade,
]);

/// A response on its way to the client.
#[derive(Debug)]
pub(super) struct Response {
    state: State,
    /// It answers a HEAD request.
    is_to_head: bool,
}

#[derive(Debug)]
enum State {
    /// Its head is still to come; a part of it may have.
    Head(SendResponse<Bytes>, Vec<u8>),
    Length(SendStream<Bytes>, u64),
    Chunks(SendStream<Bytes>, Chunks),
    /// All of it has gone out.
    Ended,
}

impl Response {
    pub(super) fn new(respond: SendResponse<Bytes>, is_to_head: bool) -> Self {
        Self { state: State::Head(respond, Vec::new()), is_to_head }
    }

    /// Takes bytes of the engine's response; answers how many.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        client: &Client,
    ) -> Poll<io::Result<usize>> {
        let (taken, is_ended) = match &mut self.state {
            State::Head(..) => return Poll::Ready(self.take_head(bytes, client)),
            State::Length(stream, left) => ready!(poll_plain(stream, left, cx, bytes))?,
            State::Chunks(stream, chunks) => ready!(poll_chunks(stream, chunks, cx, bytes))?,
            State::Ended => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        if is_ended {
            self.end(client);
        }
        Poll::Ready(Ok(taken))
    }

    /// Waits until the client resets the stream, or is gone.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state {
            State::Head(respond, _) => respond.poll_reset(cx).map(drop),
            State::Length(stream, _) | State::Chunks(stream, _) => stream.poll_reset(cx).map(drop),
            State::Ended => Poll::Pending,
        }
    }

    /// What of it has not ended, to be [`Self::reset`].
    pub(super) fn take_unfinished(&mut self) -> Option<Self> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        (!matches!(state, State::Ended)).then_some(Self { state, is_to_head: self.is_to_head })
    }

    /// Breaks it off. What was written of it and has not gone out is dropped.
    pub(super) fn reset(self, reason: Reason) {
        match self.state {
            State::Head(mut respond, _) => respond.send_reset(reason),
            State::Length(mut stream, _) | State::Chunks(mut stream, _) => stream.send_reset(reason),
            State::Ended => {}
        }
    }

    fn end(&mut self, client: &Client) {
        client.answered.set(client.answered.get().saturating_add(1));
        self.state = State::Ended;
    }

    /// Takes bytes of a head, interim or final.
    fn take_head(&mut self, bytes: &[u8], client: &Client) -> io::Result<usize> {
        let State::Head(respond, held) = &mut self.state else { unreachable!("it was just looked at") };
        let before = held.len();
        if before > 0 {
            held.extend_from_slice(bytes);
        }
        let buffer = if before > 0 { &held[..] } else { bytes };
        let mut head = client.head.borrow_mut();
        let end = match head.parse(buffer, self.is_to_head, &OWN).map_err(io::Error::other)? {
            Progress::Complete(end) => end,
            Progress::Partial => {
                if before == 0 {
                    held.extend_from_slice(bytes);
                }
                return Ok(bytes.len());
            }
        };
        let response = fields(buffer, &head)?;
        held.clear();
        if response.status().is_informational() {
            respond.send_informational(response).map_err(io::Error::other)?;
            return Ok(end - before);
        }
        let is_whole = matches!(head.body, ResponseBody::None | ResponseBody::Length(0));
        let stream = respond.send_response(response, is_whole).map_err(io::Error::other)?;
        self.state = match head.body {
            ResponseBody::None | ResponseBody::Length(0) => State::Ended,
            ResponseBody::Length(length) => State::Length(stream, length),
            ResponseBody::Chunked => State::Chunks(stream, Chunks::default()),
            ResponseBody::UntilClose => return Err(io::ErrorKind::InvalidData.into()),
        };
        drop(head);
        if is_whole {
            self.end(client);
        }
        Ok(end - before)
    }
}

/// The status and fields of a head.
fn fields(buffer: &[u8], head: &ResponseHead) -> io::Result<HttpResponse<()>> {
    let mut response = HttpResponse::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).map_err(io::Error::other)?;
    let fields = response.headers_mut();
    fields.reserve(head.fields.lines.len());
    for field in head.fields.lines.iter().filter(|field| !OF_THE_CONNECTION.contains(field.known)) {
        let name = HeaderName::from_bytes(field.name.of(buffer)).map_err(io::Error::other)?;
        let value = HeaderValue::from_bytes(field.value.of(buffer)).map_err(io::Error::other)?;
        fields.append(name, value);
    }
    Ok(response)
}

/// Sends bytes of a body that has a length; answers how many, and whether they were the last.
fn poll_plain(
    stream: &mut SendStream<Bytes>,
    left: &mut u64,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<(usize, bool)>> {
    let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    let length = ready!(poll_room(stream, cx, wanted))?;
    *left -= length as u64;
    let is_last = *left == 0;
    send(stream, &bytes[..length], is_last)?;
    Poll::Ready(Ok((length, is_last)))
}

/// Sends bytes of a body in chunks; answers how many it took, and whether they were the last.
fn poll_chunks(
    stream: &mut SendStream<Bytes>,
    chunks: &mut Chunks,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<(usize, bool)>> {
    let mut at = 0;
    loop {
        at += chunks.read(&bytes[at..])?;
        if chunks.is_done() {
            let trailers = chunks.trailers()?;
            if trailers.is_empty() {
                send(stream, &[], true)?;
            } else {
                stream.send_trailers(trailers).map_err(io::Error::other)?;
            }
            return Poll::Ready(Ok((at, true)));
        }
        let left = usize::try_from(chunks.data_left()).unwrap_or(usize::MAX);
        let wanted = left.min(bytes.len() - at);
        if wanted == 0 {
            return Poll::Ready(Ok((at, false)));
        }
        let length = match poll_room(stream, cx, wanted)? {
            Poll::Ready(length) => length,
            Poll::Pending if at > 0 => return Poll::Ready(Ok((at, false))),
            Poll::Pending => return Poll::Pending,
        };
        let data = &bytes[at..at + length];
        chunks.take_data(length);
        at += length;
        // The end of a short body goes with its data, in one frame.
        let is_last = chunks.is_end(&bytes[at..]);
        send(stream, data, is_last)?;
        if is_last {
            return Poll::Ready(Ok((bytes.len(), true)));
        }
    }
}

fn send(stream: &mut SendStream<Bytes>, data: &[u8], is_last: bool) -> io::Result<()> {
    stream.send_data(Bytes::copy_from_slice(data), is_last).map_err(io::Error::other)
}

/// Waits until the client's windows have room; answers for how many bytes, `wanted` at most.
fn poll_room(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
    stream.reserve_capacity(wanted);
    loop {
        let room = stream.capacity().min(wanted);
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}
