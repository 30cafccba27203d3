//! A connection's records, whichever end of it is ours: bytes are encrypted on their way to the socket and opened on their way
//! from it.
//!
//! Invariant: bytes that were taken to be sent are on their way to the socket before more are taken, so a peer that does
//! not read holds one write's worth of records. The end of the connection without a close_notify is an error, never the end
//! of a message (RFC 8446 6.1).

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    ops::DerefMut,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustls::{ConnectionCommon, SideData};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A socket, and what is spoken on it.
#[derive(Debug)]
pub(super) struct Records<C> {
    pub(super) socket: TcpStream,
    pub(super) session: C,
    /// Whether our end was announced.
    is_ended: bool,
}

impl<C, D> Records<C>
where
    C: DerefMut<Target = ConnectionCommon<D>>,
    D: SideData,
{
    pub(super) fn new(socket: TcpStream, session: C) -> Self {
        Self { socket, session, is_ended: false }
    }

    /// Announces our end, as far as the socket takes it at once: to a peer that was sent all that it is to get.
    pub(super) fn end_now(&mut self) {
        self.announce_end();
        self.send_now();
    }

    /// Reads from the socket and drops what comes, unread: nobody wants it any more.
    pub(super) fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }

    pub(super) fn announce_end(&mut self) {
        if !std::mem::replace(&mut self.is_ended, true) {
            self.session.send_close_notify();
        }
    }

    /// Sends what waits, as far as the socket takes it at once.
    pub(super) fn send_now(&mut self) {
        let mut socket = Now(&self.socket);
        // Who can't be told has gone.
        while self.session.wants_write() && self.session.write_tls(&mut socket).is_ok_and(|sent| sent > 0) {}
    }

    /// Reads records from the socket; 0 is its end.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut socket = Socket { stream: &mut self.socket, cx };
        as_poll(self.session.read_tls(&mut socket))
    }

    /// Sends what waits. Ready when nothing does.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut socket = Socket { stream: &mut self.socket, cx };
            if ready!(as_poll(self.session.write_tls(&mut socket)))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Has `take` give bytes to the session, once what it had before is on its way.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut ConnectionCommon<D>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        let taken = take(&mut self.session)?;
        // What the socket does not take yet is sent by the flush that everyone who writes waits for.
        if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }
}

impl<C, D> AsyncRead for Records<C>
where
    C: DerefMut<Target = ConnectionCommon<D>> + Unpin,
    D: SideData,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // What the protocol itself has to say, such as the answer to an update of keys, goes out beside the reading.
        if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            match this.session.reader().read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(this.poll_receive(cx))?;
            if let Err(error) = this.session.process_new_packets() {
                this.send_now();
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
    }
}

impl<C, D> AsyncWrite for Records<C>
where
    C: DerefMut<Target = ConnectionCommon<D>> + Unpin,
    D: SideData,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_take(cx, |session| session.writer().write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_take(cx, |session| session.writer().write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_drain(cx)
    }

    /// Announces our end, and ends the socket's sending side behind it.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.announce_end();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// A socket as the session reads and writes it, within one poll.
struct Socket<'s, 'c, 'w> {
    stream: &'s mut TcpStream,
    cx: &'c mut Context<'w>,
}

impl io::Read for Socket<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        as_result(Pin::new(&mut *self.stream).poll_read(self.cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl io::Write for Socket<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        as_result(Pin::new(&mut *self.stream).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        as_result(Pin::new(&mut *self.stream).poll_write_vectored(self.cx, parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that is written to now or not at all.
struct Now<'s>(&'s TcpStream);

impl io::Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn as_result<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn as_poll<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}
