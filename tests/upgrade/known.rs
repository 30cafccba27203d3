//! What the successor knows from its first request on: the live state, pins, and the health of endpoints.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use serde_json::Value;

use crate::{
    Line, green,
    support::{Setup, Upstream, config::blue_green, upstream::response, wait_until},
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
fn health_and_ejections_go_along_and_the_successor_waits_for_no_probe() {
    let probes = Arc::new(AtomicUsize::new(0));
    let (probed, is_well) = (Arc::clone(&probes), Arc::new(AtomicBool::new(true)));
    let well = Arc::clone(&is_well);
    let failing = Upstream::start(move |exchange| {
        let status = match exchange.head.target() {
            "/healthz" => {
                probed.fetch_add(1, SeqCst);
                200
            }
            _ if well.load(SeqCst) => 200,
            _ => 500,
        };
        exchange.send(&response(status, b"x"));
    });
    let good = Upstream::ok();
    let setup = Setup::new()
        .pool("panic = 0\nbalance = \"round_robin\"\nhealth = { http = \"/healthz\", interval = \"1h\", down_interval = \"1h\" }")
        .pool("eject = { consecutive_5xx = 1, base_time = \"5m\", max_ejected = 0.5 }");
    let line = Line::start(&setup.toml(&[&failing, &good]));
    wait_until("it is ready", || line.first.admin("GET", "/readyz", "").status == 200);
    is_well.store(false, SeqCst);
    let mut client = line.first.client();
    wait_until("the failing endpoint is ejected", || {
        client.exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        line.status()["pools"][0]["available"] == 1
    });
    let endpoint = |status: &Value| status["pools"][0]["endpoints"][0].clone();
    let (before, probes_before) = (endpoint(&line.status()), probes.load(SeqCst));
    line.replace();
    assert_eq!(line.first.admin("GET", "/readyz", "").status, 200, "ready at once");
    let after = endpoint(&line.status());
    assert_eq!(after["ejected"]["reason"], before["ejected"]["reason"], "{after:#} was {before:#}");
    assert!(after["ejected"]["reason"].is_string(), "{after:#}");
    let requests = failing.requests() - probes.load(SeqCst);
    for _ in 0..10 {
        line.first.client().expect_alive("the other endpoint serves");
    }
    assert_eq!(failing.requests() - probes.load(SeqCst), requests, "it is out for the successor, too");
    assert!(probes.load(SeqCst) <= probes_before + 1);
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
