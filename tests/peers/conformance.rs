//! httpwg, a suite of tests of RFC 9113: all pass but those that are explained here.

use std::{collections::BTreeSet, process::Command};

use super::{
    run,
    support::{Setup, Upstream, is_long, upstream::response},
};

/// The connection is ended, as it is to be, but GOAWAY says PROTOCOL_ERROR where the RFC names a closer one (4.2, 4.3, 5.1,
/// 6.5.2): the h2 crate chooses it. A client learns less of why, and nothing else.
const OF_ANOTHER_CODE: [&str; 14] = [
    "4. http frames :: invalid header block fragment",
    "5. streams and multiplexing :: closed sends headers frame",
    "5. streams and multiplexing :: closed sends headers frame after rst stream",
    "5. streams and multiplexing :: half closed remote sends data frame",
    "5. streams and multiplexing :: half closed remote sends headers frame",
    "6. frame definitions :: sends data frame on invalid stream state",
    "6. frame definitions :: sends ping frame with invalid length",
    "6. frame definitions :: sends priority frame with invalid length",
    "6. frame definitions :: sends rst stream frame with invalid length",
    "6. frame definitions :: sends settings frame with ack and payload",
    "6. frame definitions :: sends settings frame with invalid length",
    "6. frame definitions :: sends settings initial window size with exceeded max window size value",
    "6. frame definitions :: sends settings initial window size with invalid value",
    "6. frame definitions :: sends window update frame with invalid length",
];

/// The rest, each with its reason.
const EXPLAINED: [(&str, &str); 4] = [
    (
        "8. expressing http semantics in http2 :: client sends push promise frame",
        "the frame lacks END_HEADERS, and what is no whole block is waited for (`head_timeout`, or the end of an idle connection)",
    ),
    (
        "8. expressing http semantics in http2 :: sends connect without authority",
        "answered with 405: a malformed request may be answered before its stream is closed (8.1.1)",
    ),
    (
        "8. expressing http semantics in http2 :: sends headers frame with mismatched host authority",
        "answered with 400, likewise",
    ),
    (
        "8. expressing http semantics in http2 :: sends headers frame with pseudo header in trailer",
        "the h2 crate drops the pseudo field; nothing of it reaches an upstream",
    ),
];

#[test]
fn httpwg_passes_but_for_what_is_explained() {
    // It takes minutes to build. Most of what it sends, tests/http2 does, too, and asserts both sides of it.
    if !is_long() {
        return;
    }
    let upstream = Upstream::answering(response(200, b"not empty"));
    let switchback = Setup::new().start(&upstream);
    let output = run(Command::new("httpwg")
        .env("SEQUENTIAL", "1")
        .env("RUST_LOG", "error")
        .env("RUST_BACKTRACE", "0")
        .args(["--frame-timeout", "2000", "--connect-timeout", "5000", "--address"])
        .arg(switchback.address.to_string()));
    let said = String::from_utf8_lossy(&output.stderr);
    let named = |what: &str| -> BTreeSet<String> {
        let lines = said.lines().filter_map(|line| line.split_once(what));
        lines.map(|(_, name)| name.trim_start_matches("RFC 9113 :: ").to_owned()).collect()
    };
    let (passed, failed) = (named("Test passed: "), named("Test failed: "));
    let explained: BTreeSet<_> =
        OF_ANOTHER_CODE.into_iter().chain(EXPLAINED.map(|(name, _)| name)).map(str::to_owned).collect();
    assert_eq!(failed, explained, "{said}");
    assert!(passed.len() >= 85, "{said}");
    println!("{} passed, {} explained", passed.len(), failed.len());
}
