//! Calls of web pages, of other hosts' names, and of clients that send too much, too slowly or too cleverly; each with a
//! good token, which does not help them, and without.

use std::{
    io::{ErrorKind, Write},
    net::Ipv4Addr,
    time::Instant,
};

use super::{Answer, Ask, Folder, Guarded, SECOND, connect};

const WEIGHTS: &str = "/v1/splits/main/weights";

fn guarded() -> (Guarded, String) {
    let folder = Folder::new();
    let token = folder.make("admin", "root", &[]);
    (Guarded::start(folder), token)
}

#[test]
fn pages_of_other_sites_are_kept_out_whatever_token_they_have() {
    let (guarded, token) = guarded();
    let host = format!("Host: {}\r\n", guarded.switchback.admin);
    for (fields, status, problem) in [
        ("Host: evil.example\r\n", 403, "foreign-host"),
        ("Host: localhost.evil.example:9900\r\n", 403, "foreign-host"),
        ("Host: 10.0.0.1:9900\r\n", 403, "foreign-host"),
        ("Host: localhost\r\nHost: localhost\r\n", 403, "foreign-host"),
        ("Origin: http://evil.example\r\n", 403, "foreign-origin"),
        ("Origin: null\r\n", 403, "foreign-origin"),
        ("Origin: http://127.0.0.1:1\r\n", 403, "foreign-origin"),
        ("Sec-Fetch-Site: cross-site\r\n", 403, "foreign-origin"),
        ("Sec-Fetch-Site: same-site\r\n", 403, "foreign-origin"),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415, "not-json"),
        ("Content-Type: text/plain\r\n", 415, "not-json"),
        ("Content-Type: multipart/form-data; boundary=x\r\n", 415, "not-json"),
        ("Content-Type: application/json\r\nContent-Type: application/json\r\n", 415, "not-json"),
    ] {
        let fields = if fields.contains("Host:") { fields.to_owned() } else { format!("{host}{fields}") };
        let ask = Ask { token: Some(&token), fields: &fields, body: "{\"blue\": 1}", ..Ask::default() };
        let answer = guarded.ask("PUT", WEIGHTS, ask);
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{fields}");
        let without = Ask { fields: &fields, body: "{\"blue\": 1}", ..Ask::default() };
        let without = guarded.ask("PUT", WEIGHTS, without).status;
        assert_eq!(without, if status == 403 { 403 } else { 401 }, "{fields}");
        // No page may read an answer of ours, either.
        assert!(answer.field("access-control-allow-origin").is_none());
    }
    let preflight = "Origin: http://evil.example\r\nAccess-Control-Request-Method: PUT\r\n";
    assert_eq!(guarded.ask("OPTIONS", WEIGHTS, Ask { fields: preflight, ..Ask::default() }).status, 403);
    let weights = guarded.get("/v1/splits/main", Some(&token)).json()["weights"].clone();
    assert_eq!(weights["blue"], 90, "nothing has changed: {weights}");
}

#[test]
fn names_that_are_long_strange_or_climb_are_not_found() {
    let (guarded, token) = guarded();
    let long = "x".repeat(10_240);
    for (path, status) in [
        (format!("/v1/splits/{long}"), 404),
        ("/v1/splits/%F0%9F%92%A9".into(), 404),
        ("/v1/splits/%00".into(), 404),
        ("/v1/splits/%FF%FE".into(), 400),
        ("/v1/splits/..%2F..%2Fetc%2Fpasswd".into(), 404),
        ("/v1/splits/../../etc/passwd".into(), 404),
        ("/v1/splits/main/../../livez".into(), 404),
        ("/v1/pools/%2e%2e".into(), 404),
        ("/v1/revisions/..%2F1".into(), 400),
    ] {
        let answer = guarded.get(&path, Some(&token));
        let shown: String = path.chars().take(60).collect();
        assert_eq!(answer.status, status, "{shown}: {answer:?}");
        assert!(answer.body.len() < 4_000, "{shown}: {} bytes", answer.body.len());
        assert_eq!(guarded.get(&path, None).status, 401, "{shown}");
    }
    for path in ["/v1/tokens/..%2F..%2Ftokens.toml", "/v1/tokens/%2e%2e", &format!("/v1/tokens/{long}")] {
        let answer = guarded.ask("DELETE", path, Ask { token: Some(&token), ..Ask::default() });
        assert_eq!((answer.status, answer.problem().as_str()), (404, "unknown-token"));
    }
    let body = format!("{{\"{long}\": 1, \"\u{1f4a9}\": 2}}");
    let answer = guarded.ask("PUT", WEIGHTS, Ask { token: Some(&token), body: &body, ..Ask::default() });
    assert_eq!(answer.status, 422);
    assert!(answer.body.len() < 10_000 && guarded.folder.tokens().exists());
}

#[test]
fn a_huge_body_is_refused_before_it_is_read_and_without_a_token_sooner() {
    let (guarded, token) = guarded();
    let huge = 100 << 20;
    let announced = format!("Content-Length: {huge}\r\n");
    let ask = Ask { token: Some(&token), fields: &announced, ..Ask::default() };
    assert_eq!(guarded.ask("PUT", WEIGHTS, ask).status, 413);
    assert_eq!(guarded.ask("PUT", WEIGHTS, Ask { fields: &announced, ..Ask::default() }).status, 401);
    // A body that does not say how long it will be, sent for as long as somebody reads it.
    let mut stream = connect(Ipv4Addr::LOCALHOST, guarded.switchback.admin);
    let head = format!(
        "PUT {WEIGHTS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    let mut sent = 0;
    while sent < huge {
        match stream.write_all(chunk.as_bytes()) {
            Ok(()) => sent += 1 << 20,
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < huge, "reading ended long before the body did");
    let before = guarded.switchback.memory("VmHWM");
    assert!(before < 300 << 20, "{before} bytes were used");
    assert_eq!(guarded.get("/v1/status", Some(&token)).status, 200);
}

#[test]
fn a_slow_body_is_ended_and_holds_nobody_up() {
    let (guarded, token) = guarded();
    let begun = Instant::now();
    let mut stream = connect(Ipv4Addr::LOCALHOST, guarded.switchback.admin);
    let head = format!(
        "PUT {WEIGHTS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    assert_eq!(guarded.get("/v1/status", Some(&token)).status, 200, "meanwhile others are served");
    let answer = Answer::read(stream);
    assert_eq!((answer.status, answer.problem().as_str()), (408, "body-too-slow"));
    assert!(begun.elapsed() < 15 * SECOND, "{:?}", begun.elapsed());
}
