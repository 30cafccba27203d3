//! The engine's response on its way into frames.
//!
//! Invariant: bytes are taken only as far as the client's windows let them go out, so a client that takes nothing holds
//! nothing but what it has asked for. END_STREAM goes out for a response that is whole, and for no other.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, server::SendResponse};
use http::{HeaderName, HeaderValue, Method, Response as HttpResponse, StatusCode};

use super::client::Client;
use crate::{
    http2::Outbound,
    wire::{
        fields::{Known, KnownSet, Limits, Progress},
        response::{ResponseBody, ResponseHead},
    },
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
    /// It answers one for a tunnel (RFC 8441).
    is_to_connect: bool,
}

#[derive(Debug)]
enum State {
    /// Its head is still to come; a part of it may have.
    Head(SendResponse<Bytes>, Vec<u8>),
    Body(Outbound),
    /// All of it has gone out.
    Ended,
}

impl Response {
    pub(super) fn new(respond: SendResponse<Bytes>, method: &Method) -> Self {
        let state = State::Head(respond, Vec::new());
        Self { state, is_to_head: method == Method::HEAD, is_to_connect: method == Method::CONNECT }
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
            State::Body(body) => ready!(body.poll_write(cx, bytes))?,
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
            State::Body(body) => body.poll_reset(cx),
            State::Ended => Poll::Pending,
        }
    }

    /// What of it has not ended, to be [`Self::reset`].
    pub(super) fn take_unfinished(&mut self) -> Option<Self> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        (!matches!(state, State::Ended)).then_some(Self { state, ..*self })
    }

    /// Breaks it off. What was written of it and has not gone out is dropped.
    pub(super) fn reset(self, reason: Reason) {
        match self.state {
            State::Head(mut respond, _) => respond.send_reset(reason),
            State::Body(body) => body.reset(reason),
            State::Ended => {}
        }
    }

    fn end(&mut self, client: &Client) {
        client.answered.set(client.answered.get().saturating_add(1));
        self.state = State::Ended;
    }

    /// Ends our side of a tunnel.
    pub(super) fn end_tunnel(&mut self) -> io::Result<()> {
        if !self.is_to_connect || !matches!(self.state, State::Body(_)) {
            return Ok(());
        }
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Body(body) => body.end(),
            _ => Ok(()),
        }
    }

    /// Answers one who asked for a tunnel with what there is in HTTP/2 for a 101: 200. One for anything else that is good
    /// in HTTP/1.1 would be taken for the same, so that is a failure.
    fn begin_tunnel(&mut self, mut response: HttpResponse<()>) -> io::Result<()> {
        let State::Head(respond, _) = &mut self.state else { unreachable!("it was just looked at") };
        let is_tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if is_tunnel {
            *response.status_mut() = StatusCode::OK;
            response.headers_mut().remove("sec-websocket-accept");
        } else {
            response = HttpResponse::new(());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
        }
        let stream = respond.send_response(response, !is_tunnel).map_err(io::Error::other)?;
        self.state = if is_tunnel { State::Body(Outbound::tunnel(stream)) } else { State::Ended };
        Ok(())
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
        let status = response.status();
        if self.is_to_connect && (status == StatusCode::SWITCHING_PROTOCOLS || status.is_success()) {
            drop(head);
            self.begin_tunnel(response)?;
            return Ok(end - before);
        }
        if status.is_informational() {
            respond.send_informational(response).map_err(io::Error::other)?;
            return Ok(end - before);
        }
        let is_whole = matches!(head.body, ResponseBody::None | ResponseBody::Length(0));
        let stream = respond.send_response(response, is_whole).map_err(io::Error::other)?;
        self.state = match head.body {
            ResponseBody::None | ResponseBody::Length(0) => State::Ended,
            ResponseBody::Length(length) => State::Body(Outbound::length(stream, length)),
            ResponseBody::Chunked => State::Body(Outbound::chunks(stream)),
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
