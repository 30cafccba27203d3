//! The harness proves itself: a raw client against the raw upstream, with no proxy between them.

mod support;

use support::{
    Broken, Client, Upstream,
    message::{Framing, Head, canonical_chunk_size},
    upstream::OK,
};

#[test]
fn the_upstream_records_every_byte_and_answers_by_its_script() {
    let upstream = Upstream::echo();
    let mut client = Client::connect(upstream.address);
    let request = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n";
    client.send_split(request, &(1..request.len()).collect::<Vec<_>>());
    let response = client.response("POST").whole();
    assert_eq!((response.status, response.text().as_str()), (200, "abcde"));
    let message = upstream.last();
    assert_eq!(message.framing, Framing::Chunked);
    assert_eq!(message.body.chunks, [3, 2]);
    assert_eq!(message.body.trailers, [("T".to_owned(), "v".to_owned())]);
    assert_eq!(upstream.connections()[0].received, request);
    client.half_close().expect_end("an idle connection");
    upstream.assert_canonical();
}

#[test]
fn what_is_not_canonical_is_told() {
    for bad in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n03\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let upstream = Upstream::ok();
        let mut client = Client::connect(upstream.address);
        client.send(bad).half_close();
        upstream.wait_connected();
        upstream.wait_all_ended();
        let ended = upstream.connections()[0].ended.clone();
        assert!(matches!(ended, Some(Broken::Malformed(_))), "{bad:?}: {ended:?}");
    }
}

#[test]
fn resets_and_orderly_ends_are_told_apart() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive.");
        if exchange.head.target() == "/reset" {
            exchange.wire().fill().ok();
            exchange.reset();
        } else {
            exchange.close();
        }
    });
    for (target, end) in [("/reset", Broken::Reset), ("/close", Broken::Eof)] {
        let mut client = Client::connect(upstream.address);
        client.send(format!("GET {target} HTTP/1.1\r\n\r\n"));
        if target == "/reset" {
            // The reset comes only after these bytes, so the answer has been read by then.
            let head = client.wire.head().unwrap();
            assert_eq!(head.status(), Ok(200));
            client.wire.exactly(5).unwrap();
            client.send("x");
            assert_eq!(client.wire.fill(), Err(end));
        } else {
            assert_eq!(client.response("GET").broken, Some(end));
        }
    }
}

#[test]
fn a_tunnel_echoes_until_its_end() {
    let upstream = Upstream::start(|exchange| exchange.tunnel_echo("websocket"));
    let mut client = Client::connect(upstream.address);
    client.send("GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly");
    assert_eq!(client.any_response("GET").status, 101);
    client.send(" and late").half_close();
    assert_eq!(client.wire.rest(), (b"early and late".to_vec(), Broken::Eof));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::answering(OK);
    let mut client = Client::connect(upstream.address);
    client.send("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(client.response("GET").text(), "ok");
    }
    let targets: Vec<_> =
        upstream.messages().iter().map(|message| message.head.target().to_owned()).collect();
    assert_eq!(targets, ["/1", "/2"]);
}

#[test]
fn a_head_is_read_exactly_or_refused() {
    let head = Head::parse(b"GET / HTTP/1.1\r\nHoSt: a\r\nX:  b c\t\r\n\r\n").unwrap();
    assert_eq!(head.fields, [("HoSt".into(), "a".into()), ("X".into(), "b c".into())]);
    assert_eq!((head.method(), head.target(), head.one("host")), ("GET", "/", Some("a")));
    for bad in [
        "GET / HTTP/1.1\r\nHost: a\n\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n",
    ] {
        assert!(Head::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn ambiguous_framing_is_refused() {
    let framing = |fields: &str| {
        Head::parse(format!("POST / HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap().request_framing()
    };
    assert_eq!(framing(""), Ok(Framing::None));
    assert_eq!(framing("Content-Length: 10\r\n"), Ok(Framing::Length(10)));
    assert_eq!(framing("Transfer-Encoding: chunked\r\n"), Ok(Framing::Chunked));
    for bad in [
        "Content-Length: 010\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: Chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert!(framing(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn chunk_heads_have_one_form() {
    assert_eq!(canonical_chunk_size("1f"), Ok(31));
    assert_eq!(canonical_chunk_size("0"), Ok(0));
    for bad in ["1F", "01", "00", "", " 1", "1;a", "0x1"] {
        assert!(canonical_chunk_size(bad).is_err(), "{bad:?}");
    }
}
