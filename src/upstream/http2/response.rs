//! A response of HTTP/2 as the message of HTTP/1.1 that says the same.
//!
//! The h2 crate has refused what HTTP/2 forbids, and sees to it that a body has the length that its head says. What the message
//! may be beyond that, the engine judges as of any other.

use h2::RecvStream;
use http::{HeaderMap, Response, StatusCode, header::CONTENT_LENGTH};

use crate::{
    http2::{Framing, Inbound},
    wire::emit,
};

/// A final response, of which the engine reads from now on.
pub(super) fn of(response: Response<RecvStream>, is_to_head: bool, mut text: Vec<u8>) -> Inbound {
    let (parts, body) = response.into_parts();
    text.clear();
    write_line(parts.status, &mut text);
    write_fields(&parts.headers, &mut text);
    let has_no_body = is_to_head || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = if has_no_body || body.is_end_stream() {
        if !has_no_body && !parts.headers.contains_key(CONTENT_LENGTH) {
            emit::content_length(&mut text, 0);
        }
        Framing::Ended
    } else if parts.headers.contains_key(CONTENT_LENGTH) {
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
    write_fields(response.headers(), text);
    text.extend_from_slice(b"\r\n");
}

fn write_line(status: StatusCode, text: &mut Vec<u8>) {
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(status.as_str().as_bytes());
    text.extend_from_slice(b" \r\n");
}

/// Nothing in a value can end its line: the types of HTTP hold neither CR nor LF.
fn write_fields(fields: &HeaderMap, text: &mut Vec<u8>) {
    for (name, value) in fields {
        emit::line(text, name.as_str().as_bytes(), value.as_bytes());
    }
}
