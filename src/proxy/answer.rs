//! The answers that Switchback gives itself, and how they look. Which status an error has, its type says.

use super::{
    rate,
    request_head::is_dropped,
    response_head::{Afterwards, HSTS, write_attempt},
    routed::Routed,
};
use crate::wire::emit;

/// An answer of Switchback's own.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status code.
    pub(super) status: u16,
    /// What was wrong, for the body; empty for a redirect.
    pub(super) detail: String,
    /// `Location` of a redirect.
    pub(super) location: Option<Vec<u8>>,
    /// Whether the connection can't be used again: the request's end is unknown, or its body was not read.
    pub(super) close: bool,
    /// How many attempts it has behind it, if those in front are to know.
    pub(super) attempt: Option<u32>,
    /// In how many seconds it is worth to ask again, where that is said.
    pub(super) retry_after: u64,
}

impl Answer {
    /// A problem after which the connection is closed.
    pub(super) fn closing(status: u16, detail: impl ToString) -> Self {
        Self {
            status,
            detail: detail.to_string(),
            location: None,
            close: true,
            attempt: None,
            retry_after: 1,
        }
    }

    /// A problem after which the connection may go on.
    pub(super) fn problem(status: u16, detail: impl ToString) -> Self {
        Self { close: false, ..Self::closing(status, detail) }
    }

    /// A request that comes too early: the next is taken in so many seconds.
    pub(super) fn later(detail: impl ToString, seconds: u64) -> Self {
        Self { retry_after: seconds, ..Self::problem(429, detail) }
    }

    /// Writes it, with what its route adds to responses. A client that asked with HEAD gets no body. Answers how many
    /// bytes of body there are.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        to_head: bool,
        afterwards: Afterwards,
        date: &[u8],
        routed: Option<&Routed>,
        hsts: Option<&[u8]>,
    ) -> usize {
        let edits = routed.map(|routed| &routed.settings().response_headers);
        let line = |out: &mut Vec<u8>, name: &[u8], value: &[u8]| {
            if !edits.is_some_and(|edits| is_dropped(edits, name)) {
                emit::line(out, name, value);
            }
        };
        let reason = reason(self.status);
        out.extend_from_slice(b"HTTP/1.1 ");
        emit::decimal(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        line(out, b"Date", date);
        let body = self.body(reason);
        if let Some(location) = &self.location {
            line(out, b"Location", location);
        } else {
            line(out, b"Content-Type", b"application/problem+json");
            line(out, b"Cache-Control", b"no-store");
        }
        match self.status {
            429 | 503 => {
                let mut seconds = Vec::new();
                emit::decimal(&mut seconds, self.retry_after);
                line(out, b"Retry-After", &seconds);
            }
            405 => line(out, b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            _ => {}
        }
        emit::content_length(out, body.len() as u64);
        if let Some(id) = routed.and_then(Routed::request_id) {
            line(out, b"X-Request-Id", id);
        }
        if let Some(routed) = routed {
            rate::write_fields(out, routed);
        }
        if let Some(hsts) = hsts {
            line(out, HSTS, hsts);
        }
        if let Some(attempt) = self.attempt {
            write_attempt(out, attempt);
        }
        out.extend_from_slice(edits.map_or(&[], |edits| &edits.lines));
        afterwards.write(out);
        out.extend_from_slice(b"\r\n");
        if to_head {
            return 0;
        }
        out.extend_from_slice(body.as_bytes());
        body.len()
    }

    /// A problem document (RFC 9457). The details are our own words and hold nothing that would need escaping in JSON
    /// but quotes.
    fn body(&self, reason: &str) -> String {
        if self.location.is_some() {
            return String::new();
        }
        let detail = self.detail.replace('\\', "\\\\").replace('"', "\\\"");
        format!(
            "{{\"type\":\"about:blank\",\"title\":\"{reason}\",\"status\":{},\"detail\":\"{detail}\"}}\n",
            self.status
        )
    }
}

/// The reason phrase of a status that Switchback answers with.
fn reason(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
