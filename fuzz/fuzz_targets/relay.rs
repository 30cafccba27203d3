//! Any bytes of a client: what would be forwarded is the same however they come in, and is canonical: read again, each
//! message has one reading, which is ours and httparse's, and nothing behind its end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use switchback_fuzz::{
    proxy::relay::relay,
    wire::{
        chunked::{Chunked, Output},
        fields::{LIMITS, Progress},
        request::{RequestBody, RequestHead},
    },
};

fuzz_target!(|input: &[u8]| {
    // The first byte says how the rest is split.
    let Some((size, bytes)) = input.split_first() else { return };
    let at_once = relay(bytes, bytes.len().max(1));
    assert_eq!(at_once, relay(bytes, usize::from(*size).max(1)));
    for message in &at_once {
        check(message);
    }
});

fn check(message: &[u8]) {
    let mut head = RequestHead::default();
    let Ok(Progress::Complete(end)) = head.parse(message, &LIMITS_OF_AN_UPSTREAM) else {
        panic!("not a head: {}", message.escape_ascii())
    };
    assert!(head.is_http11 && head.host.is_some());
    let mut headers = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut headers);
    assert_eq!(request.parse(message), Ok(httparse::Status::Complete(end)));
    let body = &message[end..];
    match head.body {
        RequestBody::None => assert!(body.is_empty()),
        RequestBody::Length(length) => assert_eq!(body.len() as u64, length),
        RequestBody::Chunked => {
            let mut chunked = Chunked::default();
            assert_eq!(chunked.verbatim(body).min(body.len()), body.len() - trailers(body), "not canonical");
            let mut data = Vec::new();
            assert_eq!(Chunked::default().advance(body, Output::Data, &mut data), Ok(body.len()));
        }
    }
    for name in ["connection", "keep-alive", "proxy-connection", "http2-settings"] {
        let value = head.fields.value(message, name, 0);
        assert!(matches!(value, None | Some(b"TE")), "{name} was forwarded");
    }
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
        assert!(
            head.fields.value(message, name, 0).is_some() && head.fields.value(message, name, 1).is_none()
        );
    }
}

/// What we add must not make a head of the largest size unreadable to this check.
const LIMITS_OF_AN_UPSTREAM: switchback_fuzz::wire::fields::Limits = switchback_fuzz::wire::fields::Limits {
    target: LIMITS.target * 3,
    head: LIMITS.head * 2,
    fields: LIMITS.fields * 2,
};

/// The bytes of the last chunk with its trailers, if it has any: they are written anew each time.
fn trailers(body: &[u8]) -> usize {
    if body.ends_with(b"\r\n0\r\n\r\n") || body == b"0\r\n\r\n" {
        return 0;
    }
    let mut chunked = Chunked::default();
    let verbatim = chunked.verbatim(body);
    body.len() - verbatim
}
