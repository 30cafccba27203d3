//! Takes apart the chunks that the engine writes (RFC 9112 7.1): for HTTP/2 their data and trailers go into frames.
//!
//! Invariant: it reads what this program has written, which is canonical, and refuses everything else.

use std::io;

use http::{HeaderMap, HeaderName, HeaderValue};

/// A body in chunks, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// Trailer lines so far.
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the line with a chunk's size: what was read of it.
    Size(u64),
    /// In a chunk's data: what is left of it.
    Data(u64),
    /// Behind a chunk's data.
    DataEnd,
    Trailers,
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Size(0)
    }
}

impl Chunks {
    /// How many bytes of data come next, if any do.
    pub(super) fn data_left(&self) -> u64 {
        if let State::Data(left) = self.state { left } else { 0 }
    }

    /// So much of the data was taken.
    pub(super) fn take_data(&mut self, length: usize) {
        if let State::Data(left) = &mut self.state {
            *left -= length as u64;
            if *left == 0 {
                self.state = State::DataEnd;
            }
        }
    }

    /// Whether these bytes behind the data end the body, without trailers.
    pub(super) fn is_end(&self, bytes: &[u8]) -> bool {
        self.state == State::DataEnd && bytes == b"\r\n0\r\n\r\n"
    }

    /// Whether all of it was read.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads what is no data from the start of `bytes`; answers how many bytes that was.
    pub(super) fn read(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            self.state = match (self.state, byte) {
                (State::Data(_) | State::Done, _) => return Ok(at),
                (State::DataEnd, b'\r') => State::DataEnd,
                (State::DataEnd, b'\n') => State::Size(0),
                (State::Size(size), b'\r') => State::Size(size),
                (State::Size(0), b'\n') => State::Trailers,
                (State::Size(size), b'\n') => State::Data(size),
                (State::Size(size), digit) => {
                    let digit = (*digit as char).to_digit(16).filter(|_| size >> 60 == 0);
                    State::Size(size << 4 | u64::from(digit.ok_or(io::ErrorKind::InvalidData)?))
                }
                (State::Trailers, byte) => {
                    self.trailers.push(*byte);
                    let is_end = self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n");
                    if is_end { State::Done } else { State::Trailers }
                }
                (State::DataEnd, _) => return Err(io::ErrorKind::InvalidData.into()),
            };
        }
        Ok(bytes.len())
    }

    /// The trailers, once all was read.
    pub(super) fn trailers(&self) -> io::Result<HeaderMap> {
        let mut trailers = HeaderMap::new();
        for line in self.trailers.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let colon = memchr::memchr(b':', line).ok_or(io::ErrorKind::InvalidData)?;
            let name = HeaderName::from_bytes(&line[..colon]).map_err(io::Error::other)?;
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).map_err(io::Error::other)?;
            trailers.append(name, value);
        }
        Ok(trailers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads all of it in pieces; answers the data.
    fn read(text: &[u8], piece: usize) -> io::Result<(Vec<u8>, Chunks)> {
        let (mut chunks, mut data) = (Chunks::default(), Vec::new());
        for part in text.chunks(piece) {
            let mut at = 0;
            while at < part.len() {
                at += chunks.read(&part[at..])?;
                let length = usize::try_from(chunks.data_left()).unwrap().min(part.len() - at);
                data.extend_from_slice(&part[at..at + length]);
                chunks.take_data(length);
                at += length;
                assert!(at == part.len() || !chunks.is_done(), "bytes behind the end");
            }
        }
        Ok((data, chunks))
    }

    #[test]
    fn data_and_trailers_are_read_however_they_are_cut() {
        let text =
            b"5\r\nhello\r\n1f\r\n0123456789012345678901234567\r\n!\r\n0\r\nA: b\r\na: c\r\nx-y: \r\n\r\n";
        for piece in 1..=text.len() {
            let (data, chunks) = read(text, piece).unwrap();
            assert_eq!(data, b"hello0123456789012345678901234567\r\n!");
            assert!(chunks.is_done());
            let trailers = chunks.trailers().unwrap();
            let values: Vec<_> = trailers.get_all("a").iter().collect();
            assert_eq!(values, ["b", "c"]);
            assert_eq!(trailers["x-y"], "");
        }
    }

    #[test]
    fn what_this_program_does_not_write_is_refused() {
        for bad in [&b"x\r\n"[..], b"1\r\nab", b"11111111111111111\r\n"] {
            assert!(read(bad, bad.len()).is_err(), "{}", bad.escape_ascii());
        }
        let (_, chunks) = read(b"0\r\n\r\n", 5).unwrap();
        assert!(chunks.is_done() && chunks.trailers().unwrap().is_empty());
    }

    #[test]
    fn an_end_behind_the_data_is_seen_ahead() {
        let (_, chunks) = read(b"2\r\nab", 5).unwrap();
        assert!(chunks.is_end(b"\r\n0\r\n\r\n"));
        assert!(!chunks.is_end(b"\r\n0\r\n") && !chunks.is_end(b"\r\n0\r\nA: b\r\n\r\n"));
        let (_, chunks) = read(b"3\r\nab", 5).unwrap();
        assert!(!chunks.is_end(b"\r\n0\r\n\r\n"));
    }
}
