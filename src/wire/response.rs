//! The head of a response, as an upstream sends it (RFC 9112 4 to 6).

use super::{
    fields::{FieldError, Fields, Known, Limits, Progress, Span},
    scan,
};

/// A response's head, as ranges into the buffer that it was parsed from. Made to be used again and again.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase, which may be empty.
    pub reason: Span,
    /// Whether the version is 1.1 (else it is 1.0).
    pub is_http11: bool,
    /// The field lines.
    pub fields: Fields,
    /// How long the body is.
    pub body: ResponseBody,
    /// The value of `Content-Length`, which on an answer to HEAD and on a 304 frames nothing.
    pub content_length: Option<u64>,
    /// Whether there was a `Date`.
    pub has_date: bool,
    /// The bytes of the whole head, with its empty line.
    pub length: usize,
}

/// How long a response's body is (RFC 9112 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResponseBody {
    /// There is none, whatever the fields say.
    #[default]
    None,
    /// This many bytes.
    Length(u64),
    /// Chunked.
    Chunked,
    /// All until the upstream closes.
    UntilClose,
}

/// Why a response can't be passed on. Each is the upstream's fault: 502.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The status line is not `version SP status [SP reason] CR LF`.
    #[error("the status line is malformed")]
    Line,
    /// The head is over the limit, in bytes or lines.
    #[error("the response head is too large")]
    HeadTooLarge,
    /// A field line is malformed.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The body's length could be read in two ways.
    #[error("the body's length is ambiguous: {0}")]
    Framing(&'static str),
}

impl ResponseHead {
    /// Reads a head from the start of `buffer`. `to_head` says that it answers a HEAD request.
    pub fn parse(
        &mut self,
        buffer: &[u8],
        to_head: bool,
        limits: &Limits,
    ) -> Result<Progress, ResponseError> {
        let Some(fields_start) = self.parse_line(buffer)? else { return partial(buffer, limits) };
        match self.fields.parse(buffer, fields_start, limits.fields)? {
            Progress::Partial => partial(buffer, limits),
            Progress::Complete(end) if end > limits.head => Err(ResponseError::HeadTooLarge),
            Progress::Complete(end) => {
                self.length = end;
                self.interpret(buffer, to_head)?;
                Ok(Progress::Complete(end))
            }
        }
    }

    /// Reads the status line; answers where the fields begin, or `None` if the line is not whole.
    fn parse_line(&mut self, buffer: &[u8]) -> Result<Option<usize>, ResponseError> {
        const SHAPE: &[u8] = b"HTTP/1.";
        let known = buffer.len().min(SHAPE.len());
        if buffer[..known] != SHAPE[..known] {
            return Err(ResponseError::Line);
        }
        // HTTP/1.x SP 3DIGIT, then SP or CR.
        let Some([minor, b' ', a, b, c, after, ..]) = buffer.get(SHAPE.len()..) else {
            return if buffer.len() >= SHAPE.len() + 6 { Err(ResponseError::Line) } else { Ok(None) };
        };
        self.is_http11 = match minor {
            b'1' => true,
            b'0' => false,
            _ => return Err(ResponseError::Line),
        };
        let digits = [*a, *b, *c];
        if !digits.iter().all(u8::is_ascii_digit) || *a == b'0' {
            return Err(ResponseError::Line);
        }
        self.status = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        let reason_start = match after {
            b' ' => SHAPE.len() + 6,
            b'\r' => SHAPE.len() + 5,
            _ => return Err(ResponseError::Line),
        };
        let end = scan::control(buffer, reason_start);
        match (buffer.get(end), buffer.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => {
                self.reason = Span::new(reason_start, end);
                Ok(Some(end + 2))
            }
            (None, _) | (Some(b'\r'), None) => Ok(None),
            _ => Err(ResponseError::Line),
        }
    }

    /// Finds out what the fields say of the message as a whole.
    fn interpret(&mut self, buffer: &[u8], to_head: bool) -> Result<(), ResponseError> {
        let mut chunked = false;
        self.content_length = None;
        self.has_date = false;
        for field in &self.fields.lines {
            match field.known {
                Known::ContentLength => {
                    let number = scan::decimal(field.value.of(buffer))
                        .ok_or(ResponseError::Framing("Content-Length is no number"))?;
                    if self.content_length.replace(number).is_some() {
                        return Err(ResponseError::Framing("Content-Length is repeated"));
                    }
                }
                Known::TransferEncoding => {
                    if chunked || !self.is_http11 || !field.value.of(buffer).eq_ignore_ascii_case(b"chunked")
                    {
                        return Err(ResponseError::Framing("Transfer-Encoding is not exactly chunked"));
                    }
                    chunked = true;
                }
                Known::Date => self.has_date = true,
                _ => {}
            }
        }
        for option in &self.fields.connection.nominated {
            let option = option.of(buffer);
            if option.eq_ignore_ascii_case(b"content-length")
                || option.eq_ignore_ascii_case(b"transfer-encoding")
            {
                return Err(ResponseError::Framing("Connection names a field that frames the message"));
            }
        }
        self.body = match (self.content_length, chunked) {
            (Some(_), true) => {
                return Err(ResponseError::Framing("both Content-Length and Transfer-Encoding"));
            }
            _ if to_head || matches!(self.status, 100..=199 | 204 | 304) => ResponseBody::None,
            (None, true) => ResponseBody::Chunked,
            (Some(length), false) => ResponseBody::Length(length),
            (None, false) => ResponseBody::UntilClose,
        };
        Ok(())
    }

    /// Whether the upstream allows another request on this connection (RFC 9112 9.3).
    pub fn keeps_alive(&self) -> bool {
        let connection = &self.fields.connection;
        !connection.close
            && (self.is_http11 || connection.keep_alive)
            && self.body != ResponseBody::UntilClose
    }
}

fn partial(buffer: &[u8], limits: &Limits) -> Result<Progress, ResponseError> {
    if buffer.len() >= limits.head {
        return Err(ResponseError::HeadTooLarge);
    }
    Ok(Progress::Partial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields::LIMITS;

    fn parse(text: &str, to_head: bool) -> (Result<Progress, ResponseError>, ResponseHead) {
        let mut head = ResponseHead::default();
        (head.parse(text.as_bytes(), to_head, &LIMITS), head)
    }

    #[test]
    fn reads_heads_and_the_length_of_their_bodies() {
        for (text, to_head, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, ResponseBody::Length(5)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, ResponseBody::None),
            ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", false, ResponseBody::Chunked),
            ("HTTP/1.1 200 \r\n\r\n", false, ResponseBody::UntilClose),
            ("HTTP/1.0 200 OK\r\n\r\n", false, ResponseBody::UntilClose),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, ResponseBody::None),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false, ResponseBody::None),
            ("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", false, ResponseBody::None),
        ] {
            let (progress, head) = parse(text, to_head);
            assert_eq!(progress, Ok(Progress::Complete(text.len())), "{text:?}");
            assert_eq!(head.body, body, "{text:?}");
            for length in 0..text.len() {
                assert_eq!(parse(&text[..length], to_head).0, Ok(Progress::Partial), "{:?}", &text[..length]);
            }
        }
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for text in [
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\n\n",
            "HTTP/1.1 200 O\0K\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "hello world",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\n",
        ] {
            assert!(parse(text, false).0.is_err(), "{text:?}");
        }
    }
}
