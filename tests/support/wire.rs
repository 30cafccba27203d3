//! One TCP connection, read strictly; every byte that comes is recorded.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use super::message::{Body, Framing, Head, canonical_chunk_size, field};

/// Why reading or writing ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The peer closed in an orderly way.
    Eof,
    /// The peer reset the connection.
    Reset,
    /// Nothing came, or could be written, in time.
    Timeout,
    /// What came is not what HTTP says, or not in canonical form.
    Malformed(String),
}

type Observer = Box<dyn FnMut(&[u8]) + Send>;

/// What a body's framing brought beside its bytes: the trailers, and the sizes of the chunks.
type Around = (Vec<(String, String)>, Vec<usize>);

/// A connection and what came on it.
pub struct Wire {
    stream: TcpStream,
    /// Everything that came, up to [`Wire::RECORDED`].
    received: Vec<u8>,
    /// How many bytes came.
    total: u64,
    /// What was read and not consumed.
    ahead: Vec<u8>,
    on_bytes: Option<Observer>,
}

impl Wire {
    /// The bytes of a connection that are kept for inspection.
    pub const RECORDED: usize = 4 << 20;
    /// The longest head that is read.
    const LONGEST_HEAD: usize = 1 << 20;

    pub fn new(stream: TcpStream, patience: Duration) -> Self {
        stream.set_nodelay(true).expect("a live socket takes TCP_NODELAY");
        stream.set_read_timeout(Some(patience)).expect("a timeout above zero");
        stream.set_write_timeout(Some(patience)).expect("a timeout above zero");
        Self { stream, received: Vec::new(), total: 0, ahead: Vec::new(), on_bytes: None }
    }

    /// Also hands every byte that comes to an observer.
    pub fn observe(&mut self, observer: impl FnMut(&[u8]) + Send + 'static) {
        self.on_bytes = Some(Box::new(observer));
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Everything that came so far.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// How many bytes came so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What came and was not consumed yet.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.stream.write_all(bytes).map_err(|error| broken(&error))
    }

    /// Ends our direction.
    pub fn half_close(&self) {
        // It fails if the peer reset the connection, which the next read tells.
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Makes the close a reset.
    pub fn reset(self) {
        self.linger_zero();
    }

    /// The next close will be a reset.
    pub fn linger_zero(&self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("a live socket takes SO_LINGER");
    }

    /// Reads what there is, at least a byte.
    pub fn fill(&mut self) -> Result<usize, Broken> {
        let mut buffer = [0; 64 << 10];
        let count = loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Broken::Eof),
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error)),
            }
        };
        let bytes = &buffer[..count];
        self.total += count as u64;
        let room = Self::RECORDED - self.received.len();
        self.received.extend_from_slice(&bytes[..count.min(room)]);
        if let Some(observer) = &mut self.on_bytes {
            observer(bytes);
        }
        self.ahead.extend_from_slice(bytes);
        Ok(count)
    }

    /// Reads a head. An end before its first byte is [`Broken::Eof`]; one inside of it is malformed.
    pub fn head(&mut self) -> Result<Head, Broken> {
        let end = loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                break end + 4;
            }
            if self.ahead.len() > Self::LONGEST_HEAD {
                return Err(Broken::Malformed("a head over 1 MiB".into()));
            }
            match self.fill() {
                Err(Broken::Eof) if !self.ahead.is_empty() => {
                    return Err(Broken::Malformed(format!(
                        "the connection ended in a head: {}",
                        super::shown(&self.ahead)
                    )));
                }
                other => other?,
            };
        };
        let head: Vec<u8> = self.ahead.drain(..end).collect();
        Head::parse(&head).map_err(Broken::Malformed)
    }

    /// Reads a body to its end and gives its bytes to a sink as they come.
    pub fn body(&mut self, framing: Framing, sink: &mut dyn FnMut(&[u8])) -> Result<Around, Broken> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => self.pass(length, sink)?,
            Framing::Chunked => return self.chunked(sink),
            Framing::UntilClose => loop {
                sink(&std::mem::take(&mut self.ahead));
                match self.fill() {
                    Err(Broken::Eof) => break,
                    other => other?,
                };
            },
        }
        Ok((Vec::new(), Vec::new()))
    }

    /// Reads a body to its end and keeps it, as far as it came.
    pub fn whole_body(&mut self, framing: Framing) -> (Body, Option<Broken>) {
        let mut bytes = Vec::new();
        match self.body(framing, &mut |piece| bytes.extend_from_slice(piece)) {
            Ok((trailers, chunks)) => (Body { bytes, trailers, chunks }, None),
            Err(broken) => (Body { bytes, ..Body::default() }, Some(broken)),
        }
    }

    /// Reads this many bytes.
    pub fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Broken> {
        let mut bytes = Vec::with_capacity(count);
        self.pass(count as u64, &mut |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// Reads until the peer ends, and says how it ended. The bytes include what was read ahead.
    pub fn rest(&mut self) -> (Vec<u8>, Broken) {
        loop {
            if let Err(end) = self.fill() {
                return (std::mem::take(&mut self.ahead), end);
            }
        }
    }

    fn pass(&mut self, length: u64, sink: &mut dyn FnMut(&[u8])) -> Result<(), Broken> {
        let mut left = length;
        while left > 0 {
            if self.ahead.is_empty() {
                self.fill()?;
            }
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.ahead.len());
            sink(&self.ahead[..take]);
            self.ahead.drain(..take);
            left -= take as u64;
        }
        Ok(())
    }

    fn chunked(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<Around, Broken> {
        let mut chunks = Vec::new();
        loop {
            let size = canonical_chunk_size(&self.line()?).map_err(Broken::Malformed)?;
            if size == 0 {
                break;
            }
            chunks.push(size);
            self.pass(size as u64, sink)?;
            let end = self.exactly(2)?;
            if end != b"\r\n" {
                return Err(Broken::Malformed(format!("{end:?} after a chunk instead of CRLF")));
            }
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((trailers, chunks));
            }
            trailers.push(field(&line).map_err(Broken::Malformed)?);
        }
    }

    /// Reads a line up to its CRLF.
    fn line(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).take(end).collect();
                return Ok(line.into_iter().map(char::from).collect());
            }
            if self.ahead.len() > Self::LONGEST_HEAD {
                return Err(Broken::Malformed("a line over 1 MiB".into()));
            }
            self.fill()?;
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

fn broken(error: &std::io::Error) -> Broken {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Broken::Timeout,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Broken::Reset,
        _ => panic!("an error that no peer can cause: {error}"),
    }
}
