//! The channel between a process and its successor: one message after the other, and descriptors between them.
//!
//! Invariant: whatever the other end sends, or does not send, reading ends at a moment that is known before, and takes a
//! bounded amount of memory.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};

/// The largest message. What a thousand pools with a hundred endpoints each have to tell is smaller.
pub(super) const MAX_MESSAGE: usize = 64 << 20;
/// Descriptors that go at once; the kernel takes 253 at most (unix(7)).
const AT_ONCE: usize = 64;
/// The most descriptors: far more listeners and workers than a machine has use for.
const MAX_DESCRIPTORS: usize = 16 << 10;

/// One end of the channel.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    /// Both ends of a new one.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(ours), theirs.into()))
    }

    /// The end that a predecessor has given.
    pub(super) fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self(UnixStream::from(descriptor))
    }

    /// Another handle of the same end: one is for sending and one for receiving.
    pub(super) fn twin(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Ends it for both, and for whoever waits at it.
    pub(super) fn close(&self) {
        // It may have been ended already.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    /// Sends a message; the other end must take it until `deadline`.
    pub(super) fn send(&mut self, message: &impl Serialize, deadline: Instant) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).ok().filter(|length| *length as usize <= MAX_MESSAGE);
        let length = length.ok_or_else(|| io::Error::other("the message is too large"))?;
        self.0.set_write_timeout(Some(left(deadline)?))?;
        self.0.write_all(&[&length.to_le_bytes()[..], &text].concat())
    }

    /// Waits for a message until `deadline`. The end of the channel is [`io::ErrorKind::UnexpectedEof`].
    pub(super) fn receive<T: DeserializeOwned>(&mut self, deadline: Instant) -> io::Result<T> {
        let mut length = [0; 4];
        self.read(&mut length, deadline)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_MESSAGE {
            return Err(io::Error::other("the message is too large"));
        }
        let mut text = vec![0; length];
        self.read(&mut text, deadline)?;
        Ok(serde_json::from_slice(&text)?)
    }

    fn read(&mut self, mut into: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !into.is_empty() {
            // Set for each read: a peer that sends a byte now and then has no more time than another.
            self.0.set_read_timeout(Some(left(deadline)?))?;
            match self.0.read(into) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => into = &mut into[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends descriptors, whose number the other end knows by a message before.
    pub(super) fn send_descriptors(&mut self, descriptors: &[OwnedFd], deadline: Instant) -> io::Result<()> {
        for part in descriptors.chunks(AT_ONCE) {
            self.0.set_write_timeout(Some(left(deadline)?))?;
            let part: Vec<_> = part.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&part)) {
                return Err(io::Error::other("descriptors don't fit a message that was made for them"));
            }
            // Descriptors travel with a byte.
            sendmsg(&self.0, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    /// Receives as many descriptors as a message has said. They are closed in whatever this process starts.
    pub(super) fn receive_descriptors(
        &mut self,
        count: usize,
        deadline: Instant,
    ) -> io::Result<Vec<OwnedFd>> {
        if count > MAX_DESCRIPTORS {
            return Err(io::Error::other("there are too many descriptors"));
        }
        let mut received = Vec::with_capacity(count);
        while received.len() < count {
            self.0.set_read_timeout(Some(left(deadline)?))?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let read =
                recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let before = received.len();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    received.extend(descriptors);
                }
            }
            if read.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if received.len() == before {
                return Err(io::Error::other(
                    "descriptors are missing (is the limit of open files too low?)",
                ));
            }
        }
        Ok(received)
    }
}

/// The time that is left; an error if there is none.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (mut ours, theirs) = Channel::pair().unwrap();
        let mut theirs = Channel::from_descriptor(theirs);
        let listeners: Vec<_> = (0..150).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|one| one.local_addr().unwrap().port()).collect();
        let sending = std::thread::spawn(move || {
            let descriptors: Vec<OwnedFd> = listeners.into_iter().map(OwnedFd::from).collect();
            ours.send(&"before", soon()).unwrap();
            ours.send_descriptors(&descriptors, soon()).unwrap();
            ours.send(&vec!["x"; 300_000], soon()).unwrap();
        });
        assert_eq!(theirs.receive::<String>(soon()).unwrap(), "before");
        let received = theirs.receive_descriptors(150, soon()).unwrap();
        let received: Vec<u16> =
            received.into_iter().map(|one| TcpListener::from(one).local_addr().unwrap().port()).collect();
        assert_eq!(received, ports);
        assert_eq!(theirs.receive::<Vec<String>>(soon()).unwrap().len(), 300_000);
        sending.join().unwrap();
        assert_eq!(theirs.receive::<String>(soon()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_silent_or_lying_peer_is_not_waited_for_and_takes_no_memory() {
        let (mut ours, theirs) = Channel::pair().unwrap();
        let error = ours.receive::<String>(Instant::now() + Duration::from_millis(30)).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
        let mut theirs = UnixStream::from(theirs);
        theirs.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(ours.receive::<String>(soon()).unwrap_err().to_string().contains("too large"));
        theirs.write_all(&[2, 0, 0, 0, b'{', b'?']).unwrap();
        assert_eq!(ours.receive::<String>(soon()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        theirs.write_all(&[0]).unwrap();
        assert!(ours.receive_descriptors(1, soon()).is_err());
        assert!(ours.receive_descriptors(usize::MAX, soon()).is_err());
    }
}
