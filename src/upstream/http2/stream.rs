//! A stream on a connection to an endpoint, as bytes of HTTP/1.1 both ways: one request and its response.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{
    Reason,
    client::{ResponseFuture, SendRequest},
};
use http::StatusCode;
use tokio::io::ReadBuf;

use super::{carrier::Carrier, request, response};
use crate::{
    http2::{Inbound, Outbound, grpc_status},
    model::grpc::GrpcStatus,
    wire::{fields::Progress, request::RequestBody},
};

/// A stream on a connection to an endpoint.
///
/// Dropped before its request and its response have ended, it is reset, so that the endpoint does not go on with it.
#[derive(Debug)]
pub struct Stream {
    carrier: Rc<Carrier>,
    up: Up,
    down: Down,
    /// It answers a HEAD request.
    is_to_head: bool,
    was_idle: bool,
    refusal: Option<Refusal>,
    /// What the response's head says of a call of gRPC: it has no body then.
    head_status: Option<GrpcStatus>,
}

/// Why an endpoint has not processed a request (RFC 9113 8.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// GOAWAY: its stream is behind the last that is processed on this connection. Another one may serve.
    Gone,
    /// REFUSED_STREAM: the endpoint does not want it now.
    Refused,
    /// It was never sent: there is something in it that can't be said in HTTP/2.
    Unsayable,
}

/// The request.
#[derive(Debug)]
enum Up {
    /// Its head is still to come; a part of it may have.
    Head(Option<SendRequest<Bytes>>, Vec<u8>),
    Body(Outbound),
    /// All of it was sent.
    Sent,
    /// It can't be sent.
    Failed,
}

/// The response.
#[derive(Debug)]
enum Down {
    /// The request's head was not sent.
    Unasked,
    /// Its head is still to come; before it, interim responses of which so much was passed on.
    Head(ResponseFuture, Vec<u8>, usize),
    Message(Inbound),
    Failed,
}

impl Stream {
    pub(super) fn new(carrier: Rc<Carrier>, sender: SendRequest<Bytes>, was_idle: bool) -> Self {
        let up = Up::Head(Some(sender), Vec::new());
        Self {
            carrier,
            up,
            down: Down::Unasked,
            is_to_head: false,
            was_idle,
            refusal: None,
            head_status: None,
        }
    }

    /// Whether its connection had served requests, and had none in flight: it may have come to its end just then.
    pub fn was_idle(&self) -> bool {
        self.was_idle
    }

    /// Why the endpoint has not processed the request, if that is certain.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// What the response says of a call of gRPC, as far as it has come.
    pub fn grpc_status(&self) -> Option<GrpcStatus> {
        let Down::Message(message) = &self.down else { return None };
        self.head_status.or_else(|| message.grpc_status())
    }

    /// The same, if the response has come to its end without a message.
    pub fn sole_grpc_status(&self) -> Option<GrpcStatus> {
        let Down::Message(message) = &self.down else { return None };
        self.head_status.or_else(|| message.grpc_status().filter(|_| !message.has_data()))
    }

    /// The number of the way that its connection was made in, and the epoch of its endpoint's drains.
    pub fn origin(&self) -> (u64, u32) {
        (self.carrier.terms.way, self.carrier.terms.epoch)
    }

    /// Takes bytes of the request; answers how many.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.up {
            Up::Head(..) => Poll::Ready(self.take_head(bytes)),
            Up::Body(body) => body.poll_write(cx, bytes).map_ok(|(taken, is_ended)| {
                if is_ended {
                    self.up = Up::Sent;
                }
                taken
            }),
            Up::Sent | Up::Failed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Reads of the response. Nothing is its end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.down {
                // The engine asks again once it has written.
                Down::Unasked if matches!(self.up, Up::Head(..)) => return Poll::Pending,
                Down::Unasked | Down::Failed => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                Down::Message(message) => return message.poll_read(cx, buffer),
                Down::Head(_, text, gone) if *gone < text.len() => {
                    let length = buffer.remaining().min(text.len() - *gone);
                    buffer.put_slice(&text[*gone..*gone + length]);
                    *gone += length;
                    return Poll::Ready(Ok(()));
                }
                Down::Head(..) => std::task::ready!(self.poll_head(cx))?,
            }
        }
    }

    /// Waits for the next head, interim or final.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Down::Head(asked, text, gone) = &mut self.down else { return Poll::Ready(Ok(())) };
        text.clear();
        *gone = 0;
        let answer = match asked.poll_informational(cx) {
            Poll::Ready(Some(Ok(interim))) if interim.status() != StatusCode::SWITCHING_PROTOCOLS => {
                response::write_interim(&interim, text);
                return Poll::Ready(Ok(()));
            }
            // There is no such status in HTTP/2 (RFC 9113 8.6).
            Poll::Ready(Some(Ok(_))) => {
                self.down = Down::Failed;
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            Poll::Ready(Some(Err(error))) => Err(error),
            Poll::Ready(None) | Poll::Pending => std::task::ready!(Pin::new(asked).poll(cx)),
        };
        match answer {
            Ok(answer) => {
                let text = std::mem::take(text);
                self.head_status = grpc_status(answer.headers()).filter(|_| answer.body().is_end_stream());
                self.down = Down::Message(response::of(answer, self.is_to_head, text));
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                self.fail(&error);
                Poll::Ready(Err(io::Error::other(error)))
            }
        }
    }

    /// Takes bytes of the request's head, and sends it when it is whole.
    fn take_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Up::Head(sender, held) = &mut self.up else { unreachable!("it was just looked at") };
        let before = held.len();
        if before > 0 {
            held.extend_from_slice(bytes);
        }
        let buffer = if before > 0 { &held[..] } else { bytes };
        let carrier = Rc::clone(&self.carrier);
        let mut head = carrier.head.borrow_mut();
        let end = match head.parse(buffer, &request::OWN).map_err(io::Error::other)? {
            Progress::Complete(end) => end,
            Progress::Partial => {
                if before == 0 {
                    held.extend_from_slice(bytes);
                }
                return Ok(bytes.len());
            }
        };
        self.is_to_head = head.method.of(buffer) == b"HEAD";
        let is_whole = matches!(head.body, RequestBody::None | RequestBody::Length(0));
        let said = request::of(buffer, &head, carrier.terms.is_secured).zip(sender.take());
        self.up = Up::Failed;
        let Some((said, mut sender)) = said else {
            self.refusal = Some(Refusal::Unsayable);
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let (asked, stream) = match sender.send_request(said, is_whole) {
            Ok(sent) => sent,
            Err(error) => {
                // Nothing of it was sent: the connection has just come to its end, or to its last stream.
                self.refusal = Some(Refusal::Gone);
                return Err(io::Error::other(error));
            }
        };
        self.down = Down::Head(asked, Vec::new(), 0);
        self.up = match head.body {
            RequestBody::None | RequestBody::Length(0) => Up::Sent,
            RequestBody::Length(length) => Up::Body(Outbound::length(stream, length)),
            RequestBody::Chunked => Up::Body(Outbound::chunks(stream)),
        };
        Ok(end - before)
    }

    /// Notes what an error says of the request.
    fn fail(&mut self, error: &h2::Error) {
        self.down = Down::Failed;
        // The h2 crate ends streams by a GOAWAY of the endpoint only if they are behind its last one.
        self.refusal = if error.is_go_away() && error.is_remote() {
            Some(Refusal::Gone)
        } else if error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) {
            Some(Refusal::Refused)
        } else {
            None
        };
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Up::Body(body) = std::mem::replace(&mut self.up, Up::Failed) {
            // What has been answered to its end needs no more of its request (RFC 9113 8.1).
            let is_answered = matches!(&self.down, Down::Message(message) if message.is_over());
            body.reset(if is_answered { Reason::NO_ERROR } else { Reason::CANCEL });
        }
        // A response that is not read to its end is reset as its handles go.
        self.down = Down::Failed;
        self.carrier.end_stream();
    }
}
