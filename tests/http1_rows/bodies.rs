//! Rows 1-4, 8, 9: where a request's body ends.

use crate::{
    row::{Row, assert_problem, get, is_cut, post},
    support::{Upstream, message::Framing, shown, wait_until},
};

#[test]
fn row_01_content_length_and_transfer_encoding_together() {
    let row = Row::new();
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "transfer-encoding: chunked\r\nX: y\r\ncontent-length: 0\r\n",
        "CONTENT-LENGTH: 6\r\nTRANSFER-ENCODING: CHUNKED\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: Content-Length\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n",
        "Content-Length:\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding:\r\n",
    ] {
        row.refuses(&[400], post(fields, "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"));
    }
    row.finish();
}

#[test]
fn row_02_a_content_length_that_is_not_one_number() {
    let row = Row::new();
    for value in [
        "5, 6",
        "5,6",
        "+5",
        "-5",
        "-0",
        "0x5",
        "5_0",
        "5 0",
        "5\t0",
        "",
        ",",
        "5,",
        ",5",
        "5;",
        "5.0",
        "5e0",
        "\"5\"",
        "'5'",
        "a",
        "5a",
        "\u{ff15}",
        "18446744073709551616",
        "99999999999999999999999999",
        "\u{b}5",
        "5\u{c}",
        "5\0",
        "0, 5",
    ] {
        row.refuses(&[400], post(&format!("Content-Length: {value}\r\n"), "hello world"));
    }
    for lines in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 6\r\nX: y\r\ncontent-length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length:\r\n",
        "Content-Length: 5\r\nContent-Length: +5\r\n",
    ] {
        row.refuses(&[400], post(lines, "hello world"));
    }
    row.finish();
}

#[test]
fn row_02_a_content_length_that_is_one_number_is_forwarded_in_its_canonical_form() {
    let row = Row::new();
    for (value, body) in [("5", "hello"), ("0", ""), ("5 \t", "hello"), ("10", "hello worl")] {
        let message = row.forwards(post(&format!("Content-Length: {value}\r\n"), body));
        assert_eq!(message.framing, Framing::Length(body.len() as u64));
        assert_eq!(message.body.bytes, body.as_bytes());
    }
    for fields in
        ["Content-Length: 005\r\n", "Content-Length: 5, 5\r\n", "Content-Length: 5\r\nContent-Length: 5\r\n"]
    {
        if let Some(message) = row.refuses_or_forwards(post(fields, "hello")) {
            assert_eq!(message.framing, Framing::Length(5));
            assert_eq!(message.body.bytes, b"hello");
        }
    }
    row.finish();
}

#[test]
fn row_03_transfer_encoding_not_exactly_chunked() {
    let row = Row::new();
    for value in [
        "",
        "gzip",
        "gzip, chunked",
        "gzip,chunked",
        "chunked, gzip",
        "identity",
        "chunked, identity",
        "identity, chunked",
        "xchunked",
        "chunkedx",
        "x-chunked",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        ", chunked",
        "chunked ,",
        "chunked;",
        "chunked;q=1",
        "chunked; a=b",
        "\"chunked\"",
        "chun ked",
        "chunked chunked",
        "\u{b}chunked",
        "chunked\u{b}",
        "\u{c}chunked",
        "chunked\u{c}",
        "chunked\0",
        "cow",
        "trailers",
        "chunke",
        "deflate",
        "ch\u{fc}nked",
        "chunked\u{a0}",
        "\u{7f}chunked",
    ] {
        row.refuses(&[400], post(&format!("Transfer-Encoding: {value}\r\n"), "5\r\nhello\r\n0\r\n\r\n"));
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nX: y\r\nTransfer-Encoding: cow\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding: chunked\r\n ,identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n",
    ] {
        row.refuses(&[400], post(lines, "5\r\nhello\r\n0\r\n\r\n"));
    }
    row.finish();
}

#[test]
fn row_03_chunked_in_another_case_is_refused_or_written_anew() {
    let row = Row::new();
    for value in ["chunked", "Chunked", "CHUNKED", "chunked \t", "\tchunked"] {
        let request = post(&format!("Transfer-Encoding:{value}\r\n"), "5\r\nhello\r\n0\r\n\r\n");
        match row.refuses_or_forwards(request) {
            Some(message) => {
                assert_eq!(message.framing, Framing::Chunked);
                assert_eq!(message.body.bytes, b"hello");
            }
            None => assert_ne!(value, "chunked", "the plain form must be taken"),
        }
    }
    row.finish();
}

#[test]
fn row_04_transfer_encoding_in_http_1_0() {
    let row = Row::new();
    for fields in [
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ] {
        row.refuses(
            &[400],
            format!("POST /x HTTP/1.0\r\nHost: a.example\r\n{fields}\r\n5\r\nhello\r\n0\r\n\r\n"),
        );
    }
    row.finish();
}

/// What follows a head with `Transfer-Encoding: chunked` and is not chunked coding.
fn bad_chunks() -> Vec<String> {
    let mut bad: Vec<String> = [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "-0\r\n\r\n",
        "_5\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "10000000000000000\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";a=b\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\t5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\t\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\rhello\r\n0\r\n\r\n",
        "5\u{b}\r\nhello\r\n0\r\n\r\n",
        "5\0\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello \r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\r\"\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nX\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX: a\r\n b\r\n\r\n",
        "0\r\nX: a\rb\r\n\r\n",
        "0\r\nX: a\nY: b\r\n\r\n",
        "0\r\n: a\r\n\r\n",
        "0\r\nX: \0\r\n\r\n",
        "0\r\nX\u{e9}: a\r\n\r\n",
    ]
    .map(str::to_owned)
    .into();
    bad.push(format!("5;a={}\r\nhello\r\n0\r\n\r\n", "b".repeat(17 << 10)));
    bad.push(format!("0;a={}\r\n\r\n", "b".repeat(17 << 10)));
    bad.push(format!("{}0\r\n\r\n", "1;extension=of-some-length\r\nx\r\n".repeat(1000)));
    bad.push(format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(17 << 10)));
    bad
}

#[test]
fn row_08_bad_chunks_are_refused_and_the_upstream_connection_is_aborted() {
    let row = Row::new();
    for chunk in bad_chunks() {
        for before in ["", "3\r\nabc\r\n", "3\r\nabc\r\n2\r\nde\r\n"] {
            let whole = row.upstream.messages().iter().filter(|message| message.broken.is_none()).count();
            let rest = format!("{before}{chunk}");
            let mut client = row.client();
            client.send(post("Transfer-Encoding: chunked\r\n", &rest));
            let response = client.response("POST");
            assert_problem(&response, &[400], &shown(rest.as_bytes()));
            assert!(response.closes(), "{}", shown(rest.as_bytes()));
            client.expect_end(&shown(rest.as_bytes()));
            wait_until("the aborted upstream connection has ended", || row.upstream.open() == 0);
            let messages = row.upstream.messages();
            let now = messages.iter().filter(|message| message.broken.is_none()).count();
            assert_eq!(now, whole, "{} reached the upstream whole", shown(rest.as_bytes()));
        }
    }
    // A connection that carried a cut request ended with it; what comes now gets a new one.
    row.forwards(get(""));
    let upstream = row.upstream.messages();
    assert!(
        upstream
            .iter()
            .filter(|message| message.broken.is_some())
            .all(|message| is_cut(message.broken.as_ref()))
    );
    row.finish();
}

#[test]
fn row_08_a_bad_chunk_after_forwarding_had_begun() {
    let row = Row::new();
    for chunk in bad_chunks() {
        let mut client = row.client();
        client.send(post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n"));
        let requests = row.upstream.messages().len();
        // The head may be held back until more of the body has come, so only time can tell whether it began.
        let begun = row.upstream.requests();
        let deadline = std::time::Instant::now() + std::time::Duration::from_millis(5);
        while row.upstream.requests() == begun && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        client.send(&chunk);
        let response = client.response("POST");
        assert_problem(&response, &[400], &shown(chunk.as_bytes()));
        client.expect_end(&shown(chunk.as_bytes()));
        wait_until("the aborted upstream connection has ended", || row.upstream.open() == 0);
        for message in &row.upstream.messages()[requests..] {
            assert!(
                is_cut(message.broken.as_ref()),
                "{} got through as {}",
                shown(chunk.as_bytes()),
                message.shown()
            );
        }
    }
    row.finish();
}

#[test]
fn row_08_extensions_are_never_forwarded_and_chunk_heads_are_written_anew() {
    let row = Row::with(crate::support::Setup::new(), Upstream::echo());
    for body in [
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5;a\r\nhello\r\n0;last=yes\r\n\r\n",
        "5;a=\"b;c\\\"d\"\r\nhello\r\n0\r\n\r\n",
        "00005\r\nhello\r\n000\r\n\r\n",
        "2\r\nhe\r\n1;x\r\nl\r\n2;y=z\r\nlo\r\n0\r\n\r\n",
    ] {
        let message = row.forwards(post("Transfer-Encoding: chunked\r\n", body));
        assert_eq!(message.framing, Framing::Chunked, "{body:?}");
        assert_eq!(message.body.bytes, b"hello", "{body:?}");
    }
    let upper = format!("1A\r\n{}\r\n0\r\n\r\n", "x".repeat(26));
    assert_eq!(row.forwards(post("Transfer-Encoding: chunked\r\n", &upper)).body.bytes, [b'x'; 26]);
    let upstream = row.finish();
    for connection in upstream.connections() {
        assert!(!connection.received.contains(&b';'), "an extension: {}", shown(&connection.received));
    }
}

#[test]
fn row_09_forbidden_trailers_are_dropped_and_others_pass() {
    let row = Row::new();
    let forbidden = [
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Host: evil.example",
        "Authorization: Basic eA==",
        "Proxy-Authorization: Basic eA==",
        "Cookie: a=b",
        "Set-Cookie: a=b",
        "WWW-Authenticate: Basic",
        "Connection: close",
        "X-Forwarded-For: 6.6.6.6",
        "Forwarded: for=6.6.6.6",
    ];
    for line in forbidden {
        let body = format!("5\r\nhello\r\n0\r\n{line}\r\nX-Sum: 12\r\n\r\n");
        let message = row.forwards(post("Transfer-Encoding: chunked\r\n", &body));
        assert_eq!(message.body.bytes, b"hello");
        assert_eq!(message.body.trailers, [("X-Sum".to_owned(), "12".to_owned())], "{line}");
        assert!(message.head.one("x-sum").is_none(), "a trailer was merged: {:?}", message.head);
        let (name, value) = line.split_once(": ").unwrap();
        assert!(
            name == "Transfer-Encoding" || !message.head.all(name).contains(&value),
            "the trailer {line} was merged: {:?}",
            message.head
        );
    }
    row.finish();
}

#[test]
fn row_09_trailers_over_16_kib_are_refused() {
    let row = Row::new();
    for trailers in
        [format!("X: {}\r\n", "y".repeat(17 << 10)), format!("X: {}\r\n", "y".repeat(100)).repeat(200)]
    {
        let mut client = row.client();
        client.send(post("Transfer-Encoding: chunked\r\n", &format!("5\r\nhello\r\n0\r\n{trailers}\r\n")));
        let response = client.response("POST");
        assert_problem(&response, &[400, 431], "long trailers");
        assert!(response.closes());
        client.expect_end("long trailers");
    }
    let upstream = row.finish();
    assert!(upstream.messages().iter().all(|message| is_cut(message.broken.as_ref())));
}

#[test]
fn rows_01_to_08_a_bad_request_behind_a_good_one_is_refused_and_the_good_one_served() {
    let row = Row::with(crate::support::Setup::new(), Upstream::echo());
    for bad in [
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("Content-Length: 5, 6\r\n", "hello"),
        post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        get("X : y\r\n"),
        get("X: a\rb\r\n"),
        "GET / HTTP/1.1\nHost: a.example\n\n".to_owned(),
        "hello\r\n".to_owned() + &get(""),
    ] {
        for (fields, body) in [
            ("Content-Length: 4\r\n", "good"),
            ("Transfer-Encoding: chunked\r\n", "4;x\r\ngood\r\n0\r\n\r\n"),
        ] {
            let before = row.upstream.requests();
            let mut client = row.client();
            client.send(post(fields, body) + &bad + &get("X: never\r\n"));
            assert_eq!(client.response("POST").whole().text(), "good", "{bad:?}");
            let refusal = client.response("GET");
            assert_problem(&refusal, &[400], &bad);
            assert!(refusal.closes());
            client.expect_end(&bad);
            assert_eq!(row.upstream.requests(), before + 1, "{bad:?}");
        }
    }
    row.finish();
}
