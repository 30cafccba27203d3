//! What Switchback forwards, judged by AWS's desync guardian.

use http_desync_guardian::{
    ClassificationReason, RequestSafetyTier,
    http_token_utils::{TokenSimilarity, determine_similarity},
    request_analyzer::{HttpRequestData, RequestAnalysisResult},
};

use crate::{
    generate, rounds,
    support::{Client, Setup, Upstream, seeded, shown, upstream::response},
};

#[test]
fn the_judge_knows_a_bad_request() {
    for (request, tier) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", RequestSafetyTier::Compliant),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            RequestSafetyTier::Ambiguous,
        ),
    ] {
        assert_eq!(HttpRequestData::analyze_raw_request(request.as_bytes()).tier, tier, "{request:?}");
    }
}

#[test]
fn whatever_is_forwarded_is_compliant() {
    let upstream = Upstream::start(|exchange| {
        let body = exchange.body().bytes.clone();
        exchange.send(&response(200, &body));
    });
    let switchback = Setup::new().start(&upstream);
    let mut rng = seeded("whatever_is_forwarded_is_compliant");
    for _ in 0..rounds(3000) {
        let bytes = generate::request(&mut rng);
        let mut client = Client::connect(switchback.address);
        // The end tells Switchback that a request which is not whole never will be.
        client.send(&bytes).half_close();
        let (answers, _) = client.wire.rest();
        assert!(
            answers.is_empty() || answers.starts_with(b"HTTP/1.1 "),
            "{} gave {}",
            shown(&bytes),
            shown(&answers)
        );
    }
    drop(switchback);
    upstream.assert_canonical();
    let messages = upstream.messages();
    assert!(messages.len() as u32 > rounds(3000) / 20, "only {} were forwarded", messages.len());
    for message in messages {
        let raw = &message.head.raw;
        let verdict = judge(raw);
        assert!(is_allowed(&verdict, raw), "{:?} {:?}: {}", verdict.tier, verdict.message, shown(raw));
    }
}

#[test]
fn the_judge_is_overruled_for_other_names_alone() {
    let allowed = |fields: &str| {
        let raw = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        is_allowed(&judge(raw.as_bytes()), raw.as_bytes())
    };
    for fields in [
        "content-lengt-: 3\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encodin+: chunked\r\n",
        "Transfere-Encoding: 5\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert!(allowed(fields), "{fields:?}");
    }
    for fields in [
        "Content-Length-: 3\r\n",
        "Content-Length-: 3\r\nContent-Length: 5\r\n",
        "Transfer0Encoding: chunked\r\n",
        "content-lengt-: 3\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        "content-lengt-: 3\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "content-lengt-: 3\r\nTransfer-Encoding: xchunked\r\n",
    ] {
        assert!(!allowed(fields), "{fields:?}");
    }
}

/// What the guardian says of a head without its fields of other names.
fn judge(raw: &[u8]) -> RequestAnalysisResult {
    let lines = raw.split_inclusive(|byte| *byte == b'\n');
    let judged: Vec<u8> = lines.filter(|line| !is_another_name(line)).flatten().copied().collect();
    HttpRequestData::analyze_raw_request(&judged)
}

/// The guardian takes a name for `Content-Length` or `Transfer-Encoding` also when letters of it are missing
/// (`content-lengt-`) or added (`Transfere-Encoding`), and then counts its value among the lengths or codings. No
/// reader can: a name that lacks a letter or has one more is another one, however the reader treats what is not a
/// letter. So such a line is not shown to it. One that has the framing name's very letters is, for such a one must
/// never be forwarded.
fn is_another_name(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let name = &line[..colon];
    let resembled = ["content-length", "transfer-encoding"]
        .into_iter()
        .find(|framing| determine_similarity(framing.as_bytes(), name) == TokenSimilarity::SameLetters);
    let letters = |name: &[u8]| -> Vec<u8> {
        name.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase).collect()
    };
    resembled.is_some_and(|framing| letters(name) != letters(framing.as_bytes()))
}

fn is_allowed(verdict: &RequestAnalysisResult, raw: &[u8]) -> bool {
    match verdict.tier {
        RequestSafetyTier::Compliant => true,
        // Bytes above ASCII in a value are allowed (RFC 9110 5.5, obs-text); the guardian calls them acceptable.
        RequestSafetyTier::Acceptable => !raw.is_ascii() || is_body_without_meaning(verdict.reason),
        RequestSafetyTier::Ambiguous => is_body_without_meaning(verdict.reason),
        RequestSafetyTier::Severe => false,
    }
}

/// The guardian suspects a body on GET and HEAD as such. It has no meaning there, but its framing is plain to every
/// reader (RFC 9110 9.3.1), clients do send it, and dropping or refusing it is the application's choice.
fn is_body_without_meaning(reason: ClassificationReason) -> bool {
    matches!(
        reason,
        ClassificationReason::GetHeadZeroContentLength
            | ClassificationReason::UndefinedContentLengthSemantics
            | ClassificationReason::UndefinedTransferEncodingSemantics
    )
}
