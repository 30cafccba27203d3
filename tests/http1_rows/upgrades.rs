//! Rows 17, 18: expectations and upgrades.

use crate::{
    row::{HOST, Row, assert_ours, assert_problem, client_fields, get, post},
    support::{Broken, Setup, Upstream, upstream::response, wait_until},
};

/// Answers 100, then the body that came.
fn continues() -> Upstream {
    Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        let body = exchange.body().bytes.clone();
        exchange.send(&response(200, &body));
    })
}

#[test]
fn row_17_the_upstreams_100_is_relayed_before_the_body_is_sent() {
    let row = Row::with(Setup::new(), continues());
    for expectation in ["100-continue", "100-Continue"] {
        for (fields, body) in [
            ("Content-Length: 5\r\n", "hello"),
            ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ] {
            let mut client = row.client();
            client.send(post(&format!("Expect: {expectation}\r\n{fields}"), ""));
            assert_eq!(client.any_response("POST").status, 100);
            client.send(body);
            let response = client.response("POST").whole();
            assert_eq!((response.status, response.text().as_str()), (200, "hello"));
            let head = row.upstream.last().head;
            assert_eq!(head.one("expect").map(str::to_ascii_lowercase).as_deref(), Some("100-continue"));
            client.expect_alive_after_100();
        }
    }
    row.finish();
}

#[test]
fn row_17_a_final_answer_ends_the_wait_and_no_body_is_awaited() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(&response(403, b"no"));
        exchange.close();
    });
    let row = Row::with(Setup::new(), upstream);
    let mut client = row.client();
    client.send(post("Expect: 100-continue\r\nContent-Length: 5\r\n", ""));
    let response = client.response("POST").whole();
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
    // The client may still send the body, or not: either way nothing of it may be taken for a request.
    client.send("hello");
    client.expect_end("an expectation that was not met");
    drop(row.switchback);
    let connection = &row.upstream.connections()[0];
    assert!(connection.received.ends_with(b"\r\n\r\n"), "a body was sent after the final answer");
}

#[test]
fn row_17_another_expectation_is_417() {
    let row = Row::new();
    for value in ["200-ok", "100-continue, x", "", "x", "100-continu"] {
        let before = row.upstream.total();
        let mut client = row.client();
        client.send(post(&format!("Expect: {value}\r\nContent-Length: 5\r\n"), "hello"));
        assert_problem(&client.response("POST"), &[417], value);
        assert_eq!(row.upstream.total(), before);
    }
    assert_eq!(row.finish().total(), 0);
}

#[test]
fn row_17_a_client_that_does_not_wait_loses_nothing() {
    let row = Row::with(Setup::new(), continues());
    let mut client = row.client();
    client.send(post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"));
    let mut answer = client.any_response("POST");
    if answer.status == 100 {
        answer = client.response("POST");
    }
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    row.finish();
}

fn upgrade(fields: &str) -> String {
    get(&format!("Connection: Upgrade\r\n{fields}"))
}

#[test]
fn row_18_a_websocket_becomes_a_tunnel_after_the_upstreams_101() {
    let row = Row::with(Setup::new(), Upstream::start(|exchange| exchange.tunnel_echo("websocket")));
    for (connection, protocol) in
        [("Upgrade", "websocket"), ("keep-alive, upgrade", "WebSocket"), ("UPGRADE", "websocket")]
    {
        let mut client = row.client();
        client.send(get(&format!(
            "Connection: {connection}\r\nUpgrade: {protocol}\r\nSec-WebSocket-Key: abc\r\n"
        )));
        let answer = client.any_response("GET");
        assert_eq!(answer.status, 101);
        assert_eq!(answer.head.list("upgrade"), ["websocket"]);
        assert_eq!(answer.head.list("connection"), ["upgrade"]);
        client.send("\0\u{1}raw bytes\r\n\r\nGET / HTTP/1.1\r\n\r\n").half_close();
        let (echo, end) = client.wire.rest();
        assert_eq!(echo, b"\0\x01raw bytes\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        assert_eq!(end, Broken::Eof);
        let head = row.upstream.last().head;
        assert_eq!(head.list("upgrade"), ["websocket"]);
        assert_eq!(head.list("connection"), ["upgrade"]);
        assert_eq!(head.one("sec-websocket-key"), Some("abc"));
        assert_ours(&head, "127.0.0.1");
    }
    drop(row.switchback);
}

#[test]
fn row_18_an_upgrade_that_the_upstream_does_not_take_is_a_plain_exchange() {
    let row = Row::new();
    let mut client = row.client();
    let answer = client.exchange(upgrade("Upgrade: websocket\r\n"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    client.expect_alive("after an upgrade that was not taken");
    row.finish();
}

#[test]
fn row_18_bytes_before_the_101_are_no_request_and_no_tunnel() {
    // The upstream refuses; what the client sent early must be read as a request of its own, never forwarded raw.
    let row = Row::new();
    let mut client = row.client();
    client.send(upgrade("Upgrade: websocket\r\n")).send("GET /second HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(client.response("GET").status, 200);
    assert_eq!(client.response("GET").status, 200);
    assert_eq!(row.upstream.messages().len(), 2);
    row.finish();
}

#[test]
fn row_18_upgrade_with_a_body() {
    let row = Row::new();
    for (fields, body) in
        [("Content-Length: 5\r\n", "hello"), ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n")]
    {
        row.refuses(&[400], post(&format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{fields}"), body));
    }
    row.finish();
}

#[test]
fn row_18_h2c_and_unknown_protocols_are_stripped() {
    let row = Row::new();
    for fields in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: H2C\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "HTTP2-Settings: AAMAAABk\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Connection: Upgrade\r\nUpgrade: x-mine\r\n",
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
    ] {
        let message = row.forwards(get(fields));
        assert_eq!(client_fields(&message.head), [("Host", HOST)], "{fields:?}");
    }
    row.finish();
}

#[test]
fn row_18_a_route_may_allow_another_protocol() {
    let setup = Setup::new().route("upgrades = [\"x-mine\"]");
    let row = Row::with(setup, Upstream::start(|exchange| exchange.tunnel_echo("x-mine")));
    let mut client = row.client();
    client.send(upgrade("Upgrade: x-mine\r\n"));
    assert_eq!(client.any_response("GET").status, 101);
    client.send("hello").half_close();
    assert_eq!(client.wire.rest(), (b"hello".to_vec(), Broken::Eof));
    drop(row.switchback);
}

#[test]
fn row_18_an_unsolicited_101_is_502() {
    let row = Row::with(Setup::new(), Upstream::start(|exchange| exchange.tunnel_echo("websocket")));
    for request in [
        get(""),
        get("Upgrade: websocket\r\n"),
        get("Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        post("Content-Length: 5\r\n", "hello"),
    ] {
        let mut client = row.client();
        assert_problem(&client.exchange(&request), &[502], &request);
        wait_until("the upstream connection was closed", || row.upstream.open() == 0);
    }
    drop(row.switchback);
}

#[test]
fn row_18_a_101_to_another_protocol_than_was_asked_for_is_502() {
    let row = Row::with(Setup::new(), Upstream::start(|exchange| exchange.tunnel_echo("x-other")));
    let mut client = row.client();
    assert_problem(&client.exchange(upgrade("Upgrade: websocket\r\n")), &[502], "another protocol");
    wait_until("the upstream connection was closed", || row.upstream.open() == 0);
    drop(row.switchback);
}

impl crate::support::Client {
    /// The connection still serves, before an upstream that sends 100 first to everything.
    fn expect_alive_after_100(&mut self) {
        self.send(post("Content-Length: 0\r\n", ""));
        let mut answer = self.any_response("POST");
        if answer.status == 100 {
            answer = self.response("POST");
        }
        assert_eq!(answer.status, 200);
    }
}
