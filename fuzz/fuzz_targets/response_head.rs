//! Any bytes as a response head: no panic, the same result however they come in, and what is accepted httparse reads
//! in the same way.

#![no_main]

use libfuzzer_sys::fuzz_target;
use switchback_fuzz::wire::{
    fields::{LIMITS, Progress},
    response::{ResponseBody, ResponseHead},
};

fuzz_target!(|bytes: &[u8]| {
    let mut head = ResponseHead::default();
    let whole = head.parse(bytes, false, &LIMITS);
    let Ok(Progress::Complete(end)) = whole else { return };
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut headers);
    assert_eq!(response.parse(bytes), Ok(httparse::Status::Complete(end)));
    assert_eq!(response.code, Some(head.status));
    assert_eq!(response.version, Some(u8::from(head.is_http11)));
    assert_eq!(response.headers.len(), head.fields.lines.len());
    for (theirs, ours) in response.headers.iter().zip(&head.fields.lines) {
        assert_eq!(theirs.name.as_bytes(), ours.name.of(bytes));
        assert_eq!(theirs.value.trim_ascii(), ours.value.of(bytes).trim_ascii());
    }
    let step = (end / 64).max(1);
    let mut part = ResponseHead::default();
    for cut in (0..end).step_by(step) {
        assert_eq!(part.parse(&bytes[..cut], false, &LIMITS), Ok(Progress::Partial), "cut at {cut}");
    }
    // An answer to HEAD is the same head without a body.
    assert_eq!(part.parse(bytes, true, &LIMITS), Ok(Progress::Complete(end)));
    assert_eq!(part.body, ResponseBody::None);
});
