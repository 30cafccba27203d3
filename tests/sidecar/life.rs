//! An app that comes, goes and comes again: what clients and probes see of it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use crate::{
    application::Application,
    asked, get, is_ready, pending, sidecar,
    support::{Client, Reserved, Switchback, wait_until},
};

/// How many clients a load has.
const CLIENTS: usize = 8;

#[test]
fn what_comes_before_the_app_waits_for_it_and_readiness_follows() {
    let port = Reserved::any();
    let switchback = sidecar(port.address, "--app-wait 60s");
    wait_until("readiness needs the app", || asked(&switchback, "/readyz").text().contains("unavailable"));
    let answer = asked(&switchback, "/readyz");
    assert_eq!((answer.status, asked(&switchback, "/livez").status), (503, 200));
    assert!(answer.text().contains("\"unavailable\":[\"app\"]"), "{}", answer.text());
    let mut clients: Vec<_> = (0..3).map(|_| switchback.client()).collect();
    let post = "POST /form HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello";
    clients[0].send(get("/early"));
    clients[1].send(post);
    clients[2].send(get("/first").as_bytes()).send(get("/second"));
    wait_until("three requests wait", || pending(&switchback) == 3.0);
    assert_eq!(switchback.metric("switchback_ready"), 0.0);
    let body = r#"{"method": "GET", "scheme": "http", "host": "a.example", "path": "/", "headers": {}}"#;
    let explained = switchback.json("POST", "/v1/explain", body).to_string();
    assert!(explained.contains("waits for one, and is answered with 503 after 60s"), "{explained}");
    let _app = Application::start(&port);
    assert_eq!(clients[0].response("GET").whole().text(), "/early ");
    assert_eq!(clients[1].response("POST").whole().text(), "/form hello");
    for expected in ["/first ", "/second "] {
        assert_eq!(clients[2].response("GET").whole().text(), expected);
    }
    wait_until("it is ready", || is_ready(&switchback));
    assert_eq!((pending(&switchback), switchback.metric("switchback_ready")), (0.0, 1.0));
}

#[test]
fn a_killed_app_is_seen_and_its_requests_wait_for_the_next() {
    let port = Reserved::any();
    let mut app = Application::start(&port);
    let switchback = sidecar(port.address, "--health-interval 50ms --app-wait 60s");
    for round in 0..2 {
        wait_until("it is ready", || is_ready(&switchback));
        let failed = under_load(&switchback, || {
            app.kill();
            wait_until("its death is seen", || !is_ready(&switchback));
            wait_until("requests wait", || pending(&switchback) >= CLIENTS as f64);
            app = Application::start(&port);
        });
        assert_eq!(failed, Vec::<String>::new(), "round {round}");
    }
}

#[test]
fn no_request_is_lost_over_a_restart_of_the_app() {
    let port = Reserved::any();
    let mut app = Application::start(&port);
    let switchback = sidecar(port.address, "--app-wait 60s");
    wait_until("it is ready", || is_ready(&switchback));
    for round in 0..3 {
        let failed = under_load(&switchback, || {
            app.stop();
            app = Application::start(&port);
        });
        assert_eq!(failed, Vec::<String>::new(), "round {round}");
    }
}

/// What was not answered well, of a load under which something happens: it goes on until each client has had answers behind
/// it.
fn under_load(switchback: &Switchback, happens: impl FnOnce()) -> Vec<String> {
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let address = switchback.address;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (stop, answered) = (&stop, &answered);
                scope.spawn(move || one_client(address, number, stop, answered))
            })
            .collect();
        wait_until("the load runs", || answered.load(Ordering::Relaxed) > 100);
        happens();
        let before = answered.load(Ordering::Relaxed);
        wait_until("the load goes on", || answered.load(Ordering::Relaxed) > before + 100);
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().expect("a client does not panic")).collect()
    })
}

fn one_client(address: SocketAddr, number: usize, stop: &AtomicBool, answered: &AtomicU64) -> Vec<String> {
    let mut failed = Vec::new();
    let mut client = Client::connect(address);
    for request in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let target = format!("/{number}/{request}");
        match client.send(get(&target)).try_response("GET") {
            Ok(answer) if answer.status == 200 && answer.text() == format!("{target} ") => {
                answered.fetch_add(1, Ordering::Relaxed);
            }
            other => {
                failed.push(format!("{target}: {other:?}"));
                client = Client::connect(address);
            }
        }
    }
    failed
}
