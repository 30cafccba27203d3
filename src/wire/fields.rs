//! The field lines of a head, as ranges into the buffer that holds it.

use super::scan;

/// A range of the buffer that was parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

/// One field line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The name, in the case it came in.
    pub name: Span,
    /// The value, without white space around it.
    pub value: Span,
    /// Which of the fields that a proxy must know it is.
    pub known: Known,
}

/// The fields that a proxy treats in a way of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub enum Known {
    /// Any other field.
    Other = 0,
    /// `Client-Cert` or `Client-Cert-Chain` (RFC 9440), or `X-Forwarded-Client-Cert`: who a proxy says that the client is.
    ClientCertificate,
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    ProxyConnection,
    /// `X-Switchback-Attempt`: which attempt of a request this is, by the layers of Switchback before and here.
    SwitchbackAttempt,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    /// Another field that begins with `X-Forwarded-`.
    XForwardedOther,
    XRequestId,
}

/// A set of known fields, tested in one step.
#[derive(Debug, Clone, Copy)]
pub struct KnownSet(u32);

impl KnownSet {
    /// The set of these.
    pub const fn of(fields: &[Known]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < fields.len() {
            bits |= 1 << fields[at] as u32;
            at += 1;
        }
        Self(bits)
    }

    /// Whether a field is one of them.
    #[inline]
    pub fn contains(self, field: Known) -> bool {
        self.0 >> field as u32 & 1 != 0
    }
}

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request target.
    pub target: usize,
    /// Bytes of the whole head.
    pub head: usize,
    /// Field lines.
    pub fields: usize,
}

/// 8 KiB of target as most servers take; 64 KiB of head and 100 fields, which is far above what browsers send and
/// bounds what a peer can make us hold.
pub const LIMITS: Limits = Limits { target: 8 << 10, head: 64 << 10, fields: 100 };

/// The field lines of a head and what their reading found.
#[derive(Debug, Default)]
pub struct Fields {
    /// The lines in the order they came.
    pub lines: Vec<Field>,
    /// Whether any name holds an underscore.
    pub underscore: bool,
    /// Whether any name holds something else than letters and `-`.
    pub odd: bool,
    /// What the `Connection` fields say.
    pub connection: ConnectionOptions,
}

/// What the `Connection` fields of a head say (RFC 9110 7.6.1).
#[derive(Debug, Default)]
pub struct ConnectionOptions {
    /// `close` was named.
    pub close: bool,
    /// `keep-alive` was named.
    pub keep_alive: bool,
    /// `upgrade` was named.
    pub upgrade: bool,
    /// Other options that were named: fields of these names belong to the sender's connection alone.
    pub nominated: Vec<Span>,
}

/// What is wrong with field lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// A name that is not a token, or white space before the colon.
    #[error("a field name is not a token")]
    Name,
    /// A line that begins with white space: a folded line, or space before the first field.
    #[error("a field line begins with white space")]
    Folded,
    /// A control byte in a value, or a line that does not end in CR LF.
    #[error("a field value holds a control byte")]
    Value,
    /// More lines than the limit.
    #[error("too many fields")]
    TooMany,
    /// A `Connection` option that is not a token.
    #[error("a Connection option is not a token")]
    Connection,
}

/// How far a reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The head ends before this position.
    Complete(usize),
    /// The buffer ends before the head does.
    Partial,
}

impl Span {
    /// A range of a buffer; heads are limited far under 4 GiB.
    #[inline]
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes of the range.
    #[inline]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }
}

impl Fields {
    /// Reads field lines from `at` to the empty line.
    pub(super) fn parse(
        &mut self,
        buffer: &[u8],
        mut at: usize,
        limit: usize,
    ) -> Result<Progress, FieldError> {
        self.lines.clear();
        self.connection.clear();
        let mut classes = 0;
        loop {
            match buffer.get(at) {
                None => return Ok(Progress::Partial),
                Some(b'\r') => {
                    self.underscore = classes & scan::UNDERSCORE != 0;
                    self.odd = classes & scan::ODD != 0;
                    return match buffer.get(at + 1) {
                        None => Ok(Progress::Partial),
                        Some(b'\n') => Ok(Progress::Complete(at + 2)),
                        Some(_) => Err(FieldError::Value),
                    };
                }
                Some(b' ' | b'\t') => return Err(FieldError::Folded),
                Some(_) => {}
            }
            let Some(line) = field_line(buffer, at)? else { return Ok(Progress::Partial) };
            if self.lines.len() == limit {
                return Err(FieldError::TooMany);
            }
            classes |= line.classes;
            if line.field.known == Known::Connection {
                self.connection.add(buffer, line.field.value)?;
            }
            self.lines.push(line.field);
            at = line.next;
        }
    }

    /// The value of the `nth` line of a name (any case), without white space around it.
    pub fn value<'a>(&self, buffer: &'a [u8], name: &str, nth: usize) -> Option<&'a [u8]> {
        let named = |field: &&Field| field.name.of(buffer).eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().filter(named).nth(nth).map(|field| field.value.of(buffer))
    }

    /// Whether a field belongs to the sender's connection because `Connection` names it.
    #[inline]
    pub fn is_nominated(&self, buffer: &[u8], name: Span) -> bool {
        let named = |option: &Span| option.of(buffer).eq_ignore_ascii_case(name.of(buffer));
        !self.connection.nominated.is_empty() && self.connection.nominated.iter().any(named)
    }
}

/// A field line that was read.
#[derive(Debug)]
pub(super) struct Line {
    /// The field.
    pub(super) field: Field,
    /// Where the next line begins.
    pub(super) next: usize,
    /// The classes of its name's bytes.
    pub(super) classes: u8,
}

/// Reads one field line with its CR LF; `None` if the buffer ends before it does.
#[inline(always)]
pub(super) fn field_line(buffer: &[u8], start: usize) -> Result<Option<Line>, FieldError> {
    let (colon, classes) = scan::token(buffer, start);
    match buffer.get(colon) {
        None => return Ok(None),
        Some(b':') if colon > start => {}
        Some(_) => return Err(FieldError::Name),
    }
    let end = scan::control(buffer, colon + 1);
    match buffer.get(end..) {
        Some([b'\r', b'\n', ..]) => {}
        None | Some([] | [b'\r']) => return Ok(None),
        Some(_) => return Err(FieldError::Value),
    }
    let (value_start, value_end) = trim(buffer, colon + 1, end);
    let known = classify(&buffer[start..colon]);
    let field = Field { name: Span::new(start, colon), value: Span::new(value_start, value_end), known };
    Ok(Some(Line { field, next: end + 2, classes }))
}

/// Takes optional white space (RFC 9110 5.6.3) off both ends of a range.
#[inline]
fn trim(buffer: &[u8], mut start: usize, mut end: usize) -> (usize, usize) {
    while start < end && matches!(buffer[start], b' ' | b'\t') {
        start += 1;
    }
    while start < end && matches!(buffer[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    (start, end)
}

/// Which known field a name is. Length and last letter tell nearly all names apart before any is compared.
#[inline]
fn classify(name: &[u8]) -> Known {
    let Some(last) = name.last() else { return Known::Other };
    let (candidate, known) = match (name.len(), last | 0x20) {
        (2, b'e') => ("te", Known::Te),
        (3, b'a') => ("via", Known::Via),
        (4, b't') => ("host", Known::Host),
        (4, b'e') => ("date", Known::Date),
        (6, b't') => ("expect", Known::Expect),
        (6, b'e') => ("cookie", Known::Cookie),
        (7, b'r') => ("trailer", Known::Trailer),
        (7, b'e') => ("upgrade", Known::Upgrade),
        (9, b'd') => ("forwarded", Known::Forwarded),
        (10, b'n') => ("connection", Known::Connection),
        (10, b'e') => ("keep-alive", Known::KeepAlive),
        (11, b't') => ("client-cert", Known::ClientCertificate),
        (12, b'd') => ("x-request-id", Known::XRequestId),
        (14, b'h') => ("content-length", Known::ContentLength),
        (14, b's') => ("http2-settings", Known::Http2Settings),
        (15, b'r') => ("x-forwarded-for", Known::XForwardedFor),
        (16, b't') => ("x-forwarded-host", Known::XForwardedHost),
        (16, b'n') => ("proxy-connection", Known::ProxyConnection),
        (20, b't') => ("x-switchback-attempt", Known::SwitchbackAttempt),
        (17, b'o') => ("x-forwarded-proto", Known::XForwardedProto),
        (17, b'g') => ("transfer-encoding", Known::TransferEncoding),
        (17, b'n') => ("client-cert-chain", Known::ClientCertificate),
        (23, b't') => ("x-forwarded-client-cert", Known::ClientCertificate),
        _ => return other(name),
    };
    if is_lowered(name, candidate.as_bytes()) { known } else { other(name) }
}

/// Whether two names are one for a reader who takes `_` for `-`, as CGI and its heirs do.
#[inline]
pub fn is_same_to_applications(one: &[u8], other: &[u8]) -> bool {
    let read = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().map(read).eq(other.iter().map(read))
}

/// Whether a name with underscores is that of a known field once they are read as `-`, as CGI and its heirs do.
pub fn reads_as_known(name: &[u8]) -> bool {
    let mut hyphened = [0; 32];
    let Some(hyphened) = hyphened.get_mut(..name.len()).filter(|_| name.contains(&b'_')) else {
        return false;
    };
    for (to, from) in hyphened.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { *from };
    }
    classify(hyphened) != Known::Other
}

/// Whether an unknown name has the letters of one that frames a message, in their order, and nothing but other
/// characters besides (`Transfer0%Encoding`, `ContentLength`). It is another field by RFC 9110 5.1, but some reader
/// behind us may take it for that one, and nobody sends it in good faith.
pub fn resembles_framing(name: &[u8]) -> bool {
    let letters = || name.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase);
    name.len() >= 13
        && ["contentlength", "transferencoding"].iter().any(|framing| letters().eq(framing.bytes()))
}

/// A name that is none of those, but may be one of a family.
#[inline]
fn other(name: &[u8]) -> Known {
    match name.split_first_chunk::<12>() {
        Some((prefix, _)) if prefix[0] | 0x20 == b'x' && is_lowered(prefix, b"x-forwarded-") => {
            Known::XForwardedOther
        }
        _ => Known::Other,
    }
}

/// Whether a token is `candidate`, a text of the same length in lower case, in any case.
#[inline]
fn is_lowered(name: &[u8], candidate: &[u8]) -> bool {
    name.iter().zip(candidate).all(|(byte, lower)| byte.to_ascii_lowercase() == *lower)
}

impl ConnectionOptions {
    /// The names of the fields that belong to the sender's connection.
    pub fn nominated_names<'a>(&self, buffer: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.nominated.iter().map(|name| name.of(buffer))
    }

    fn clear(&mut self) {
        self.close = false;
        self.keep_alive = false;
        self.upgrade = false;
        self.nominated.clear();
    }

    fn add(&mut self, buffer: &[u8], value: Span) -> Result<(), FieldError> {
        let mut start = value.start as usize;
        let end = value.end as usize;
        while start < end {
            let comma = memchr::memchr(b',', &buffer[start..end]).map_or(end, |offset| start + offset);
            let (from, to) = trim(buffer, start, comma);
            let option = &buffer[from..to];
            if !option.iter().all(|byte| scan::is_token_byte(*byte)) {
                return Err(FieldError::Connection);
            }
            match option.len() {
                0 => {}
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ if self.nominated.len() == LIMITS.fields => return Err(FieldError::TooMany),
                _ => self.nominated.push(Span::new(from, to)),
            }
            start = comma + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Result<Progress, FieldError>, Fields) {
        let mut fields = Fields::default();
        (fields.parse(text.as_bytes(), 0, 100), fields)
    }

    #[test]
    fn reads_lines_as_they_came() {
        let text = "Host: a\r\nX-Odd:\t b c \t\r\nconnection: close, Foo\r\n\r\nrest";
        let (progress, fields) = parse(text);
        assert_eq!(progress, Ok(Progress::Complete(text.len() - 4)));
        let buffer = text.as_bytes();
        assert_eq!(fields.value(buffer, "x-odd", 0), Some(&b"b c"[..]));
        assert_eq!(fields.value(buffer, "host", 1), None);
        assert!(fields.connection.close && !fields.connection.keep_alive);
        assert_eq!(fields.connection.nominated.len(), 1);
        assert_eq!(fields.connection.nominated[0].of(buffer), b"Foo");
    }

    #[test]
    fn every_prefix_of_a_good_head_is_partial() {
        let text = "Host: a\r\nX: \r\nCookie: b=c\r\n\r\n";
        for length in 0..text.len() {
            assert_eq!(parse(&text[..length]).0, Ok(Progress::Partial), "{:?}", &text[..length]);
        }
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for (text, error) in [
            ("Host : a\r\n\r\n", FieldError::Name),
            (": a\r\n\r\n", FieldError::Name),
            ("Ho\u{e9}st: a\r\n\r\n", FieldError::Name),
            ("Host a\r\n\r\n", FieldError::Name),
            (" Host: a\r\n\r\n", FieldError::Folded),
            ("Host: a\r\n b\r\n\r\n", FieldError::Folded),
            ("Host: a\n\r\n", FieldError::Value),
            ("Host: a\rb\r\n\r\n", FieldError::Value),
            ("Host: a\0\r\n\r\n", FieldError::Value),
            ("Host: a\x7f\r\n\r\n", FieldError::Value),
            ("Host: a\r\n\rX", FieldError::Value),
            ("Host: a\r\n\n", FieldError::Name),
            ("Connection: a b\r\n\r\n", FieldError::Connection),
        ] {
            assert_eq!(parse(text).0, Err(error), "{text:?}");
        }
    }

    #[test]
    fn limits_the_lines() {
        let text = "A: b\r\n".repeat(101) + "\r\n";
        assert_eq!(parse(&text).0, Err(FieldError::TooMany));
        let text = "A: b\r\n".repeat(100) + "\r\n";
        assert!(matches!(parse(&text).0, Ok(Progress::Complete(_))));
    }

    #[test]
    fn underscores_hide_no_known_name() {
        for name in ["X_Forwarded_For", "content_length", "Transfer_Encoding", "x_forwarded-anything"] {
            assert!(reads_as_known(name.as_bytes()), "{name}");
        }
        for name in ["X-Forwarded-For", "x_y", "a_very_long_name_that_is_longer_than_any_that_is_known"] {
            assert!(!reads_as_known(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn names_that_an_application_reads_alike() {
        for (one, other) in [("x-user", "X_User"), ("X_USER", "x-user"), ("x_a-b", "X-A_B"), ("a", "A")] {
            assert!(is_same_to_applications(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
        for (one, other) in [("x-user", "xuser"), ("x-user", "x-uses"), ("a", "ab")] {
            assert!(!is_same_to_applications(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
    }

    #[test]
    fn what_resembles_framing() {
        for name in
            ["Transfer0%Encoding", "ContentLength", "content--length", "Content-Length1", "transfer.encoding"]
        {
            assert!(resembles_framing(name.as_bytes()), "{name}");
        }
        for name in ["Content-Lengths", "X-Content-Length", "Accept-Encoding", "Content-Encoding", "Content"]
        {
            assert!(!resembles_framing(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn knows_names_in_any_case() {
        for (name, known) in [
            ("HOST", Known::Host),
            ("Transfer-encoding", Known::TransferEncoding),
            ("x-forwarded-PORT", Known::XForwardedOther),
            ("X-Forwarded-Proto", Known::XForwardedProto),
            ("X-Forwarded", Known::Other),
            ("Dato", Known::Other),
            ("Keep-Alive", Known::KeepAlive),
        ] {
            assert_eq!(classify(name.as_bytes()), known, "{name}");
        }
    }
}
