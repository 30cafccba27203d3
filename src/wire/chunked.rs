//! The chunked transfer coding (RFC 9112 7.1), read strictly and passed on canonically.
//!
//! Invariant: what goes out is data bytes as they came and chunk heads, line ends and trailers written anew. A chunk
//! head goes out only after its whole line was read, so an extension or a malformed size never does.

use super::{
    fields::{self, Known, Line},
    scan,
};

/// Extensions and trailers are each limited to this many bytes of a message.
const SIDE_LIMIT: usize = 16 << 10;
/// Trailer lines of a message.
const TRAILER_LINES: usize = 100;

/// Reads one chunked body.
#[derive(Debug, Clone, Default)]
pub struct Chunked {
    state: State,
    /// The size that is being read, or what is left of the chunk's data.
    size: u64,
    /// Hexadecimal digits read of a size.
    digits: u8,
    /// Bytes of extensions so far.
    extensions: usize,
    /// Bytes and lines of trailers so far.
    trailers: (usize, usize),
    /// A trailer line that is not whole yet.
    line: Vec<u8>,
    /// Names of trailers that this message's are not passed on with, each with a `:` behind it, which no name holds.
    dropped: Vec<u8>,
    /// Data bytes so far.
    data: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    Trailer,
    Done,
}

/// What the reader of a chunked body wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Canonical chunks.
    Chunks,
    /// The data alone, for a peer that knows no chunks.
    Data,
}

/// What is wrong with a chunked body. The message can't be passed on: its end is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Not a plain hexadecimal size under 2^64 with CR LF behind it.
    #[error("a chunk size is malformed")]
    Size,
    /// A control byte in an extension, or more than 16 KiB of them.
    #[error("a chunk extension is malformed or too long")]
    Extension,
    /// A chunk's data is not followed by CR LF.
    #[error("a chunk's data does not end where its size says")]
    DataEnd,
    /// A malformed trailer line, or more than 16 KiB or 100 lines of them.
    #[error("a trailer is malformed or too long")]
    Trailer,
}

impl Chunked {
    /// Drops trailers of this name, too, beside those that are never passed on.
    pub fn drop_trailer(&mut self, name: &[u8]) {
        self.dropped.extend_from_slice(name);
        self.dropped.push(b':');
    }

    /// Whether the whole body, with its trailers, has been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether what has gone out ends behind a chunk, or before the first. A chunk's head goes out when it is whole.
    pub fn is_between_chunks(&self) -> bool {
        matches!(self.state, State::Size | State::Extension | State::SizeEnd)
    }

    /// Data bytes read so far.
    pub fn data_bytes(&self) -> u64 {
        self.data
    }

    /// Data bytes that the body has at least: those read, and those that the chunk in progress has announced.
    pub fn announced_bytes(&self) -> u64 {
        let coming = if self.state == State::Data { self.size } else { 0 };
        self.data.saturating_add(coming)
    }

    /// Reads the longest prefix of `input` that is canonical as it stands, and answers its length. These bytes may go
    /// out untouched. What follows them is for [`Self::advance`].
    pub fn verbatim(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        loop {
            match (self.state, input.get(at)) {
                (State::Data, Some(_)) => {
                    at += self.skip_data(input.len() - at);
                }
                (State::DataCr, Some(b'\r')) => {
                    self.state = State::DataLf;
                    at += 1;
                }
                (State::DataLf, Some(b'\n')) => {
                    self.begin_size();
                    at += 1;
                }
                (State::Size, Some(_)) if self.digits == 0 => match canonical_head(&input[at..]) {
                    Some((0, length)) if input[at + length..].starts_with(b"\r\n") => {
                        self.state = State::Done;
                        return at + length + 2;
                    }
                    Some((size, length)) if size > 0 => {
                        self.size = size;
                        self.state = State::Data;
                        at += length;
                    }
                    _ => return at,
                },
                _ => return at,
            }
        }
    }

    /// Reads `input`, writes what is to go out of it to `out`, and answers how many bytes were read: all of them,
    /// unless the body ended.
    pub fn advance(&mut self, input: &[u8], output: Output, out: &mut Vec<u8>) -> Result<usize, ChunkError> {
        let mut at = 0;
        while let Some(byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let length = self.skip_data(input.len() - at);
                    out.extend_from_slice(&input[at..at + length]);
                    at += length;
                    continue;
                }
                State::Done => break,
                State::Size => self.size_byte(*byte)?,
                State::Extension => self.extension_byte(*byte)?,
                State::SizeEnd => self.end_size(*byte, output, out)?,
                State::DataCr if *byte == b'\r' => {
                    self.state = State::DataLf;
                    if output == Output::Chunks {
                        out.push(b'\r');
                    }
                }
                State::DataLf if *byte == b'\n' => {
                    self.begin_size();
                    if output == Output::Chunks {
                        out.push(b'\n');
                    }
                }
                State::DataCr | State::DataLf => return Err(ChunkError::DataEnd),
                State::Trailer => self.trailer_byte(*byte, output, out)?,
            }
            at += 1;
        }
        Ok(at)
    }

    fn skip_data(&mut self, available: usize) -> usize {
        let length = usize::try_from(self.size).unwrap_or(usize::MAX).min(available);
        self.size -= length as u64;
        self.data += length as u64;
        if self.size == 0 {
            self.state = State::DataCr;
        }
        length
    }

    fn begin_size(&mut self) {
        self.state = State::Size;
        self.size = 0;
        self.digits = 0;
    }

    fn size_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        if let Some(digit) = (byte as char).to_digit(16) {
            if self.digits == 16 {
                return Err(ChunkError::Size);
            }
            self.size = self.size << 4 | u64::from(digit);
            self.digits += 1;
            return Ok(());
        }
        self.state = match byte {
            b';' if self.digits > 0 => State::Extension,
            b'\r' if self.digits > 0 => State::SizeEnd,
            _ => return Err(ChunkError::Size),
        };
        Ok(())
    }

    fn extension_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.extensions += 1;
        match byte {
            b'\r' => self.state = State::SizeEnd,
            b'\t' | b' '..=b'~' | 0x80.. => {}
            _ => return Err(ChunkError::Extension),
        }
        if self.extensions > SIDE_LIMIT { Err(ChunkError::Extension) } else { Ok(()) }
    }

    fn end_size(&mut self, byte: u8, output: Output, out: &mut Vec<u8>) -> Result<(), ChunkError> {
        if byte != b'\n' {
            return Err(ChunkError::Size);
        }
        self.state = if self.size == 0 { State::Trailer } else { State::Data };
        if output == Output::Chunks {
            write_size(self.size, out);
        }
        Ok(())
    }

    fn trailer_byte(&mut self, byte: u8, output: Output, out: &mut Vec<u8>) -> Result<(), ChunkError> {
        self.trailers.0 += 1;
        if self.trailers.0 > SIDE_LIMIT {
            return Err(ChunkError::Trailer);
        }
        self.line.push(byte);
        if byte != b'\n' {
            return Ok(());
        }
        if self.line == b"\r\n" {
            self.state = State::Done;
            if output == Output::Chunks {
                out.extend_from_slice(b"\r\n");
            }
            return Ok(());
        }
        self.trailers.1 += 1;
        // White space at the start is no token, so a folded line is refused here too.
        let Ok(Some(Line { field, next, classes })) = fields::field_line(&self.line, 0) else {
            return Err(ChunkError::Trailer);
        };
        if next != self.line.len() || self.trailers.1 > TRAILER_LINES {
            return Err(ChunkError::Trailer);
        }
        let name = field.name.of(&self.line);
        let is_dropped = self
            .dropped
            .split(|byte| *byte == b':')
            .any(|dropped| fields::is_same_to_applications(name, dropped));
        if output == Output::Chunks
            && classes & scan::UNDERSCORE == 0
            && may_be_trailer(name, field.known)
            && !is_dropped
        {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value.of(&self.line));
            out.extend_from_slice(b"\r\n");
        }
        self.line.clear();
        Ok(())
    }
}

/// Writes the head of a chunk: its size in lower-case hexadecimal, CR LF.
pub fn write_size(size: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 18];
    let mut at = 16;
    digits[16..].copy_from_slice(b"\r\n");
    let mut rest = size;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A whole chunk head that is as [`write_size`] writes it: its size and length.
fn canonical_head(input: &[u8]) -> Option<(u64, usize)> {
    let mut size = 0u64;
    for (at, byte) in input.iter().take(17).enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'\r' if at > 0 && input.get(at + 1) == Some(&b'\n') => return Some((size, at + 2)),
            _ => return None,
        };
        // A leading zero or a seventeenth digit is for the slow path to judge.
        if at == 16 || (at == 1 && size == 0) {
            return None;
        }
        size = size << 4 | u64::from(digit);
    }
    None
}

/// Whether a trailer may be passed on: not one that frames, routes, authenticates or describes the message
/// (RFC 9110 6.5.1). An intermediary that merged such a one would be deceived.
fn may_be_trailer(name: &[u8], known: Known) -> bool {
    const REFUSED: [&str; 18] = [
        "authorization",
        "proxy-authorization",
        "www-authenticate",
        "proxy-authenticate",
        "authentication-info",
        "proxy-authentication-info",
        "set-cookie",
        "content-encoding",
        "content-type",
        "content-range",
        "cache-control",
        "max-forwards",
        "range",
        "age",
        "expires",
        "location",
        "retry-after",
        "vary",
    ];
    known == Known::Other
        && !fields::resembles_framing(name)
        && !REFUSED.iter().any(|refused| name.eq_ignore_ascii_case(refused.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `input` in pieces of `step` bytes, first as far as it is canonical, as the relay does.
    fn relay(input: &[u8], step: usize, output: Output) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let mut chunked = Chunked::default();
        let mut out = Vec::new();
        let mut read = 0;
        for piece in input.chunks(step) {
            let verbatim = if output == Output::Chunks { chunked.verbatim(piece) } else { 0 };
            out.extend_from_slice(&piece[..verbatim]);
            read += verbatim + chunked.advance(&piece[verbatim..], output, &mut out)?;
        }
        Ok((out, read, chunked.is_done()))
    }

    #[test]
    fn what_goes_out_is_canonical_however_it_came_in() {
        let cases: [(&str, &str, &str); 7] = [
            ("5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("A\r\n0123456789\r\n0\r\n\r\n", "a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
            ("005\r\nhello\r\n000\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5;a=\"b;c\"\r\nhello\r\n0;x\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello"),
            (
                "1\r\na\r\n1\r\nb\r\n0\r\nX-Sum:  1 \r\n\r\n",
                "1\r\na\r\n1\r\nb\r\n0\r\nX-Sum: 1\r\n\r\n",
                "ab",
            ),
            ("0\r\nHost: a\r\nContent-Length: 5\r\nCookie: b\r\nauthorization: c\r\n\r\n", "0\r\n\r\n", ""),
            ("3\r\n\r\n\n\r\n0\r\n\r\n", "3\r\n\r\n\n\r\n0\r\n\r\n", "\r\n\n"),
        ];
        for (input, canonical, data) in cases {
            let with_more = format!("{input}GET / HTTP/1.1");
            for step in 1..=with_more.len() {
                let (out, read, done) = relay(with_more.as_bytes(), step, Output::Chunks).unwrap();
                assert_eq!(
                    (std::str::from_utf8(&out).unwrap(), done),
                    (canonical, true),
                    "{input:?} by {step}"
                );
                assert_eq!(read, input.len(), "{input:?} by {step}");
                let (out, _, done) = relay(with_more.as_bytes(), step, Output::Data).unwrap();
                assert_eq!((std::str::from_utf8(&out).unwrap(), done), (data, true), "{input:?} by {step}");
            }
        }
    }

    #[test]
    fn a_message_s_own_trailers_are_dropped_by_name() {
        let mut chunked = Chunked::default();
        chunked.drop_trailer(b"X-User");
        chunked.drop_trailer(b"x_gone");
        let mut out = Vec::new();
        let input = b"0\r\nx-user: a\r\nX-Gone: b\r\nContentLength: 5\r\nX-Users: c\r\n\r\n";
        assert_eq!(chunked.advance(input, Output::Chunks, &mut out), Ok(input.len()));
        assert_eq!(out, b"0\r\nX-Users: c\r\n\r\n");
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for (input, error) in [
            ("0x5\r\nhello\r\n", ChunkError::Size),
            ("+5\r\nhello\r\n", ChunkError::Size),
            ("-5\r\nhello\r\n", ChunkError::Size),
            ("5_0\r\nhello\r\n", ChunkError::Size),
            ("5 \r\nhello\r\n", ChunkError::Size),
            (" 5\r\nhello\r\n", ChunkError::Size),
            ("5\nhello\r\n", ChunkError::Size),
            ("5\rhello\r\n", ChunkError::Size),
            ("\r\n", ChunkError::Size),
            (";a\r\n", ChunkError::Size),
            ("10000000000000000\r\n", ChunkError::Size),
            ("5;a\nb\r\nhello\r\n", ChunkError::Extension),
            ("5;a\0b\r\nhello\r\n", ChunkError::Extension),
            ("5;a\rb\r\nhello\r\n", ChunkError::Size),
            ("5\r\nhelloo\r\n", ChunkError::DataEnd),
            ("5\r\nhello0\r\n", ChunkError::DataEnd),
            ("5\r\nhello\n0\r\n", ChunkError::DataEnd),
            ("5\r\nhello\r0\r\n", ChunkError::DataEnd),
            ("0\r\nA b\r\n\r\n", ChunkError::Trailer),
            ("0\r\nA : b\r\n\r\n", ChunkError::Trailer),
            ("0\r\n A: b\r\n\r\n", ChunkError::Trailer),
            ("0\r\nA: b\n\r\n", ChunkError::Trailer),
            ("0\r\n\n", ChunkError::Trailer),
        ] {
            for step in 1..=input.len() {
                assert_eq!(relay(input.as_bytes(), step, Output::Chunks), Err(error), "{input:?} by {step}");
            }
        }
    }

    #[test]
    fn extensions_and_trailers_are_limited_over_the_whole_body() {
        let extension = format!("1;{}\r\na\r\n", "x".repeat(1000));
        assert_eq!(relay(extension.repeat(17).as_bytes(), 999, Output::Chunks), Err(ChunkError::Extension));
        let trailers = format!("0\r\n{}\r\n", "A: b\r\n".repeat(101));
        assert_eq!(relay(trailers.as_bytes(), 999, Output::Chunks), Err(ChunkError::Trailer));
        let long = format!("0\r\nA: {}", "b".repeat(SIDE_LIMIT));
        assert_eq!(relay(long.as_bytes(), 999, Output::Chunks), Err(ChunkError::Trailer));
    }

    #[test]
    fn sizes_are_written_canonically() {
        for size in [0, 1, 9, 10, 15, 16, 255, 4096, u64::MAX] {
            let mut out = Vec::new();
            write_size(size, &mut out);
            assert_eq!(String::from_utf8(out.clone()).unwrap(), format!("{size:x}\r\n"));
            assert_eq!(canonical_head(&out), Some((size, out.len())));
        }
    }
}
