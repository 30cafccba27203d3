//! Tunnels and event streams, which last: what they count to, and what they leave alone.

use std::sync::Arc;

use crate::{
    GET, Held, asking, assert_all_returned, assert_shed,
    support::{Client, Setup, Switchback, Upstream, upstream::OK, wait_until},
};

/// An upstream with tunnels at `/ws`, event streams at `/events`, and requests that are held at everything else.
fn lasting() -> (Upstream, Arc<Held>) {
    let held = Arc::new(Held::default());
    let at_upstream = Arc::clone(&held);
    let upstream = Upstream::start(move |exchange| match exchange.head.target() {
        "/ws" => exchange.tunnel_echo("websocket"),
        "/events" => {
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n");
            exchange.send(b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: x\n\n\r\n");
            exchange.wire().rest();
            exchange.close();
        }
        _ => {
            at_upstream.pass();
            exchange.send(OK);
        }
    });
    (upstream, held)
}

fn tunnel(switchback: &Switchback) -> Client {
    let mut client = switchback.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.any_response("GET").status, 101);
    client
}

fn events(switchback: &Switchback) -> Client {
    let mut client = switchback.client();
    client.send("GET /events HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(client.wire.head().expect("a head").status(), Ok(200));
    client
}

fn wait_open(switchback: &Switchback, streams: usize) {
    wait_until("the streams are counted", || {
        switchback.metric("switchback_endpoint_streams_open") == streams as f64
    });
}

/// They last for hours: as many as the limit's least would lock everybody else out.
#[test]
fn streams_leave_the_limit_that_finds_itself_alone() {
    for open in [tunnel, events] {
        let (upstream, held) = lasting();
        let pool = "adaptive = { min = 8, max = 100, tolerance = 1.5 }";
        let switchback = Setup::new().global("workers = 2").pool(pool).start(&upstream);
        let streams: Vec<_> = (0..20)
            .map(|count| {
                wait_open(&switchback, count);
                open(&switchback)
            })
            .collect();
        wait_open(&switchback, 20);
        let status = switchback.admin("GET", "/v1/pools/app", "").text();
        assert!(status.contains(r#""adaptive":{"limit":8,"used":0}"#), "{status}");
        let within: Vec<_> = (0..8).map(|_| asking(&switchback)).collect();
        wait_until("eight are in flight beside them", || held.count() == 8);
        assert_shed(&switchback.client().exchange(GET).whole(), "adaptive");
        held.let_go(8);
        within.into_iter().for_each(|asking| assert_eq!(asking.join().unwrap().status, 200));
        streams.into_iter().for_each(Client::reset);
        assert_all_returned(&switchback);
        wait_open(&switchback, 0);
    }
}

#[test]
fn streams_count_to_the_fixed_limit() {
    for open in [tunnel, events] {
        let (upstream, held) = lasting();
        held.let_go(1);
        let switchback = Setup::new().global("workers = 2").pool("max_requests = 3").start(&upstream);
        let mut streams: Vec<_> = (0..3).map(|_| open(&switchback)).collect();
        assert_shed(&switchback.client().exchange(GET).whole(), "max_requests");
        streams.pop().expect("one of three").reset();
        wait_until("there is room", || switchback.metric("switchback_pool_requests_in_flight") == 2.0);
        assert_eq!(switchback.client().exchange(GET).whole().status, 200);
    }
}
