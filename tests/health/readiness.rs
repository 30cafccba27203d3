//! When the process says that it is ready.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    fast,
    support::{Setup, Switchback, Upstream, upstream::OK, wait_until},
    wait_state,
};

fn is_ready(switchback: &Switchback) -> bool {
    let answer = switchback.admin("GET", "/readyz", "");
    let expected = if answer.status == 200 { "\"ready\":true" } else { "\"phase\":\"probing\"" };
    assert!(answer.text().contains(expected), "{}", answer.text());
    answer.status == 200
}

#[test]
fn ready_is_after_the_first_result_of_every_probe_and_stays_so() {
    let holds = Arc::new(AtomicBool::new(true));
    let held = Arc::clone(&holds);
    let slow = Upstream::start(move |exchange| {
        while held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        exchange.send(OK);
        exchange.close();
    });
    let quick = Upstream::ok();
    let probe = r#"health = { http = "/", interval = "50ms", down_interval = "50ms", timeout = "60s" }"#;
    let switchback = Setup::new().pool(probe).start_all(&[&slow, &quick]);
    wait_state(&switchback, quick.address, "available");
    assert!(!is_ready(&switchback), "one has no result yet");
    let answer = switchback.client().exchange(crate::get("/"));
    assert_eq!(answer.status, 200, "what is healthy already serves");
    holds.store(false, Ordering::SeqCst);
    wait_until("it is ready", || is_ready(&switchback));
    wait_state(&switchback, slow.address, "available");
    for upstream in [slow, quick] {
        upstream.stop();
        wait_state(&switchback, upstream.address, "unhealthy");
    }
    assert!(
        is_ready(&switchback),
        "a pool without a healthy endpoint is no reason to take this instance out"
    );
}

#[test]
fn an_endpoint_that_hangs_holds_the_start_up_for_no_longer_than_the_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("it is bound");
    let upstream = Upstream::ok();
    let config = Setup::new().pool(&fast(r#"http = "/""#)).toml(&[&upstream]);
    let started = Instant::now();
    let switchback = Switchback::start(&config.replace(&upstream.address.to_string(), &address.to_string()));
    assert!(!is_ready(&switchback) || started.elapsed() > Duration::from_millis(500));
    wait_until("it is ready", || is_ready(&switchback));
    assert!(started.elapsed() > Duration::from_millis(500), "the timeout of the probe");
}

#[test]
fn without_probes_it_is_ready_at_once() {
    let switchback = Setup::new().start(&Upstream::ok());
    assert!(is_ready(&switchback));
}

#[test]
fn a_pool_that_the_file_requires_takes_readiness_with_it_and_brings_it_back() {
    let upstreams = [Upstream::ok(), Upstream::ok()];
    let switchback = Setup::new()
        .pool(&fast(r#"http = "/""#))
        .tables("[health]\nrequires = [\"app\"]")
        .start_all(&[&upstreams[0], &upstreams[1]]);
    let ready = || switchback.admin("GET", "/readyz", "").status == 200;
    wait_until("it is ready", ready);
    upstreams[0].stop();
    wait_state(&switchback, upstreams[0].address, "unhealthy");
    assert!(ready(), "the other one is available");
    let drain = format!("/v1/pools/app/endpoints/{}/drain", upstreams[1].address);
    switchback.json("POST", &drain, "{}");
    let answer = switchback.admin("GET", "/readyz", "");
    assert_eq!(answer.status, 503, "nobody takes a new request");
    assert!(answer.text().contains("\"phase\":\"ready\",\"unavailable\":[\"app\"]"), "{}", answer.text());
    switchback.json("POST", &drain.replace("/drain", "/undrain"), "{}");
    assert!(ready(), "in the very moment of the answer");
    let mut client = switchback.client();
    assert_eq!(client.exchange(crate::get("/")).status, 200);
}
