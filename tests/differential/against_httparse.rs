//! Heads and chunk sizes, against httparse.

use switchback::wire::{
    chunked::{Chunked, Output},
    fields::{Fields, LIMITS, Progress},
    request::{RequestBody, RequestHead},
    response::{ResponseBody, ResponseHead},
};

use crate::{
    generate, rounds,
    support::{seeded, shown},
};

/// The framing as the field lines that httparse read give it, by RFC 9112 6.3 alone.
fn framing(headers: &[httparse::Header<'_>]) -> Result<Option<u64>, ()> {
    let values = |name: &str| -> Vec<Vec<u8>> {
        let named = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.trim_ascii().to_ascii_lowercase()).collect()
    };
    match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
        ([], []) => Ok(None),
        ([], [coding]) if coding == b"chunked" => Ok(Some(u64::MAX)),
        ([length], []) => {
            String::from_utf8(length.clone()).ok().and_then(|text| text.parse().ok()).map(Some).ok_or(())
        }
        _ => Err(()),
    }
}

fn assert_same_fields(bytes: &[u8], ours: &Fields, theirs: &[httparse::Header<'_>]) {
    let ours: Vec<_> = ours.lines.iter().map(|field| (field.name.of(bytes), field.value.of(bytes))).collect();
    // httparse keeps white space in front of a value in some versions: no reader counts it (RFC 9110 5.5).
    let theirs: Vec<_> = theirs.iter().map(|header| (header.name.as_bytes(), trim(header.value))).collect();
    assert_eq!(ours, theirs, "fields of {}", shown(bytes));
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[test]
fn a_request_head_that_we_accept_is_read_the_same_way() {
    let mut rng = seeded("a_request_head_that_we_accept_is_read_the_same_way");
    let mut head = RequestHead::default();
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..rounds(60_000) {
        let bytes = generate::request(&mut rng);
        let ours = head.parse(&bytes, &LIMITS);
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut headers);
        let theirs = request.parse(&bytes);
        let Ok(progress) = ours else {
            // Stricter is what we are meant to be.
            refused += 1;
            continue;
        };
        let context = shown(&bytes);
        match (progress, theirs) {
            (Progress::Complete(end), Ok(httparse::Status::Complete(their_end))) => {
                accepted += 1;
                assert_eq!(end, their_end, "the head's end in {context}");
                assert_eq!(head.method.of(&bytes), request.method.unwrap().as_bytes(), "{context}");
                assert_eq!(head.target.of(&bytes), request.path.unwrap().as_bytes(), "{context}");
                assert_eq!(head.is_http11, request.version == Some(1), "{context}");
                assert_same_fields(&bytes, &head.fields, request.headers);
                let expected = match head.body {
                    RequestBody::None => None,
                    RequestBody::Length(length) => Some(length),
                    RequestBody::Chunked => Some(u64::MAX),
                };
                assert_eq!(Ok(expected), framing(request.headers), "framing of {context}");
            }
            // What is not whole yet is judged when it is; httparse may have found fault with it already.
            (Progress::Partial, Ok(httparse::Status::Partial) | Err(_)) => {}
            (ours, theirs) => panic!("ours {ours:?}, httparse {theirs:?} of {context}"),
        }
    }
    assert!(accepted > rounds(60_000) / 20, "only {accepted} were accepted: the generator proves little");
    assert!(refused > rounds(60_000) / 20, "only {refused} were refused: the generator proves little");
}

#[test]
fn a_response_head_that_we_accept_is_read_the_same_way() {
    let mut rng = seeded("a_response_head_that_we_accept_is_read_the_same_way");
    let mut head = ResponseHead::default();
    let mut accepted = 0;
    for _ in 0..rounds(60_000) {
        let bytes = generate::response(&mut rng);
        let Ok(progress) = head.parse(&bytes, false, &LIMITS) else { continue };
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut headers);
        let theirs = response.parse(&bytes);
        let context = shown(&bytes);
        match (progress, theirs) {
            (Progress::Complete(end), Ok(httparse::Status::Complete(their_end))) => {
                accepted += 1;
                assert_eq!(end, their_end, "the head's end in {context}");
                assert_eq!(Some(head.status), response.code, "{context}");
                assert_eq!(head.is_http11, response.version == Some(1), "{context}");
                assert_same_fields(&bytes, &head.fields, response.headers);
                // httparse gives an empty reason where there are bytes above ASCII, as it holds text.
                let reason = head.reason.of(&bytes);
                if reason.is_ascii() {
                    assert_eq!(reason, response.reason.unwrap_or_default().as_bytes(), "{context}");
                }
                let expected = match head.body {
                    ResponseBody::None => continue,
                    ResponseBody::UntilClose => None,
                    ResponseBody::Length(length) => Some(length),
                    ResponseBody::Chunked => Some(u64::MAX),
                };
                assert_eq!(Ok(expected), framing(response.headers), "framing of {context}");
            }
            (Progress::Partial, Ok(httparse::Status::Partial) | Err(_)) => {}
            (ours, theirs) => panic!("ours {ours:?}, httparse {theirs:?} of {context}"),
        }
    }
    assert!(accepted > rounds(60_000) / 50, "only {accepted} were accepted: the generator proves little");
}

/// Reads chunked coding with httparse's size parser: the data, and the bytes up to the last chunk's line end.
fn dechunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut data) = (0, Vec::new());
    loop {
        let Ok(httparse::Status::Complete((length, size))) = httparse::parse_chunk_size(&bytes[at..]) else {
            return None;
        };
        at += length;
        if size == 0 {
            return Some((data, at));
        }
        let end = at.checked_add(usize::try_from(size).ok()?)?;
        data.extend_from_slice(bytes.get(at..end)?);
        if bytes.get(end..end + 2)? != b"\r\n" {
            return None;
        }
        at = end + 2;
    }
}

#[test]
fn a_chunked_body_that_we_accept_has_the_same_data() {
    let mut rng = seeded("a_chunked_body_that_we_accept_has_the_same_data");
    let mut accepted = 0;
    for _ in 0..rounds(60_000) {
        let body = generate::body(&mut rng, true).into_bytes();
        let bytes = generate::mutated(&mut rng, body);
        let mut data = Vec::new();
        let mut chunked = Chunked::default();
        let Ok(read) = chunked.advance(&bytes, Output::Data, &mut data) else { continue };
        if !chunked.is_done() {
            continue;
        }
        accepted += 1;
        let context = shown(&bytes);
        let (their_data, at) = dechunked(&bytes).unwrap_or_else(|| panic!("httparse refuses {context}"));
        assert_eq!(data, their_data, "{context}");
        assert!(bytes[at..read].ends_with(b"\r\n"), "{context}");
        assert_canonical(&bytes, &data, read);
    }
    assert!(accepted > rounds(60_000) / 10, "only {accepted} were accepted: the generator proves little");
}

/// What would be passed on is the same data in canonical form, however the input is split.
fn assert_canonical(bytes: &[u8], data: &[u8], read: usize) {
    let mut whole = Vec::new();
    let mut chunked = Chunked::default();
    let direct = chunked.verbatim(bytes);
    whole.extend_from_slice(&bytes[..direct]);
    let more = chunked.advance(&bytes[direct..], Output::Chunks, &mut whole).expect("it was accepted before");
    assert_eq!(direct + more, read, "{}", shown(bytes));

    let mut piecewise = Vec::new();
    let mut chunked = Chunked::default();
    for byte in &bytes[..read] {
        chunked.advance(&[*byte], Output::Chunks, &mut piecewise).expect("it was accepted before");
    }
    assert!(chunked.is_done());
    assert_eq!(whole, piecewise, "{}", shown(bytes));

    let (again, _) = dechunked(&whole).expect("what we write is chunked coding");
    assert_eq!(again, data, "{}", shown(bytes));
    let mut at = 0;
    loop {
        let end = at + memchr::memmem::find(&whole[at..], b"\r\n").expect("a chunk's head has an end");
        let line = std::str::from_utf8(&whole[at..end]).expect("a chunk's head is ASCII");
        let size = crate::support::message::canonical_chunk_size(line).expect("a canonical chunk head");
        if size == 0 {
            break;
        }
        at = end + 2 + size + 2;
    }
}
