//! A response of HTTP/2 as the message of HTTP/1.1 that says the same.
//!
//! The h2 crate has refused what HTTP/2 forbids, and sees to it that a body has the length that its head says. What the message
//! may be beyond that, the engine judges as of any other.

use h2::RecvStream;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, TRAILER},
};

use crate::{
    http2::{Framing, Inbound},
    wire::emit,
};

/// A final response, of which the engine reads from now on.
pub(super) fn of(response: Response<RecvStream>, is_to_head: bool, mut text: Vec<u8>) -> Inbound {
    let (parts, body) = response.into_parts();
    text.clear();
    write_line(parts.status, &mut text);
    let has_trailers = may_have_trailers(&parts.headers);
    write_fields(&parts.headers, has_trailers, &mut text);
    let has_no_body = is_to_head || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = if has_no_body || body.is_end_stream() {
        if !has_no_body && (has_trailers || !parts.headers.contains_key(CONTENT_LENGTH)) {
            emit::content_length(&mut text, 0);
        }
        Framing::Ended
    } else if parts.headers.contains_key(CONTENT_LENGTH) && !has_trailers {
        Framing::Length
    } else {
        text.extend_from_slice(emit::CHUNKED);
        Framing::Chunks
    };
    text.extend_from_slice(b"\r\n");
    Inbound::new(body, framing, text)
}

/// Writes an interim response.
pub(super) fn write_interim(response: &Response<()>, text: &mut Vec<u8>) {
    write_line(response.status(), text);
    write_fields(response.headers(), false, text);
    text.extend_from_slice(b"\r\n");
}

fn write_line(status: StatusCode, text: &mut Vec<u8>) {
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(status.as_str().as_bytes());
    text.extend_from_slice(b" \r\n");
}

/// Whether trailers are announced, or are what the response is about. HTTP/1.1 has them behind chunks alone, so its length is
/// left out then; the h2 crate has seen to it.
fn may_have_trailers(fields: &HeaderMap) -> bool {
    let is_call = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    fields.contains_key(TRAILER) || fields.get(CONTENT_TYPE).is_some_and(is_call)
}

/// Nothing in a value can end its line: the types of HTTP hold neither CR nor LF.
fn write_fields(fields: &HeaderMap, without_length: bool, text: &mut Vec<u8>) {
    for (name, value) in fields {
        if without_length && name == CONTENT_LENGTH {
            continue;
        }
        emit::line(text, name.as_str().as_bytes(), value.as_bytes());
    }
}
