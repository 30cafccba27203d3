//! A body on its way through: how it is framed where it comes from and where it goes.

use super::{
    chunked::{ChunkError, Chunked, Output, write_size},
    request::RequestBody,
    response::ResponseBody,
};

/// A body that is being passed on.
#[derive(Debug, Clone)]
pub struct Body {
    source: Source,
    target: Target,
    /// Data bytes passed on, without framing.
    data: u64,
}

#[derive(Debug, Clone)]
enum Source {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Done,
}

/// How a body is framed where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// By its length, or by the connection's end: the data alone.
    Plain,
    /// In chunks.
    Chunked,
}

/// What becomes of the bytes that were given to [`Body::pass`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Bytes that belong to the body; those behind them belong to what follows it.
    pub read: usize,
    /// The first bytes of them go out as they are, and after them what was written to `aside`.
    pub direct: usize,
}

impl Body {
    /// The body of a request, on its way to an HTTP/1.1 upstream: framed there as it was here.
    pub fn of_request(body: RequestBody) -> Self {
        let (source, target) = match body {
            RequestBody::None | RequestBody::Length(0) => (Source::Done, Target::Plain),
            RequestBody::Length(length) => (Source::Length(length), Target::Plain),
            RequestBody::Chunked => (Source::Chunked(Chunked::default()), Target::Chunked),
        };
        Self { source, target, data: 0 }
    }

    /// The body of a response. An HTTP/1.0 client knows no chunks: it gets the data, ended by the connection's end.
    pub fn of_response(body: ResponseBody, to_http11: bool) -> Self {
        let coded = if to_http11 { Target::Chunked } else { Target::Plain };
        let (source, target) = match body {
            ResponseBody::None | ResponseBody::Length(0) => (Source::Done, Target::Plain),
            ResponseBody::Length(length) => (Source::Length(length), Target::Plain),
            ResponseBody::Chunked => (Source::Chunked(Chunked::default()), coded),
            ResponseBody::UntilClose => (Source::UntilClose, coded),
        };
        Self { source, target, data: 0 }
    }

    /// Drops trailers of these names, too, beside those that are never passed on.
    pub fn drop_trailers<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>) {
        if let Source::Chunked(chunked) = &mut self.source {
            names.for_each(|name| chunked.drop_trailer(name));
        }
    }

    /// How it is framed where it goes.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Whether [`Self::pass`] never writes anything aside.
    pub fn is_plain(&self) -> bool {
        matches!(
            (&self.source, self.target),
            (Source::Length(_) | Source::Done, _) | (Source::UntilClose, Target::Plain)
        )
    }

    /// Whether all of it has been read.
    pub fn is_done(&self) -> bool {
        matches!(self.source, Source::Done)
    }

    /// Whether only the connection's end completes it where it goes.
    pub fn ends_with_connection(&self) -> bool {
        self.target == Target::Plain && matches!(self.source, Source::Chunked(_) | Source::UntilClose)
    }

    /// Data bytes passed on so far, without framing.
    pub fn data_bytes(&self) -> u64 {
        self.data
    }

    /// Data bytes that it has at least, by what has been announced so far.
    pub fn announced_bytes(&self) -> u64 {
        match &self.source {
            Source::Length(left) => self.data.saturating_add(*left),
            Source::Chunked(chunked) => chunked.announced_bytes(),
            Source::UntilClose | Source::Done => self.data,
        }
    }

    /// Reads what of `input` belongs to the body. What goes out is the first `direct` bytes of `input`, then what is
    /// written to `aside`.
    pub fn pass(&mut self, input: &[u8], aside: &mut Vec<u8>) -> Result<Passed, ChunkError> {
        match &mut self.source {
            Source::Done => Ok(Passed { read: 0, direct: 0 }),
            Source::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= length as u64;
                self.data += length as u64;
                if *left == 0 {
                    self.source = Source::Done;
                }
                Ok(Passed { read: length, direct: length })
            }
            Source::UntilClose => {
                self.data += input.len() as u64;
                if self.target == Target::Plain || input.is_empty() {
                    return Ok(Passed { read: input.len(), direct: input.len() });
                }
                write_size(input.len() as u64, aside);
                aside.extend_from_slice(input);
                aside.extend_from_slice(b"\r\n");
                Ok(Passed { read: input.len(), direct: 0 })
            }
            Source::Chunked(chunked) => {
                let (direct, output) = match self.target {
                    Target::Chunked => (chunked.verbatim(input), Output::Chunks),
                    Target::Plain => (0, Output::Data),
                };
                let read = direct + chunked.advance(&input[direct..], output, aside)?;
                self.data = chunked.data_bytes();
                if chunked.is_done() {
                    self.source = Source::Done;
                }
                Ok(Passed { read, direct })
            }
        }
    }

    /// The sender has closed its side. Answers whether that is a proper end of the body; if it is, what ends it where
    /// it goes is written to `aside`.
    pub fn end(&mut self, aside: &mut Vec<u8>) -> bool {
        match self.source {
            Source::Done => true,
            Source::UntilClose => {
                if self.target == Target::Chunked {
                    aside.extend_from_slice(b"0\r\n\r\n");
                }
                self.source = Source::Done;
                true
            }
            Source::Length(_) | Source::Chunked(_) => false,
        }
    }

    /// Ends it where it goes though its sender has not ended it, if what has gone out can be followed by an end: what
    /// makes it one is written to `aside`. A body that has announced its length can't be ended early.
    pub fn end_early(&mut self, aside: &mut Vec<u8>) -> bool {
        match &self.source {
            Source::Chunked(chunked) if self.target == Target::Plain || chunked.is_between_chunks() => {
                self.source = Source::UntilClose;
                self.end(aside)
            }
            Source::UntilClose => self.end(aside),
            Source::Chunked(_) | Source::Length(_) | Source::Done => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_takes_its_bytes_and_no_more() {
        let mut body = Body::of_request(RequestBody::Length(5));
        let mut aside = Vec::new();
        assert_eq!(body.pass(b"abc", &mut aside), Ok(Passed { read: 3, direct: 3 }));
        assert!(!body.is_done() && !body.end(&mut aside));
        assert_eq!(body.pass(b"deGET", &mut aside), Ok(Passed { read: 2, direct: 2 }));
        assert!(body.is_done() && aside.is_empty() && body.data_bytes() == 5);
    }

    #[test]
    fn a_body_is_ended_early_between_its_chunks_alone() {
        let mut body = Body::of_response(ResponseBody::Chunked, true);
        for (bytes, has_end) in
            [("3\r\nab", false), ("c", false), ("\r", false), ("\n", true), ("1", true), (";x=y", true)]
        {
            let mut aside = Vec::new();
            body.pass(bytes.as_bytes(), &mut aside).unwrap();
            let mut end = Vec::new();
            let mut ended = body.clone();
            assert_eq!(ended.end_early(&mut end), has_end, "{bytes:?}");
            assert_eq!(
                (end.as_slice(), ended.is_done()),
                if has_end { (&b"0\r\n\r\n"[..], true) } else { (&b""[..], false) }
            );
        }
        let mut plain = Body::of_response(ResponseBody::Chunked, false);
        let mut aside = Vec::new();
        plain.pass(b"3\r\na", &mut aside).unwrap();
        assert!(plain.end_early(&mut aside) && aside == b"a");
        assert!(!Body::of_request(RequestBody::Length(5)).end_early(&mut aside));
    }

    #[test]
    fn a_body_until_close_is_chunked_for_who_knows_chunks() {
        let mut body = Body::of_response(ResponseBody::UntilClose, true);
        let mut aside = Vec::new();
        assert_eq!(body.pass(b"abc", &mut aside), Ok(Passed { read: 3, direct: 0 }));
        assert!(body.end(&mut aside));
        assert_eq!(aside, b"3\r\nabc\r\n0\r\n\r\n");
        let mut body = Body::of_response(ResponseBody::UntilClose, false);
        assert_eq!(body.pass(b"abc", &mut aside), Ok(Passed { read: 3, direct: 3 }));
    }
}
