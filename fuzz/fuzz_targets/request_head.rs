//! Any bytes as a request head: no panic, the same result however they come in, and what is accepted httparse reads
//! in the same way.

#![no_main]

use libfuzzer_sys::fuzz_target;
use switchback_fuzz::wire::{
    fields::{LIMITS, Progress},
    request::RequestHead,
};

fuzz_target!(|bytes: &[u8]| {
    let mut head = RequestHead::default();
    let whole = head.parse(bytes, &LIMITS);
    check_prefixes(bytes, whole.ok());
    let Ok(Progress::Complete(end)) = whole else { return };
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(end)));
    assert_eq!(request.method.map(str::as_bytes), Some(head.method.of(bytes)));
    assert_eq!(request.path.map(str::as_bytes), Some(head.target.of(bytes)));
    assert_eq!(request.version, Some(u8::from(head.is_http11)));
    assert_eq!(request.headers.len(), head.fields.lines.len());
    for (theirs, ours) in request.headers.iter().zip(&head.fields.lines) {
        assert_eq!(theirs.name.as_bytes(), ours.name.of(bytes));
        assert_eq!(theirs.value.trim_ascii(), ours.value.of(bytes).trim_ascii());
    }
});

/// A prefix of what is accepted is not refused, and a prefix of a partial head is partial: bytes that are still to
/// come can't repair what came.
fn check_prefixes(bytes: &[u8], whole: Option<Progress>) {
    let Some(progress) = whole else { return };
    let end = match progress {
        Progress::Complete(end) => end,
        Progress::Partial => bytes.len(),
    };
    let mut head = RequestHead::default();
    let step = (end / 64).max(1);
    for cut in (0..end).step_by(step) {
        assert_eq!(head.parse(&bytes[..cut], &LIMITS), Ok(Progress::Partial), "cut at {cut}");
    }
}
