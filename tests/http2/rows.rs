//! The rules of `docs/http.md` and `docs/http2.md`: what a request may look like. Each test asserts both sides: what the
//! client got, and that nothing of what is refused came to the upstream.

use http::{Method, Request};

use super::{
    peer::{Peer, run},
    raw::{CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, HEADERS, PROTOCOL_ERROR, Raw, block},
    support::{Setup, Upstream},
};

#[test]
fn row_19_what_http2_forbids_resets_the_stream() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    let with = |more: &[(&'static str, &'static str)]| [GET, more].concat();
    let without = |name: &str| GET.iter().copied().filter(|(known, _)| *known != name).collect::<Vec<_>>();
    let mut late = GET[1..].to_vec();
    late.extend([("accept", "*/*"), GET[0]]);
    let malformed = [
        ("upper case", with(&[("X-Upper", "a")])),
        ("a field of the connection", with(&[("connection", "close")])),
        ("another", with(&[("keep-alive", "timeout=5")])),
        ("another", with(&[("proxy-connection", "close")])),
        ("another", with(&[("transfer-encoding", "chunked")])),
        ("an upgrade", with(&[("upgrade", "websocket")])),
        ("TE", with(&[("te", "gzip")])),
        ("TE with more", with(&[("te", "trailers, gzip")])),
        ("a late pseudo field", late),
        ("a repeated pseudo field", with(&[(":path", "/b")])),
        ("a repeated method", [&GET[..1], GET].concat()),
        ("an unknown pseudo field", [&[(":own", "a")], GET].concat()),
        ("a pseudo field of responses", [&[(":status", "200")], GET].concat()),
        ("a protocol without CONNECT", [&[(":protocol", "websocket")], GET].concat()),
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("an empty path", [&GET[..2], &[(":path", ""), GET[3]]].concat()),
        ("a length that is no number", with(&[("content-length", "five")])),
        ("a length with a sign", with(&[("content-length", "+5")])),
        ("two lengths", with(&[("content-length", "5"), ("content-length", "6")])),
        ("a length without a body", with(&[("content-length", "5")])),
        ("LF in a value", with(&[("x-own", "a\nb: c")])),
        ("CR in a value", with(&[("x-own", "a\rb")])),
        ("NUL in a value", with(&[("x-own", "a\0b")])),
        ("LF in a path", [&GET[..2], &[(":path", "/a\nb"), GET[3]]].concat()),
        ("LF in an authority", [&GET[..3], &[(":authority", "a\r\nb: c")]].concat()),
        ("CR LF in a method", [&[(":method", "GET / HTTP/1.1\r\n\r\n")], &GET[1..]].concat()),
        ("a space before a value", with(&[("x-own", " a")])),
        ("a tab behind a value", with(&[("x-own", "a\t")])),
        ("nothing but a space", with(&[("x-own", " ")])),
        ("a name with a space", with(&[("x own", "a")])),
        ("an empty name", with(&[("", "a")])),
        ("userinfo", [&GET[..3], &[(":authority", "u:p@a.example")]].concat()),
    ];
    for (what, fields) in &malformed {
        let mut raw = Raw::connect(switchback.address);
        raw.request(1, fields, END_STREAM);
        let seen = raw.outcome(1);
        let refused =
            seen.reset(1) == Some(PROTOCOL_ERROR) || seen.go_away().is_some_and(|reason| reason != 0);
        // What the h2 crate lets pass, the engine answers with 400 (the twelfth entry of the static table).
        let answered = seen.frames.iter().any(|frame| frame.kind == HEADERS && frame.payload[0] == 0x8c);
        assert!(refused || answered, "{what}: {seen:?}");
        assert_eq!(upstream.requests(), 0, "{what}");
    }
    let mut raw = Raw::connect(switchback.address);
    raw.request(1, &with(&[("te", "trailers")]), END_STREAM);
    assert!(raw.outcome(1).has(HEADERS, 1));
}

#[test]
fn row_19_a_body_that_has_another_length_than_it_says_is_cut() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    let head = [&[(":method", "POST")], &GET[1..], &[("content-length", "5")]].concat();
    for (what, bodies) in
        [("too long", &["abcdef"][..]), ("in two", &["abc", "def"]), ("too short", &["abc"])]
    {
        let mut raw = Raw::connect(switchback.address);
        raw.request(1, &head, 0);
        for (number, body) in bodies.iter().enumerate() {
            let flags = if number + 1 == bodies.len() { END_STREAM } else { 0 };
            raw.send(DATA, flags, 1, body.as_bytes());
        }
        assert_eq!(raw.outcome(1).reset(1), Some(PROTOCOL_ERROR), "{what}");
    }
    upstream.wait_all_ended();
    // What had begun was cut: no upstream has got a whole message.
    assert!(upstream.messages().iter().all(|message| message.broken.is_some()), "{:?}", upstream.messages());
}

#[test]
fn row_20_an_authority_that_is_not_the_host_is_refused() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        for (host, status) in [
            ("b.example", 400),
            ("a.example:81", 400),
            ("a.example, b", 400),
            ("A.example", 200),
            ("a.example", 200),
        ] {
            let request = Request::get("http://a.example/").header("host", host).body(()).expect("good");
            assert_eq!(peer.exchange(request, None, None).await.whole().status, status, "{host}");
        }
        let twice = Request::get("http://a.example/").header("host", "a.example").header("host", "b.example");
        let answer = peer.exchange(twice.body(()).expect("good"), None, None).await.whole();
        assert_eq!(answer.status, 400);
    });
    assert_eq!(upstream.requests(), 2);
    // Without an authority, Host stands for it; without both there is nobody to ask.
    for (host, answer) in [(Some("c.example"), 0x88), (None, 0x8c)] {
        let mut fields = GET[..3].to_vec();
        fields.extend(host.map(|host| ("host", host)));
        let mut raw = Raw::connect(switchback.address);
        raw.request(1, &fields, END_STREAM);
        assert_eq!(raw.until("a head", |frame| frame.kind == HEADERS).payload[0], answer);
    }
    assert_eq!(upstream.last().head.all("host"), ["c.example"]);
}

#[test]
fn the_rules_of_http1_hold_for_what_http2_lets_pass() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().route("max_body = \"10B\"").start(&upstream);
    let long = format!("/{}", "a".repeat(9000));
    let many: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let mut asked = 0;
        for (method, path, field, status) in [
            ("GET", "/../a", None, 400),
            ("GET", "/%00", None, 400),
            ("GET", "/%zz", None, 400),
            ("GET", "/a%5Cb", None, 400),
            ("TRACE", "/", None, 405),
            ("GET", "/", Some(("a_b", "c")), 400),
            ("GET", "/", Some(("expect", "more")), 417),
            ("GET", "/", Some(("content_length", "1")), 400),
            ("POST", "/", Some(("content-length", "11")), 413),
            ("GET", long.as_str(), None, 414),
        ] {
            let mut request = Request::builder().method(method).uri(format!("http://a.example{path}"));
            let body = (method == "POST").then(|| vec![0; 11]);
            if let Some((name, value)) = field {
                request = request.header(name, value);
            }
            let answer = peer.exchange(request.body(()).expect("good"), body, None).await;
            assert_eq!(answer.status, status, "{method} {path:.20} {field:?}");
            asked += usize::from(status == 200);
        }
        let mut request = Request::get("http://a.example/");
        for name in &many {
            request = request.header(name, "1");
        }
        assert_eq!(peer.exchange(request.body(()).expect("good"), None, None).await.status, 431);
        assert_eq!(upstream.requests(), asked);
        // None of it cost the connection.
        assert_eq!(peer.get("/").await.whole().status, 200);
    });
    assert!(switchback.metric("switchback_requests_refused_total") >= 9.0);
}

#[test]
fn row_12_an_asterisk_is_for_options_alone() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    for (method, answer) in [("OPTIONS", 0x88), ("GET", 0x8c)] {
        let mut raw = Raw::connect(switchback.address);
        let fields = [(":method", method), (":scheme", "http"), (":path", "*"), (":authority", "a.example")];
        raw.request(1, &fields, END_STREAM);
        assert_eq!(raw.until("a head", |frame| frame.kind == HEADERS).payload[0], answer, "{method}");
    }
    assert_eq!(upstream.last().head.start, "OPTIONS * HTTP/1.1");
}

#[test]
fn connect_is_refused() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = "b.example:443".parse().expect("an authority");
        assert_eq!(peer.exchange(request, None, None).await.status, 405);
    });
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn a_head_over_the_limit_is_answered_with_431_and_one_far_over_it_ends_the_connection() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    for (kilobytes, is_far) in [(80, false), (2000, true)] {
        let mut raw = Raw::connect(switchback.address);
        let value = "v".repeat(1000);
        let fields: Vec<_> = std::iter::repeat_n(("x-long", value.as_str()), kilobytes).collect();
        let bytes = block(&[GET, &fields].concat());
        let mut pieces = bytes.chunks(16_000).peekable();
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            let ends = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            let flags = if kind == HEADERS { ends | END_STREAM } else { ends };
            // Who is told off in the middle may be refused the rest.
            if raw.write(&super::raw::frame(kind, flags, 1, piece)).is_err() {
                break;
            }
            kind = CONTINUATION;
        }
        let seen = raw.outcome(1);
        assert_eq!(seen.go_away().is_some_and(|reason| reason != 0), is_far, "{kilobytes} KB: {seen:?}");
        // 431 is none of the static table's: it is a literal behind the name's index.
        assert_eq!(seen.has(HEADERS, 1), !is_far, "{kilobytes} KB: {seen:?}");
    }
    assert_eq!(upstream.requests(), 0);
}
