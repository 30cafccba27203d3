//! Tunnels and event streams: closed one after the other, each so that its client sees a proper end.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    change, endpoint, get, shown,
    support::{Broken, Client, Setup, Switchback, Upstream, message::Framing, wait_until},
};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
const COUNT: usize = 24;

fn tunnel(switchback: &Switchback) -> Client {
    let mut client = switchback.client();
    client.send(get("/ws", UPGRADE));
    assert_eq!(client.any_response("GET").status, 101);
    client
}

/// An upstream that sends one event and then is quiet until its peer goes.
fn events(head: &'static str, first: &'static str) -> Upstream {
    Upstream::start(move |exchange| {
        exchange.send(
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{head}\r\n{first}").as_bytes(),
        );
        exchange.wire().rest();
        exchange.close();
    })
}

/// When each client sees its end, from now on, with how it ended and what came before.
fn ends(clients: Vec<Client>) -> Vec<(Duration, Vec<u8>, Broken)> {
    let begun = Instant::now();
    thread::scope(|scope| {
        let waiting: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || {
                    let (rest, end) = client.wire.rest();
                    (begun.elapsed(), rest, end)
                })
            })
            .collect();
        waiting.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    })
}

/// Asserts that ends are spread over a window: none comes late, and neither half is empty.
fn assert_spread(ends: &[(Duration, Vec<u8>, Broken)], window: Duration) {
    let times: Vec<_> = ends.iter().map(|(at, ..)| *at).collect();
    // The sweep, the look that follows it, and a machine that is busy with other tests.
    let late = window + Duration::from_secs(3);
    assert!(times.iter().all(|at| *at < late), "{times:?}");
    let early = times.iter().filter(|at| **at < window * 2 / 3).count();
    let later = times.iter().filter(|at| **at > window / 2).count();
    assert!(early >= COUNT / 5 && later >= COUNT / 5, "not spread: {times:?}");
    assert!(times.iter().max() > Some(&(window * 3 / 4)), "all were early: {times:?}");
}

#[test]
fn tunnels_are_closed_one_after_the_other_and_properly() {
    let upstream = Upstream::start(|exchange| exchange.tunnel_echo("websocket"));
    let switchback = Setup::new().global("workers = 2").start(&upstream);
    let mut clients: Vec<_> = (0..COUNT).map(|_| tunnel(&switchback)).collect();
    wait_until("all are counted", || shown(&switchback, &upstream)["streams"] == json!(COUNT));
    let window = Duration::from_secs(4);
    let drain = format!("{}/drain", endpoint(&upstream));
    change(&switchback, "POST", &drain, r#"{"deadline": "1m", "stream_deadline": "4s"}"#);
    // What is sent in the meantime still passes.
    clients[0].send("echo");
    assert_eq!(clients[0].wire.exactly(4).expect("an echo"), b"echo");
    let ends = ends(clients);
    assert!(ends.iter().all(|(_, rest, end)| rest.is_empty() && *end == Broken::Eof), "{ends:?}");
    assert_spread(&ends, window);
    let answer = change(&switchback, "POST", &format!("{drain}?wait=drained"), "");
    assert_eq!((&answer["drained"], &answer["cut"]["tunnels"]), (&json!(true), &json!(COUNT)));
    wait_until("the upstream's side has ended, too", || upstream.open() == 0);
    assert_eq!(switchback.metric("switchback_endpoint_streams_open") as u64, 0);
}

#[test]
fn event_streams_end_as_if_the_upstream_had_ended_them() {
    let chunked = ("Transfer-Encoding: chunked\r\n", "9\r\ndata: x\n\n\r\n", Framing::Chunked);
    let until_close = ("Connection: close\r\n", "data: x\n\n", Framing::Chunked);
    for (head, first, framing) in [chunked, until_close] {
        let upstream = events(head, first);
        let switchback = Setup::new().global("workers = 2").start(&upstream);
        let clients: Vec<_> = (0..COUNT)
            .map(|_| {
                let mut client = switchback.client();
                client.send(get("/events", ""));
                client
            })
            .collect();
        wait_until("all are open", || shown(&switchback, &upstream)["streams"] == json!(COUNT));
        let drain = format!("{}/drain", endpoint(&upstream));
        change(&switchback, "POST", &drain, r#"{"deadline": "100ms", "stream_deadline": "3s"}"#);
        let begun = Instant::now();
        let times: Vec<_> = thread::scope(|scope| {
            let waiting: Vec<_> = clients
                .into_iter()
                .map(|mut client| {
                    scope.spawn(move || {
                        let answer = client.response("GET").whole();
                        assert_eq!((answer.framing, answer.text().as_str()), (framing, "data: x\n\n"));
                        (begun.elapsed(), Vec::new(), Broken::Eof)
                    })
                })
                .collect();
            waiting.into_iter().map(|client| client.join().expect("it ends properly")).collect()
        });
        assert_spread(&times, Duration::from_secs(3));
        let answer = change(&switchback, "POST", &format!("{drain}?wait=drained"), "");
        let cut = json!({"requests": 0, "tunnels": 0, "event_streams": COUNT});
        assert_eq!((&answer["drained"], &answer["cut"]), (&json!(true), &cut));
    }
}

#[test]
fn an_event_stream_that_is_within_a_chunk_is_broken_off_at_the_end_of_its_time() {
    let upstream = events("Transfer-Encoding: chunked\r\n", "ff\r\ndata: x\n\n");
    let switchback = Setup::new().start(&upstream);
    let mut client = switchback.client();
    client.send(get("/events", ""));
    wait_until("it is open", || shown(&switchback, &upstream)["streams"] == json!(1));
    let path = format!("{}/drain?wait=drained", endpoint(&upstream));
    let answer = change(&switchback, "POST", &path, r#"{"deadline": "1m", "stream_deadline": "500ms"}"#);
    assert_eq!((&answer["drained"], &answer["cut"]["event_streams"]), (&json!(true), &json!(1)));
    let broken = client.any_response("GET");
    assert!(broken.status == 200 && broken.broken.is_some(), "{broken:?}");
}

#[test]
fn an_undrain_keeps_the_streams_that_are_left() {
    let upstream = Upstream::start(|exchange| exchange.tunnel_echo("websocket"));
    let switchback = Setup::new().start(&upstream);
    let mut client = tunnel(&switchback);
    change(&switchback, "POST", &format!("{}/drain", endpoint(&upstream)), r#"{"stream_deadline": "1h"}"#);
    change(&switchback, "POST", &format!("{}/undrain", endpoint(&upstream)), "");
    client.send("echo");
    assert_eq!(client.wire.exactly(4).expect("an echo"), b"echo");
    assert_eq!(shown(&switchback, &upstream)["drain"], json!(null));
    // A second drain closes it at once.
    change(&switchback, "POST", &format!("{}/drain", endpoint(&upstream)), r#"{"stream_deadline": "0s"}"#);
    let ends = ends(vec![client]);
    assert!(ends[0].2 == Broken::Eof && ends[0].0 < Duration::from_secs(3), "{ends:?}");
}
