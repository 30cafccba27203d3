//! A message on its way from frames to the engine: a head that was written already, and the body behind it.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h2::RecvStream;
use http::HeaderMap;
use tokio::io::ReadBuf;

use crate::{
    model::grpc::GrpcStatus,
    wire::{chunked, emit},
};

/// A message on its way to the engine.
#[derive(Debug)]
pub struct Inbound {
    body: RecvStream,
    framing: Framing,
    /// What goes before `data`, and how much of it has gone: the head, the size of a chunk, trailers.
    text: Vec<u8>,
    gone: usize,
    /// Bytes of the body that came and have not gone yet.
    data: Bytes,
    /// Whether any have come.
    has_data: bool,
    /// What trailers have said of a call of gRPC.
    status: Option<GrpcStatus>,
}

/// How the engine is told where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length, which the head says and the h2 crate sees to.
    Length,
    /// By chunks, which are made here.
    Chunks,
    /// Not at all: they are the bytes of a tunnel, to its end.
    Tunnel,
    /// There is none, or all of it has gone or is in the text.
    Ended,
}

impl Inbound {
    /// A message whose head, with its empty line, is `text`.
    pub fn new(body: RecvStream, framing: Framing, text: Vec<u8>) -> Self {
        Self { body, framing, text, gone: 0, data: Bytes::new(), has_data: false, status: None }
    }

    /// Reads of the message. Nothing is its end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        while buffer.remaining() > 0 {
            if self.gone < self.text.len() {
                let rest = &self.text[self.gone..];
                let length = rest.len().min(buffer.remaining());
                buffer.put_slice(&rest[..length]);
                self.gone += length;
            } else if !self.data.is_empty() {
                self.pass_data(buffer)?;
            } else if self.framing == Framing::Ended {
                break;
            } else {
                match self.poll_more(cx) {
                    Poll::Ready(Ok(())) => {}
                    // What has come first is passed on first.
                    _ if buffer.filled().len() > before => break,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether its body has any bytes, as far as it has come.
    pub fn has_data(&self) -> bool {
        self.has_data
    }

    /// What its trailers say of a call of gRPC, once they have come.
    pub fn grpc_status(&self) -> Option<GrpcStatus> {
        self.status
    }

    /// Whether the engine has all of it.
    pub fn is_over(&self) -> bool {
        self.framing == Framing::Ended && self.gone == self.text.len() && self.data.is_empty()
    }

    /// The buffer of the text, of a message that is read no more.
    pub fn take_text(&mut self) -> Vec<u8> {
        self.gone = 0;
        std::mem::take(&mut self.text)
    }

    /// Passes data on, and lets the other side send as much more.
    fn pass_data(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let length = self.data.len().min(buffer.remaining());
        buffer.put_slice(&self.data[..length]);
        self.data.advance(length);
        self.body.flow_control().release_capacity(length).map_err(io::Error::other)?;
        if self.data.is_empty() && self.framing == Framing::Chunks {
            self.write_text(b"\r\n");
        }
        Ok(())
    }

    /// Takes in what comes next of the body.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(data)) => {
                if self.framing == Framing::Chunks && !data.is_empty() {
                    self.write_text(b"");
                    chunked::write_size(data.len() as u64, &mut self.text);
                }
                self.has_data |= !data.is_empty();
                self.data = data;
            }
            Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            None if self.framing == Framing::Chunks => {
                let trailers =
                    ready!(self.body.poll_trailers(cx)).map_err(io::Error::other)?.unwrap_or_default();
                self.status = grpc_status(&trailers);
                self.framing = Framing::Ended;
                self.write_text(b"0\r\n");
                write_lines(trailers, &mut self.text);
                self.text.extend_from_slice(b"\r\n");
            }
            // HTTP/1.1 has no trailers behind a body that has a length.
            None => self.framing = Framing::Ended,
        }
        Poll::Ready(Ok(()))
    }

    /// Begins the next text, when all of the last has gone.
    fn write_text(&mut self, text: &[u8]) {
        self.text.clear();
        self.text.extend_from_slice(text);
        self.gone = 0;
    }
}

/// What fields say of a call of gRPC.
pub fn grpc_status(fields: &HeaderMap) -> Option<GrpcStatus> {
    fields.get("grpc-status").map(|value| GrpcStatus::read(value.as_bytes()))
}

fn write_lines(fields: HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in &fields {
        emit::line(out, name.as_str().as_bytes(), value.as_bytes());
    }
}
