//! A body of the engine's on its way into frames.
//!
//! Invariant: END_STREAM goes out for a body that is whole, and for no other.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::chunks::Chunks;

/// A body on its way into frames.
#[derive(Debug)]
pub struct Outbound {
    stream: SendStream<Bytes>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// What is left of one that has a length.
    Length(u64),
    Chunks(Chunks),
    /// The bytes of a tunnel, until its end is told.
    Tunnel,
}

impl Outbound {
    /// A body of so many bytes.
    pub fn length(stream: SendStream<Bytes>, length: u64) -> Self {
        Self { stream, body: Body::Length(length) }
    }

    /// A body in chunks.
    pub fn chunks(stream: SendStream<Bytes>) -> Self {
        Self { stream, body: Body::Chunks(Chunks::default()) }
    }

    /// The bytes of a tunnel. They have no end before [`Self::end`].
    pub fn tunnel(stream: SendStream<Bytes>) -> Self {
        Self { stream, body: Body::Tunnel }
    }

    /// Ends a tunnel's side.
    pub fn end(mut self) -> io::Result<()> {
        send(&mut self.stream, &[], true)
    }

    /// Takes bytes of it; answers how many, and whether they were the last.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<(usize, bool)>> {
        match &mut self.body {
            Body::Length(left) => poll_plain(&mut self.stream, left, cx, bytes),
            Body::Chunks(chunks) => poll_chunks(&mut self.stream, chunks, cx, bytes),
            Body::Tunnel => {
                let length = ready!(poll_room(&mut self.stream, cx, bytes.len()))?;
                send(&mut self.stream, &bytes[..length], false)?;
                Poll::Ready(Ok((length, false)))
            }
        }
    }

    /// Waits until the other side resets the stream, or is gone.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(drop)
    }

    /// Breaks it off. What was written of it and has not gone out is dropped.
    pub fn reset(mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }
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
