//! What Switchback forwards, judged by AWS's desync guardian.

use http_desync_guardian::{ClassificationReason, RequestSafetyTier, request_analyzer::HttpRequestData};

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
        let verdict = HttpRequestData::analyze_raw_request(raw);
        let is_allowed = match verdict.tier {
            RequestSafetyTier::Compliant => true,
            // Bytes above ASCII in a value are allowed (RFC 9110 5.5, obs-text); the guardian calls them acceptable.
            RequestSafetyTier::Acceptable => !raw.is_ascii() || is_body_without_meaning(verdict.reason),
            RequestSafetyTier::Ambiguous => {
                is_body_without_meaning(verdict.reason) || is_another_name(verdict.reason, raw)
            }
            RequestSafetyTier::Severe => is_misspelt(verdict.reason, raw),
        };
        assert!(is_allowed, "{:?} {:?}: {}", verdict.tier, verdict.message, shown(raw));
    }
}

/// The guardian takes a misspelt name (`Transfere-Encoding`) for the one it resembles, and so its value for a bad
/// coding. To every reader that follows RFC 9110 5.1 it is another field; the real one must not be there.
fn is_misspelt(reason: ClassificationReason, raw: &[u8]) -> bool {
    let lower = String::from_utf8_lossy(raw).to_ascii_lowercase();
    reason == ClassificationReason::BadTransferEncoding && !lower.contains("\r\ntransfer-encoding:")
}

/// The guardian suspects a field whose name merely resembles one that frames a message (`Transfer-Encodin+`). It is a
/// token, so it is another field to every reader that follows RFC 9110 5.1, and none that frames is among them.
fn is_another_name(reason: ClassificationReason, raw: &[u8]) -> bool {
    let lower = String::from_utf8_lossy(raw).to_ascii_lowercase();
    let count = |name: &str| lower.matches(name).count();
    let is_framed_once = count("\r\ncontent-length:") + count("\r\ntransfer-encoding:") <= 1;
    reason == ClassificationReason::SuspiciousHeader && is_framed_once
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
