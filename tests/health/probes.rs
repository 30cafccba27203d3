//! What an HTTP or TCP probe asks, and which answers it takes for good.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    endpoint, fast, get, state,
    support::{
        Reserved, Setup, Switchback, Upstream, message::Head, upstream::response, wait_for, wait_until,
    },
    wait_state,
};

/// Answers probes of `/healthz` with a status of choice, and everything else with its number.
fn application(number: usize, health: &Arc<AtomicU16>) -> Upstream {
    let health = Arc::clone(health);
    Upstream::start(move |exchange| {
        let answer = match exchange.head.target() {
            "/healthz" => response(health.load(Ordering::SeqCst), b""),
            _ => response(200, number.to_string().as_bytes()),
        };
        exchange.send(&answer);
        if exchange.head.target() == "/healthz" {
            exchange.close();
        }
    })
}

fn status(status: u16) -> Arc<AtomicU16> {
    Arc::new(AtomicU16::new(status))
}

/// The first probe that an upstream got.
fn first_probe(upstream: &Upstream, path: &str) -> Head {
    wait_for("a probe has come", || {
        upstream.messages().into_iter().map(|message| message.head).find(|head| head.target() == path)
    })
}

#[test]
fn an_endpoint_takes_traffic_while_its_probes_are_answered_well() {
    let health = [status(200), status(503)];
    let upstreams = [application(0, &health[0]), application(1, &health[1])];
    let switchback =
        Setup::new().pool(&fast(r#"http = "/healthz""#)).start_all(&[&upstreams[0], &upstreams[1]]);
    wait_state(&switchback, upstreams[0].address, "available");
    let mut client = switchback.client();
    let mut served = move || client.exchange(get("/")).whole().text();
    assert!((0..50).all(|_| served() == "0"), "the other one has never passed a probe");
    assert_eq!(endpoint(&switchback, upstreams[1].address)["health"]["last"]["detail"], "it answered 503");

    health[1].store(204, Ordering::SeqCst);
    wait_state(&switchback, upstreams[1].address, "available");
    assert!((0..50).any(|_| served() == "1"));

    health[0].store(500, Ordering::SeqCst);
    wait_state(&switchback, upstreams[0].address, "unhealthy");
    assert!((0..50).all(|_| served() == "1"));
    let explained = switchback.admin("POST", "/v1/explain", "{}").text();
    assert!(explained.contains("its last") && explained.contains("it answered 500"), "{explained}");
    assert!(switchback.metric("switchback_endpoint_healthy") == 1.0);
    assert!(switchback.metrics().contains("switchback_pool_probes_total{pool=\"app\",result=\"status\"}"));
}

#[test]
fn it_takes_as_many_results_in_a_row_as_the_file_says() {
    let answered = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&answered);
    // The first passes; then all fail from the 10th on, and pass again from the 20th on.
    let upstream = Upstream::start(move |exchange| {
        let number = counting.fetch_add(1, Ordering::SeqCst);
        let status = if (10..20).contains(&number) { 500 } else { 200 };
        exchange.send(&response(status, b""));
        exchange.close();
    });
    let probe = r#"http = "/", healthy_after = 4, unhealthy_after = 5"#;
    let switchback = Setup::new().pool(&fast(probe)).start(&upstream);
    let mut seen = Vec::new();
    wait_until("the endpoint is back", || {
        let before = answered.load(Ordering::SeqCst);
        let now = state(&switchback, upstream.address);
        let after = answered.load(Ordering::SeqCst);
        seen.push((before, now, after));
        before > 26
    });
    for (before, state, after) in seen {
        // Of a probe that is being answered it is not known on which side of it the state was read.
        let known = |range: std::ops::Range<usize>| range.contains(&before) && range.contains(&(after + 1));
        if known(2..15) || known(25..100) {
            assert_eq!(state, "available", "after {before} to {after} probes");
        } else if known(16..24) {
            assert_eq!(state, "unhealthy", "after {before} to {after} probes");
        }
    }
}

#[test]
fn a_probe_asks_what_the_file_says() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(&response(404, b"all is well"));
        exchange.close();
    });
    let probe =
        r#"http = "/health?deep=1", method = "POST", host = "app.internal", headers = { x-probe = "yes" },
                  status = [200, "404-405"], body = "is well""#
            .replace('\n', " ");
    let switchback = Setup::new().pool(&fast(&probe)).start(&upstream);
    wait_state(&switchback, upstream.address, "available");
    let head = first_probe(&upstream, "/health?deep=1");
    assert_eq!(head.method(), "POST");
    for (name, value) in [("host", "app.internal"), ("x-probe", "yes"), ("user-agent", "switchback/health")] {
        assert_eq!(head.one(name), Some(value), "{name}");
    }
    let plain = Upstream::ok();
    let switchback = Setup::new().pool(&fast(r#"http = "/""#)).start(&plain);
    wait_state(&switchback, plain.address, "available");
    assert_eq!(first_probe(&plain, "/").one("host"), Some(plain.address.to_string().as_str()));
}

#[test]
fn the_text_is_looked_for_in_the_first_64_kib_however_they_are_cut() {
    let (found, late) = (65_536 - 6, 65_536 - 5);
    for (at, passes) in [(0, true), (found, true), (late, false)] {
        let upstream = Upstream::start(move |exchange| {
            let mut body = vec![b'.'; 100_000];
            body[at..at + 6].copy_from_slice(b"ALL OK");
            let answer = response(200, &body);
            // The last piece begins within the text.
            let cut = answer.len() - body.len() + at + 3;
            exchange.send(&answer[..cut]);
            std::thread::sleep(Duration::from_millis(1));
            exchange.send(&answer[cut..]);
            exchange.close();
        });
        let switchback = Setup::new().pool(&fast(r#"http = "/", body = "ALL OK""#)).start(&upstream);
        wait_until("a probe has ended", || endpoint(&switchback, upstream.address)["health"]["streak"] != 0);
        let view = endpoint(&switchback, upstream.address);
        assert_eq!(view["health"]["last"]["passed"], passes, "the text is at {at}: {view}");
        assert_eq!(view["health"]["last"]["result"], if passes { "success" } else { "body" });
    }
}

#[test]
fn what_does_not_answer_or_answers_garbage_is_told_apart() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = (silent.local_addr().expect("it is bound"), silent);
    let garbage = Upstream::start(|exchange| {
        exchange.send(b"SSH-2.0-OpenSSH_9.9\r\n");
        exchange.close();
    });
    let endless = Upstream::start(|exchange| {
        let head = b"HTTP/1.1 200 OK\r\nX-Long: ";
        exchange.send(head);
        while exchange.try_send(&[b'a'; 8192]).is_ok() {}
    });
    let dripping = Upstream::start(|exchange| {
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".chunks(1) {
            std::thread::sleep(Duration::from_millis(100));
            exchange.send(byte);
        }
    });
    let refusing = Reserved::any();
    for (address, result) in [
        (silent.0, "timed_out"),
        (garbage.address, "malformed"),
        (endless.address, "malformed"),
        (dripping.address, "timed_out"),
        (refusing.address, "unreachable"),
    ] {
        let config = Setup::new().pool(&fast(r#"http = "/""#)).toml(&[&garbage]);
        let config = config.replace(&garbage.address.to_string(), &address.to_string());
        let switchback = Switchback::start(&config);
        let view = wait_for("a probe has ended", || {
            let view = endpoint(&switchback, address);
            (view["health"]["last"] != serde_json::Value::Null).then_some(view)
        });
        assert_eq!(view["health"]["last"]["result"], result, "{view}");
        assert_eq!(view["state"], "unhealthy");
        let answer = switchback.client().exchange(get("/"));
        assert_eq!((answer.status, answer.head.one("retry-after").is_some()), (503, true), "{answer:?}");
    }
}

#[test]
fn an_answer_is_read_to_its_end_however_it_is_framed_and_as_strictly_as_one_that_is_passed_on() {
    for (answer, result) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "success"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x\r\nk\r\n0\r\nA: b\r\n\r\n",
            "success",
        ),
        ("HTTP/1.0 200 OK\r\n\r\nall until the end is ok", "success"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "success",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nko", "body"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "body"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "status"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "malformed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "malformed"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "malformed"),
    ] {
        for pieces in [answer.len(), 3] {
            let upstream = Upstream::start(move |exchange| {
                exchange.send_pieces(answer.as_bytes(), pieces, Duration::from_micros(200));
                exchange.close();
            });
            let switchback = Setup::new().pool(&fast(r#"http = "/", body = "ok""#)).start(&upstream);
            let view = wait_for("a probe has ended", || {
                let view = endpoint(&switchback, upstream.address);
                (view["health"]["last"] != serde_json::Value::Null).then_some(view)
            });
            assert_eq!(view["health"]["last"]["result"], result, "{answer:?} in pieces of {pieces}: {view}");
        }
    }
}

#[test]
fn a_request_without_a_body_is_asked_by_any_method() {
    for (method, length) in [("HEAD", None), ("OPTIONS", None), ("POST", Some("0")), ("PUT", Some("0"))] {
        // What answers HEAD has a length and no body.
        let body = if method == "HEAD" { "" } else { "ok" };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}");
        let upstream = Upstream::answering(answer);
        let probe = format!(r#"http = "/", method = "{method}""#);
        let switchback = Setup::new().pool(&fast(&probe)).start(&upstream);
        wait_until("its connection was kept", || upstream.connections().iter().any(|kept| kept.total > 200));
        wait_state(&switchback, upstream.address, "available");
        let head = first_probe(&upstream, "/");
        assert_eq!((head.method(), head.one("content-length")), (method, length));
    }
}

#[test]
fn what_comes_unasked_on_a_kept_connection_answers_no_probe() {
    let both = [response(200, b"ok"), response(500, b"late")].concat();
    let upstream = Upstream::answering(both);
    let switchback = Setup::new().pool(&fast(r#"http = "/", unhealthy_after = 1"#)).start(&upstream);
    wait_until("it was probed often", || upstream.requests() > 30);
    let used = upstream.connections().into_iter().map(|connection| connection.total).max();
    assert!(used < Some(100), "a connection was used twice");
    assert_eq!(endpoint(&switchback, upstream.address)["health"]["last"]["result"], "success");
    assert!(
        switchback.metrics().contains("result=\"status\"} 0"),
        "no probe took the late answer for its own"
    );
}

#[test]
fn a_tcp_probe_asks_for_a_connection_alone_and_the_port_can_be_another() {
    let application = Upstream::ok();
    let port = Reserved::any();
    let beside = TcpListener::bind(port.address).expect("nobody listens there");
    let probe = format!("tcp = true, port = {}", port.address.port());
    let switchback = Setup::new().pool(&fast(&probe)).start(&application);
    wait_state(&switchback, application.address, "available");
    assert_eq!(application.connections().len(), 0, "the application itself is not asked");
    drop(beside);
    wait_state(&switchback, application.address, "unhealthy");
}

#[test]
fn a_connection_is_kept_for_some_probes_and_not_for_ever() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().pool(&fast(r#"http = "/""#)).start(&upstream);
    wait_until("it was probed often", || upstream.requests() > 100);
    let (connections, requests) = (upstream.connections().len(), upstream.requests());
    assert!(
        (requests / 16..=requests / 16 + 2).contains(&connections),
        "{connections} for {requests} probes"
    );
    assert_eq!(state(&switchback, upstream.address), "available");
}

#[test]
fn an_endpoint_that_is_down_is_asked_at_its_own_interval() {
    let health = status(500);
    let upstream = application(0, &health);
    let probe = r#"health = { http = "/healthz", interval = "60s", down_interval = "20ms" }"#;
    let switchback = Setup::new().pool(probe).start(&upstream);
    wait_until("it is asked often", || upstream.requests() > 10);
    health.store(200, Ordering::SeqCst);
    wait_state(&switchback, upstream.address, "available");
    let (asked, since) = (upstream.requests(), Instant::now());
    while since.elapsed() < Duration::from_millis(200) {
        std::thread::yield_now();
    }
    assert_eq!(upstream.requests(), asked, "the next probe is a minute away");
}

#[test]
fn probes_go_on_while_an_endpoint_drains_and_its_health_is_shown() {
    let health = [status(200), status(200)];
    let upstreams = [application(0, &health[0]), application(1, &health[1])];
    let switchback =
        Setup::new().pool(&fast(r#"http = "/healthz""#)).start_all(&[&upstreams[0], &upstreams[1]]);
    upstreams.iter().for_each(|upstream| wait_state(&switchback, upstream.address, "available"));
    let address = upstreams[0].address;
    let change = |act: &str| {
        let path = format!("/v1/pools/app/endpoints/{address}/{act}");
        assert_eq!(switchback.admin("POST", &path, "").status, 200);
    };
    let wait_health = |wanted: &str| {
        wait_until(wanted, || endpoint(&switchback, address)["health"]["state"] == wanted);
        assert_eq!(state(&switchback, address), "draining", "that comes first");
    };
    change("drain");
    let asked = upstreams[0].requests();
    wait_until("it is probed on", || upstreams[0].requests() > asked + 5);
    wait_health("healthy");
    health[0].store(500, Ordering::SeqCst);
    wait_health("unhealthy");
    assert_eq!(endpoint(&switchback, address)["health"]["last"]["detail"], "it answered 500");

    // Nobody sends to what is not well only because it drains no longer.
    change("undrain");
    assert_eq!(state(&switchback, address), "unhealthy");
    let mut client = switchback.client();
    let mut served = move || client.exchange(get("/")).whole().text();
    assert!((0..50).all(|_| served() == "1"));

    // It becomes well while it drains, and so is there from the undrain on.
    change("drain");
    health[0].store(200, Ordering::SeqCst);
    wait_health("healthy");
    assert!((0..50).all(|_| served() == "1"));
    change("undrain");
    assert_eq!(state(&switchback, address), "available");
    assert!((0..100).any(|_| served() == "0"));
}
