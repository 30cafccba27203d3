//! What the successor knows from its first request on: the live state, pins, and the health of endpoints.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use crate::{
    Line, green,
    support::{
        PATIENCE, Reserved, Setup, Upstream,
        config::blue_green,
        upstream::{OK, response},
        wait_until,
    },
};

fn named(name: &'static str) -> Upstream {
    Upstream::answering(response(200, name.as_bytes()))
}

#[test]
fn the_live_state_its_history_and_pins_go_along_even_where_no_file_keeps_them() {
    let (blue, other) = (named("blue"), named("green"));
    let line = Line::start(&blue_green(1, (1, 0), "sticky = { cookie = \"sb\" }", &blue, &other));
    let answer = line.first.client().exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let cookie = answer.head.one("set-cookie").expect("a pin");
    let pin = cookie.split(';').next().expect("a cookie");
    line.first.weigh(0, 1);
    let before = line.status();
    line.replace();
    line.replace();
    let after = line.status();
    assert_eq!((&after["revision"], green(&after)), (&before["revision"], 1));
    assert_eq!(after["splits"][0]["changed_at"], before["splits"][0]["changed_at"]);
    let body = |request: String| line.first.client().exchange(request).text();
    assert_eq!(body("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".into()), "green");
    assert_eq!(body(format!("GET / HTTP/1.1\r\nHost: a.example\r\nCookie: {pin}\r\n\r\n")), "blue", "{pin}");
    let back = line.first.admin("POST", "/v1/splits/main/rollback", "");
    assert_eq!(back.status, 200, "{}", back.text());
    assert_eq!(green(&line.status()), 0, "the history is known, too");
}

#[test]
fn the_requests_that_weights_are_judged_by_go_along() {
    let (blue, other) = (named("blue"), named("green"));
    let line = Line::start(&blue_green(1, (3, 1), "", &blue, &other));
    let counted = || line.status()["splits"][0]["requests"].clone();
    let ask = |times| (0..times).for_each(|_| line.first.client().expect_alive("it is served"));
    ask(20);
    let before = counted();
    assert_eq!(
        before["blue"].as_u64().zip(before["green"].as_u64()).map(|(a, b)| a + b),
        Some(20),
        "{before}"
    );
    line.replace();
    assert_eq!(counted(), before);
    ask(20);
    line.replace();
    let after = counted();
    assert_eq!(after["blue"].as_u64().zip(after["green"].as_u64()).map(|(a, b)| a + b), Some(40), "{after}");
    line.first.weigh(1, 1);
    assert_eq!(counted()["blue"], 0, "other weights are judged by requests to come");
}

#[test]
fn an_ejection_goes_along() {
    let failing = Upstream::answering(response(500, b"x"));
    let good = Upstream::ok();
    let setup = Setup::new()
        .pool("panic = 0\nbalance = \"round_robin\"")
        .pool("eject = { consecutive_5xx = 1, base_time = \"5m\", max_ejected = 0.5 }");
    let line = Line::start(&setup.toml(&[&failing, &good]));
    let mut client = line.first.client();
    wait_until("the failing endpoint is ejected", || {
        client.exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        line.status()["pools"][0]["available"] == 1
    });
    let ejected = || line.status()["pools"][0]["endpoints"][0]["ejected"].clone();
    let (before, requests) = (ejected(), failing.requests());
    line.replace();
    let after = ejected();
    assert!(before["reason"].is_string() && after["reason"] == before["reason"], "{after} was {before}");
    for _ in 0..10 {
        line.first.client().expect_alive("the other endpoint serves");
    }
    assert_eq!(failing.requests(), requests, "it is out for the successor, too");
}

#[test]
fn health_goes_along_and_the_successor_waits_for_no_probe() {
    let hangs = Arc::new(AtomicBool::new(false));
    let (hanging, probes) = (Arc::clone(&hangs), Arc::new(AtomicUsize::new(0)));
    let probed = Arc::clone(&probes);
    let upstream = Upstream::start(move |exchange| {
        if exchange.head.target() == "/healthz" {
            probed.fetch_add(1, SeqCst);
            if hanging.load(SeqCst) {
                // The probe is held until its other end has gone.
                exchange.wire().rest();
                return exchange.close();
            }
        }
        exchange.send(OK);
    });
    let health = "health = { http = \"/healthz\", interval = \"1h\", timeout = \"55s\" }";
    let line = Line::start(&Setup::new().pool(health).toml(&[&upstream]));
    wait_until("it is ready", || line.first.admin("GET", "/readyz", "").status == 200);
    hangs.store(true, SeqCst);
    let began = Instant::now();
    line.replace();
    assert_eq!(line.first.admin("GET", "/readyz", "").status, 200, "ready at once");
    line.first.client().expect_alive("what the old process knew to be well");
    assert!(began.elapsed() < PATIENCE, "it has waited for a probe: {:?}", began.elapsed());
    wait_until("the successor probes, too", || probes.load(SeqCst) == 2);
}

#[test]
fn a_request_that_waits_for_an_endpoint_is_served_by_the_process_that_has_it() {
    let port = Reserved::any();
    let nobody = Upstream::ok();
    let pool =
        "unavailable_wait = \"60s\"\nhealth = { tcp = true, interval = \"50ms\", down_interval = \"50ms\" }";
    let file = Setup::new().pool(pool).toml(&[&nobody]);
    let line = Line::start(&file.replace(&nobody.address.to_string(), &port.address.to_string()));
    let mut client = line.first.client();
    client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    wait_until("it waits", || {
        let metrics = line.first.metrics();
        metrics
            .lines()
            .any(|line| line.starts_with("switchback_pool_requests_pending{") && line.ends_with(" 1"))
    });
    line.replace();
    let _upstream = Upstream::start_on(port, |exchange| exchange.send(OK));
    let answer = client.response("GET").whole();
    assert_eq!((answer.status, answer.closes()), (200, true), "{answer:?}");
}

#[test]
fn the_status_shows_who_drains() {
    let upstream = Upstream::start(|exchange| exchange.tunnel_echo("websocket"));
    let line = Line::start(&Setup::new().toml(&[&upstream]));
    assert!(line.status()["process"]["predecessor"].is_null());
    let mut socket = line.first.client();
    socket.send("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(socket.any_response("GET").status, 101);
    line.replace();
    let predecessor = || line.status()["process"]["predecessor"].clone();
    wait_until("the old process has told what it has left", || predecessor()["connections"] == 1);
    assert_eq!(predecessor()["pid"], line.first.pid());
    drop(socket);
    wait_until("it has ended", || predecessor().is_null());
}
