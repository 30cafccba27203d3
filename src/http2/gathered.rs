//! What waits to be written to a connection: gathered first, so that the frames of many streams go out in one record and one
//! system call.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

/// Written bytes that wait for the socket before the connection writes no more, and after which they are sent at once.
const UNSENT: usize = 64 << 10;

/// Bytes that wait for a socket.
#[derive(Debug, Default)]
pub struct Gathered {
    /// What was written, and how much of it the stream has taken.
    out: Vec<u8>,
    taken: usize,
    /// All that the stream has ever taken.
    pub total: u64,
}

impl Gathered {
    /// Sends what was gathered. Ready when nothing is left.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while self.taken < self.out.len() {
            let rest = &self.out[self.taken..];
            let taken = ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += taken;
            self.total += taken as u64;
        }
        self.out.clear();
        self.taken = 0;
        Pin::new(stream).poll_flush(cx)
    }

    /// Adds bytes, in a buffer that is taken if there is none.
    pub fn add(&mut self, bytes: &[u8], buffer: impl FnOnce() -> Vec<u8>) {
        if self.out.capacity() == 0 {
            self.out = buffer();
        }
        self.out.extend_from_slice(bytes);
    }

    /// The room for writing, of who has nothing to write.
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        self.out.is_empty().then(|| std::mem::take(&mut self.out))
    }

    /// Whether so much waits that nothing is added before some of it was taken.
    pub fn is_full(&self) -> bool {
        self.out.len() >= UNSENT
    }
}
