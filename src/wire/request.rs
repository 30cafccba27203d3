//! The head of a request (RFC 9112 2 to 6).

use super::{
    fields::{FieldError, Fields, Known, Limits, Progress, Span, resembles_framing},
    scan,
};

/// A request's head, as ranges into the buffer that it was parsed from. Made to be used again and again: its vectors
/// keep their room.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Span,
    /// The request target, as written: visible ASCII without `#`.
    pub target: Span,
    /// Whether the version is 1.1 (else it is 1.0).
    pub is_http11: bool,
    /// The field lines.
    pub fields: Fields,
    /// How long the body is.
    pub body: RequestBody,
    /// The value of `Host`, if there was exactly one.
    pub host: Option<Span>,
    /// Whether `Expect: 100-continue` was sent.
    pub expects_continue: bool,
    /// Whether `TE` names `trailers`.
    pub takes_trailers: bool,
    /// The value of the last `X-Switchback-Attempt`.
    pub attempt: Option<Span>,
    /// The bytes of the whole head, with its empty line.
    pub length: usize,
}

/// The bytes of a method. The registered ones are far shorter.
const LONGEST_METHOD: usize = 64;

/// How long a request's body is (RFC 9112 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestBody {
    /// There is none.
    #[default]
    None,
    /// This many bytes (0 when `Content-Length: 0` was sent).
    Length(u64),
    /// Chunked.
    Chunked,
}

/// Why a request is refused. Each is the client's fault, and nothing was forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request line is not `method SP target SP version CR LF`.
    #[error("the request line is malformed: {0}")]
    Line(&'static str),
    /// A version that is neither 1.0 nor 1.1.
    #[error("this HTTP version is not supported here")]
    Version,
    /// The target is over the limit.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The head is over the limit, in bytes or lines.
    #[error("the request head is too large")]
    HeadTooLarge,
    /// A field line is malformed.
    #[error(transparent)]
    Field(FieldError),
    /// The body's length could be read in two ways.
    #[error("the body's length is ambiguous: {0}")]
    Framing(&'static str),
    /// `Host` is missing or repeated, a field that frames or routes the message is nominated in `Connection`, or a
    /// name holds an underscore.
    #[error("{0}")]
    Fields(&'static str),
    /// An expectation other than `100-continue`.
    #[error("only 100-continue can be expected")]
    Expectation,
}

impl RequestError {
    /// The status that the client gets.
    pub fn status(self) -> u16 {
        match self {
            Self::Version => 505,
            Self::TargetTooLong => 414,
            Self::HeadTooLarge | Self::Field(FieldError::TooMany) => 431,
            Self::Expectation => 417,
            Self::Line(_) | Self::Field(_) | Self::Framing(_) | Self::Fields(_) => 400,
        }
    }
}

impl From<FieldError> for RequestError {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

impl RequestHead {
    /// Reads a head from the start of `buffer`. On [`Progress::Partial`] it is called again with more bytes; what is
    /// wrong already is an error at once, so that a peer is not waited for in vain.
    pub fn parse(&mut self, buffer: &[u8], limits: &Limits) -> Result<Progress, RequestError> {
        // RFC 9112 2.2: an empty line before the request line is ignored.
        let start = if buffer.starts_with(b"\r\n") { 2 } else { 0 };
        let Some(fields_start) = self.parse_line(buffer, start, limits)? else {
            return partial(buffer, limits);
        };
        match self.fields.parse(buffer, fields_start, limits.fields)? {
            Progress::Partial => partial(buffer, limits),
            Progress::Complete(end) if end > limits.head => Err(RequestError::HeadTooLarge),
            Progress::Complete(end) => {
                self.length = end;
                self.interpret(buffer)?;
                Ok(Progress::Complete(end))
            }
        }
    }

    /// Reads the request line; answers where the fields begin, or `None` if the line is not whole.
    fn parse_line(
        &mut self,
        buffer: &[u8],
        start: usize,
        limits: &Limits,
    ) -> Result<Option<usize>, RequestError> {
        let (method_end, _) = scan::token(buffer, start);
        match buffer.get(method_end) {
            // "\r" alone may become the empty line before a request.
            None | Some(b'\r') if method_end == start && buffer.len() <= start + 1 => return Ok(None),
            _ if method_end - start > LONGEST_METHOD => {
                return Err(RequestError::Line("the method is too long"));
            }
            None => return Ok(None),
            Some(b' ') if method_end > start => {}
            Some(_) => return Err(RequestError::Line("the method is not a token")),
        }
        let target_start = method_end + 1;
        let target_end = scan::not_visible(buffer, target_start);
        if target_end - target_start > limits.target {
            return Err(RequestError::TargetTooLong);
        }
        match buffer.get(target_end) {
            None => return Ok(None),
            Some(b' ') if target_end > target_start => {}
            Some(b'\r' | b'\n') => return Err(RequestError::Line("the version is missing")),
            Some(_) => return Err(RequestError::Line("the target holds a byte that is not allowed")),
        }
        if memchr::memchr(b'#', &buffer[target_start..target_end]).is_some() {
            return Err(RequestError::Line("the target holds a fragment"));
        }
        let version = &buffer[target_end + 1..buffer.len().min(target_end + 11)];
        self.is_http11 = match version {
            b"HTTP/1.1\r\n" => true,
            b"HTTP/1.0\r\n" => false,
            _ => return refuse_version(version).map(|()| None),
        };
        self.method = Span::new(start, method_end);
        self.target = Span::new(target_start, target_end);
        Ok(Some(target_end + 11))
    }

    /// Finds out what the fields say of the message as a whole.
    fn interpret(&mut self, buffer: &[u8]) -> Result<(), RequestError> {
        let mut length = None;
        let mut chunked = false;
        self.host = None;
        self.expects_continue = false;
        self.takes_trailers = false;
        self.attempt = None;
        for field in &self.fields.lines {
            let value = || field.value.of(buffer);
            match field.known {
                Known::Other => {
                    // Letters and hyphens alone make a lookalike only if they begin as the framing names do, or with a
                    // hyphen before that.
                    let first = buffer[field.name.start as usize] | 0x20;
                    if (self.fields.odd || matches!(first, b'c' | b't' | b'-'))
                        && resembles_framing(field.name.of(buffer))
                    {
                        return Err(RequestError::Framing(
                            "a field name resembles one that frames the message",
                        ));
                    }
                }
                Known::SwitchbackAttempt => self.attempt = Some(field.value),
                Known::Host if self.host.replace(field.value).is_some() => {
                    return Err(RequestError::Fields("Host is repeated"));
                }
                Known::ContentLength => {
                    let number =
                        scan::decimal(value()).ok_or(RequestError::Framing("Content-Length is no number"))?;
                    if length.replace(number).is_some() {
                        return Err(RequestError::Framing("Content-Length is repeated"));
                    }
                }
                Known::TransferEncoding => {
                    if chunked || !value().eq_ignore_ascii_case(b"chunked") {
                        return Err(RequestError::Framing("Transfer-Encoding is not exactly chunked"));
                    }
                    chunked = true;
                }
                Known::Expect if self.is_http11 => {
                    if !value().eq_ignore_ascii_case(b"100-continue") {
                        return Err(RequestError::Expectation);
                    }
                    self.expects_continue = true;
                }
                Known::Te => self.takes_trailers |= names_trailers(value()),
                _ => {}
            }
        }
        self.body = match (length, chunked) {
            (Some(_), true) => {
                return Err(RequestError::Framing("both Content-Length and Transfer-Encoding"));
            }
            (None, true) if !self.is_http11 => {
                return Err(RequestError::Framing("Transfer-Encoding in HTTP/1.0"));
            }
            (None, true) => RequestBody::Chunked,
            (Some(length), false) => RequestBody::Length(length),
            (None, false) => RequestBody::None,
        };
        if self.host.is_none() && self.is_http11 {
            return Err(RequestError::Fields("Host is missing"));
        }
        self.check_nominations(buffer)
    }

    /// Refuses a `Connection` that would strip the fields which frame or route the message (RFC 9110 7.6.1).
    fn check_nominations(&mut self, buffer: &[u8]) -> Result<(), RequestError> {
        for option in &self.fields.connection.nominated {
            let is = |name: &str| option.of(buffer).eq_ignore_ascii_case(name.as_bytes());
            if is("host") || is("content-length") || is("transfer-encoding") {
                return Err(RequestError::Fields(
                    "Connection names a field that frames or routes the message",
                ));
            }
            // An expectation that is for us alone: we have none to meet.
            self.expects_continue &= !is("expect");
        }
        Ok(())
    }

    /// Refuses names with an underscore, for listeners that don't allow them.
    #[inline]
    pub fn refuse_underscores(&self) -> Result<(), RequestError> {
        match self.fields.underscore {
            true => Err(RequestError::Fields("a field name holds an underscore")),
            false => Ok(()),
        }
    }

    /// Whether the client allows another request on this connection (RFC 9112 9.3).
    pub fn keeps_alive(&self) -> bool {
        let connection = &self.fields.connection;
        !connection.close && (self.is_http11 || connection.keep_alive)
    }
}

/// A head that is not whole yet: an error if it can't become one within the limits.
fn partial(buffer: &[u8], limits: &Limits) -> Result<Progress, RequestError> {
    if buffer.len() >= limits.head {
        return Err(RequestError::HeadTooLarge);
    }
    Ok(Progress::Partial)
}

/// What to say of a version (with the bytes after it) that is neither 1.0 nor 1.1: nothing, while it may become one.
#[cold]
fn refuse_version(text: &[u8]) -> Result<(), RequestError> {
    if [&b"HTTP/1.1\r\n"[..], b"HTTP/1.0\r\n"].iter().any(|whole| whole.starts_with(text)) {
        return Ok(());
    }
    match text {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, ..]
            if major.is_ascii_digit()
                && minor.is_ascii_digit()
                && !matches!((major, minor), (b'1', b'0' | b'1')) =>
        {
            Err(RequestError::Version)
        }
        _ => Err(RequestError::Line("the version is malformed")),
    }
}

/// Whether a value of `TE` names `trailers` (RFC 9110 10.1.4).
fn names_trailers(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields::LIMITS;

    fn parse(text: &[u8]) -> (Result<Progress, RequestError>, RequestHead) {
        let mut head = RequestHead::default();
        (head.parse(text, &LIMITS), head)
    }

    fn refused(text: &str) -> u16 {
        match parse(text.as_bytes()).0 {
            Err(error) => error.status(),
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn reads_a_head() {
        let text =
            b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 010\r\nTE: gzip, trailers\r\n\r\n0123456789";
        let (progress, head) = parse(text);
        assert_eq!(progress, Ok(Progress::Complete(text.len() - 10)));
        assert_eq!((head.method.of(text), head.target.of(text)), (&b"POST"[..], &b"/a?b"[..]));
        assert_eq!(head.body, RequestBody::Length(10));
        assert!(head.is_http11 && head.keeps_alive() && head.takes_trailers && !head.expects_continue);
        assert_eq!(head.host.unwrap().of(text), b"x");
    }

    #[test]
    fn every_prefix_of_a_good_head_is_partial() {
        let text = b"\r\nGET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n";
        for length in 0..text.len() {
            assert_eq!(parse(&text[..length]).0, Ok(Progress::Partial), "{length}");
        }
        assert_eq!(parse(text).1.body, RequestBody::Chunked);
    }

    #[test]
    fn refuses_bad_request_lines() {
        for line in [
            "GET / HTTP/1.1\n",
            "GET  / HTTP/1.1\r\n",
            "GET / HTTP/1.1 \r\n",
            "GET /\r\n",
            "GET\r\n",
            "G@T / HTTP/1.1\r\n",
            " GET / HTTP/1.1\r\n",
            "GET /a b HTTP/1.1\r\n",
            "GET /\u{e9} HTTP/1.1\r\n",
            "GET /\t HTTP/1.1\r\n",
            "GET /#a HTTP/1.1\r\n",
            "GET / http/1.1\r\n",
            "GET / HTTP/1.1\rX",
            "GET / HTTP/11\r\n",
            "GET / XTTP/1.1\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\n",
            "GET / HTTP/1.11\r\n",
            "\x16\x03\x01",
            "\nGET / HTTP/1.1\r\n",
        ] {
            assert_eq!(refused(line), 400, "{line:?}");
        }
        for line in ["GET / HTTP/1.2\r\n", "PRI * HTTP/2.0\r\n", "GET / HTTP/0.9\r\n", "GET / HTTP/3.0\r\n"] {
            assert_eq!(refused(line), 505, "{line:?}");
        }
        assert_eq!(refused(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(8192))), 414);
        assert_eq!(refused(&format!("GET /{}", "a".repeat(9000))), 414);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(65536))), 431);
    }

    #[test]
    fn refuses_ambiguous_framing() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 5 5\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked,\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding:\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "-Content-Length: 5\r\n",
            "Content-Length-: 5\r\n",
            "--transfer-encoding: chunked\r\n",
            "Host: b\r\n",
            "Connection: host\r\n",
            "Connection: close, content-length\r\n",
            "Connection: Transfer-Encoding\r\n",
        ] {
            assert_eq!(refused(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")), 400, "{fields:?}");
        }
        assert_eq!(refused("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
        assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n"), 417);
        assert!(matches!(parse(b"GET / HTTP/1.0\r\n\r\n").0, Ok(Progress::Complete(_))));
    }
}
