//! SIGTERM: readiness fails, requests go on, connections are asked to go, and the process ends in order.

use std::{
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use crate::{
    application::Application,
    get, is_ready, pending, sidecar,
    support::{Broken, Client, PATIENCE, Reserved, Upstream, Wire, wait_until},
};

#[test]
fn no_request_fails_and_readiness_does_while_they_go_on() {
    let port = Reserved::any();
    let _app = Application::start(&port);
    let mut switchback = sidecar(port.address, "--pre-stop-delay 2s --drain-deadline 10s");
    wait_until("it is ready", || is_ready(&switchback));
    let (answered, termed) = (AtomicU64::new(0), AtomicBool::new(false));
    let address = switchback.address;
    thread::scope(|scope| {
        for number in 0..8 {
            let (answered, termed) = (&answered, &termed);
            scope.spawn(move || until_refused(address, number, answered, termed));
        }
        wait_until("the load runs", || answered.load(Ordering::Relaxed) > 100);
        termed.store(true, Ordering::SeqCst);
        switchback.signal("TERM");
        wait_until("readiness fails", || !is_ready(&switchback));
        let before = answered.load(Ordering::Relaxed);
        wait_until("requests go on", || answered.load(Ordering::Relaxed) > before + 20);
        switchback.client().expect_alive("a new connection within the delay");
    });
    let status = switchback.wait();
    assert_eq!(status.code(), Some(0), "{status}: {}", switchback.stderr());
}

/// Sends on, on new connections where the old one was asked to go, until the listener is closed.
fn until_refused(address: SocketAddr, number: usize, answered: &AtomicU64, termed: &AtomicBool) {
    let mut client = Client::connect(address);
    let mut is_new = true;
    for request in 0.. {
        let target = format!("/{number}/{request}");
        let answer = match client.send(get(&target)).try_response("GET") {
            Ok(answer) => answer,
            // The kernel had taken the connection, and the listener was closed before it was served.
            Err(Broken::Reset | Broken::Eof) if is_new && termed.load(Ordering::SeqCst) => return,
            Err(end) => panic!("{target}: cut by the stop: {end:?}"),
        };
        assert_eq!((answer.status, answer.text()), (200, format!("{target} ")), "{answer:?}");
        answered.fetch_add(1, Ordering::Relaxed);
        is_new = answer.closes();
        if is_new {
            match TcpStream::connect(address) {
                Ok(stream) => client = Client { wire: Wire::new(stream, PATIENCE) },
                Err(error) => {
                    assert!(termed.load(Ordering::SeqCst), "refused before SIGTERM: {error}");
                    return;
                }
            }
        }
    }
}

/// As in Kubernetes, where a sidecar is told to stop when the app has ended.
#[test]
fn an_app_that_has_gone_does_not_hold_the_end_up() {
    let port = Reserved::any();
    let mut app = Application::start(&port);
    let mut switchback =
        sidecar(port.address, "--health-interval 50ms --app-wait 1h --pre-stop-delay 1s --drain-deadline 1h");
    wait_until("it is ready", || is_ready(&switchback));
    let mut idle = switchback.client();
    assert_eq!(idle.exchange(get("/")).status, 200);
    app.stop();
    wait_until("its end is seen", || !is_ready(&switchback));
    let mut waits = switchback.client();
    waits.send(get("/"));
    wait_until("a request waits", || pending(&switchback) == 1.0);
    switchback.signal("TERM");
    let answer = waits.response("GET").whole();
    assert!(answer.status == 503 && answer.closes(), "{answer:?}");
    let answer = switchback.client().exchange(get("/")).whole();
    assert!(answer.status == 503 && answer.closes(), "within the delay: {answer:?}");
    idle.expect_end("an idle connection at the end");
    assert_eq!(switchback.wait().code(), Some(0));
}

#[test]
fn the_deadline_cuts_what_does_not_end_and_the_exit_code_is_0() {
    let app = Upstream::start(|exchange| {
        exchange.wire().fill().ok();
        exchange.close();
    });
    let mut switchback = sidecar(app.address, "--pre-stop-delay 0s --drain-deadline 300ms");
    wait_until("it is ready", || is_ready(&switchback));
    let mut client = switchback.client();
    client.send(get("/never"));
    wait_until("the request is in flight", || app.requests() == 1);
    switchback.signal("TERM");
    assert_eq!(switchback.wait().code(), Some(0));
    assert!(client.try_response("GET").is_err(), "it was answered by nobody");
}
