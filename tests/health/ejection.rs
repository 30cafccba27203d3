//! Passive ejection and panic: what counts, who is taken out, who may not be, and who comes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    endpoint, get, pool, state,
    support::{
        Client, Reserved, Setup, Switchback, Upstream, config::blue_green, upstream::response, wait_until,
    },
    wait_state,
};

/// An application that answers with a status of choice and its name.
struct Application {
    upstream: Upstream,
    status: Arc<AtomicU16>,
}

impl Application {
    fn start(name: &'static str, status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let answered = Arc::clone(&status);
        let upstream = Upstream::start(move |exchange| {
            let status =
                if exchange.head.target() == "/healthz" { 200 } else { answered.load(Ordering::SeqCst) };
            exchange.send(&response(status, name.as_bytes()));
        });
        Self { upstream, status }
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

fn start(keys: &str, endpoints: &[&Application]) -> Switchback {
    let upstreams: Vec<&Upstream> = endpoints.iter().map(|application| &application.upstream).collect();
    Setup::new().pool("balance = \"round_robin\"").pool(keys).start_all(&upstreams)
}

fn served(client: &mut Client) -> (u16, String) {
    let answer = client.exchange(get("/")).whole();
    (answer.status, answer.text())
}

#[test]
fn five_errors_in_a_row_take_an_endpoint_out_for_a_while_and_longer_the_next_time() {
    let (good, bad) = (Application::start("good", 200), Application::start("bad", 500));
    let keys = r#"eject = { base_time = "400ms", interval = "60s" }"#;
    let switchback = start(keys, &[&good, &bad]);
    let mut client = switchback.client();
    let mut errors = 0;
    while errors < 5 {
        errors += usize::from(served(&mut client).0 == 500);
        if errors < 5 {
            assert_eq!(endpoint(&switchback, bad.upstream.address)["ejections"], 0, "after {errors} errors");
        }
    }
    wait_until("it is ejected", || endpoint(&switchback, bad.upstream.address)["ejections"] == 1);
    let out = Instant::now();
    let view = endpoint(&switchback, bad.upstream.address);
    if view["state"] == "ejected" {
        assert_eq!(view["ejected"]["reason"], "consecutive_5xx");
        let explained = switchback.admin("POST", "/v1/explain", "{}").text();
        assert!(explained.contains("it is ejected since"), "{explained}");
    }
    while state(&switchback, bad.upstream.address) == "ejected" {
        let (status, name) = served(&mut client);
        // The last look and this request may have the end of the ejection between them.
        assert!(status == 200 || state(&switchback, bad.upstream.address) != "ejected", "{status} {name}");
    }
    assert!(out.elapsed() > Duration::from_millis(300), "it came back after {:?}", out.elapsed());
    wait_until("it is ejected again", || {
        served(&mut client);
        endpoint(&switchback, bad.upstream.address)["ejections"] == 2
    });
    bad.answer(200);
    let out = Instant::now();
    wait_state(&switchback, bad.upstream.address, "available");
    assert!(out.elapsed() > Duration::from_millis(600), "the second time takes twice as long");
    wait_until("it serves again", || served(&mut client) == (200, "bad".to_owned()));
    let counted = "switchback_pool_ejections_total{pool=\"app\",reason=\"consecutive_5xx\"} 2";
    assert!(switchback.metrics().contains(counted));
}

#[test]
fn an_answer_below_500_begins_the_count_anew() {
    let (good, mixed) = (Application::start("good", 200), Application::start("mixed", 500));
    let switchback = start("", &[&good, &mixed]);
    let mut client = switchback.client();
    for status in [500, 404].repeat(10) {
        // Round robin over two: every other request is its.
        mixed.answer(status);
        (0..if status == 500 { 8 } else { 4 }).for_each(|_| {
            served(&mut client);
        });
    }
    assert_eq!(endpoint(&switchback, mixed.upstream.address)["ejections"], 0);
}

#[test]
fn of_a_pool_at_most_the_share_is_out_but_one_always_may_be() {
    let bad: Vec<_> = (0..4).map(|_| Application::start("bad", 503)).collect();
    let switchback = start("", &bad.iter().collect::<Vec<_>>());
    let mut client = switchback.client();
    let out = || {
        let pool = pool(&switchback);
        let endpoints = pool["endpoints"].as_array().expect("a list").clone();
        endpoints.iter().filter(|endpoint| endpoint["state"] == "ejected").count()
    };
    wait_until("some were spared", || {
        (0..40).for_each(|_| assert_eq!(served(&mut client).0, 503));
        assert!(out() <= 1);
        switchback.metric("switchback_pool_ejections_spared_total") >= 3.0
    });
    assert_eq!((out(), switchback.metric("switchback_endpoint_ejected")), (1, 1.0));
}

#[test]
fn an_endpoint_that_refuses_connections_is_ejected_and_no_request_fails() {
    let good = Application::start("good", 200);
    let port = Reserved::any();
    let refusing = port.address;
    let keys = "eject = { consecutive_5xx = 0 }";
    let config = Setup::new().pool(keys).toml(&[&good.upstream]);
    let config = config.replace("endpoints = [", &format!("endpoints = [\"{refusing}\", "));
    let switchback = Switchback::start(&config);
    let mut client = switchback.client();
    wait_until("it is ejected", || {
        assert_eq!(served(&mut client), (200, "good".to_owned()));
        state(&switchback, refusing) == "ejected"
    });
    assert_eq!(endpoint(&switchback, refusing)["ejected"]["reason"], "consecutive_gateway_failures");
}

#[test]
fn two_endpoints_that_are_restarted_one_after_the_other_lose_no_request() {
    let [one, two] = [Reserved::any(), Reserved::any()];
    let addresses = [one.address, two.address];
    // Nothing is kept of its connections, as nothing would be of a process's that ends.
    let listen = |port| {
        Upstream::start_on(port, |exchange| {
            exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nhere");
            exchange.close();
        })
    };
    let again = |address| listen(Reserved::at(address).expect("its port is shared"));
    let [first, second] = [listen(one), listen(two)];
    let switchback = Switchback::start(&Setup::new().toml(&[&first, &second]));
    let serve = |count: usize| {
        for number in 0..count {
            let answer = switchback.client().exchange(get("/"));
            assert_eq!(answer.status, 200, "request {number}: {answer:?}");
        }
    };
    // They earn the retries of the moment in which an endpoint has died and nobody knows yet.
    serve(300);
    let kill = |upstream: &Upstream| {
        upstream.stop();
        upstream.wait_refusing();
    };
    kill(&first);
    wait_until("the first is ejected", || {
        serve(1);
        state(&switchback, addresses[0]) == "ejected"
    });
    let _first = again(addresses[0]);
    serve(20);
    assert_eq!(state(&switchback, addresses[0]), "ejected", "its time is 30 s");
    kill(&second);
    serve(200);
    assert_eq!(state(&switchback, addresses[0]), "available", "it has taken the place of the other");
    assert_eq!(state(&switchback, addresses[1]), "ejected");
    wait_until("it says why", || switchback.stderr().contains("it has answered while others failed"));
    let _second = again(addresses[1]);
    serve(20);
}

#[test]
fn an_answer_that_is_cut_short_is_no_good_one() {
    let cutting = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly a part");
        exchange.close();
    });
    let good = Application::start("good", 200);
    let switchback = Setup::new().pool("balance = \"round_robin\"").start_all(&[&good.upstream, &cutting]);
    wait_until("it is ejected", || {
        let answer = switchback.client().exchange(get("/"));
        assert_eq!(answer.status, 200);
        state(&switchback, cutting.address) == "ejected"
    });
}

#[test]
fn clients_that_go_away_are_not_held_against_the_endpoint() {
    let slow = Upstream::start(|exchange| {
        if exchange.head.target() == "/never" {
            // Until Switchback closes the connection, because its client has gone.
            exchange.wire().fill().ok();
            return exchange.close();
        }
        exchange.send(&response(200, b"here"));
    });
    let other = Application::start("other", 200);
    let switchback = Setup::new().pool("balance = \"round_robin\"").start_all(&[&slow, &other.upstream]);
    for number in 1..=40 {
        let mut client = switchback.client();
        client.send(get("/never"));
        wait_until("the request has come", || slow.requests() + other.upstream.requests() == number);
        client.reset();
    }
    assert_eq!(slow.requests(), 20, "far more than would eject it");
    wait_until("all have been given up", || {
        switchback.metric("switchback_endpoint_requests_in_flight") == 0.0
    });
    assert_eq!(endpoint(&switchback, slow.address)["ejections"], 0);
    assert_eq!(state(&switchback, slow.address), "available");
}

#[test]
fn in_a_panic_all_share_and_without_one_a_pool_can_be_empty() {
    for (panic, threshold) in [(true, "0.5"), (false, "0")] {
        let all: Vec<_> = ["a", "b", "c"].map(|name| Application::start(name, 500)).into();
        let keys = format!("panic = {threshold}\neject = {{ max_ejected = 1 }}");
        let switchback = start(&keys, &all.iter().collect::<Vec<_>>());
        let mut client = switchback.client();
        wait_until("all are ejected", || {
            (0..15).for_each(|_| drop(served(&mut client)));
            switchback.metric("switchback_endpoint_ejected") == 3.0
        });
        assert_eq!(pool(&switchback)["panic"], panic);
        assert_eq!(switchback.metric("switchback_pool_panic"), f64::from(u8::from(panic)));
        let names: std::collections::BTreeSet<_> = (0..30).map(|_| served(&mut client)).collect();
        let of =
            |all: &[(u16, &str)]| all.iter().map(|(status, name)| (*status, (*name).to_owned())).collect();
        match panic {
            true => assert_eq!(names, of(&[(500, "a"), (500, "b"), (500, "c")])),
            false => assert!(names.iter().all(|(status, _)| *status == 503), "{names:?}"),
        }
    }
}

#[test]
fn an_emptied_pool_passes_its_share_on() {
    let (blue, green) = (Application::start("blue", 500), Application::start("green", 200));
    let config = blue_green(1, (50, 50), "", &blue.upstream, &green.upstream)
        .replace("[pool.blue]", "[pool.blue]\npanic = 0");
    let switchback = Switchback::start(&config);
    let mut client = switchback.client();
    wait_until("blue is empty", || {
        served(&mut client);
        switchback.metric("switchback_endpoint_ejected") == 1.0
    });
    assert!((0..50).all(|_| served(&mut client) == (200, "green".to_owned())));
}

#[test]
fn a_passing_probe_readmits() {
    let (good, bad) = (Application::start("good", 200), Application::start("bad", 500));
    let keys = r#"health = { http = "/healthz", interval = "200ms" }"#;
    let switchback = start(keys, &[&good, &bad]);
    for application in [&good, &bad] {
        wait_state(&switchback, application.upstream.address, "available");
    }
    let mut client = switchback.client();
    wait_until("it is ejected", || {
        served(&mut client);
        endpoint(&switchback, bad.upstream.address)["ejections"] == 1
    });
    bad.answer(200);
    // Its time would be 30 s: longer than anything here is waited for.
    wait_state(&switchback, bad.upstream.address, "available");
    // What it says comes through a pipe.
    wait_until("it says why", || switchback.stderr().contains("it has passed a probe"));
}

#[test]
fn an_endpoint_with_far_fewer_successes_than_the_others_is_ejected() {
    let good: Vec<_> = (0..5).map(|_| Application::start("good", 200)).collect();
    // Every third answer is an error: never five in a row.
    let bad = Upstream::start(|exchange| {
        let status = if exchange.number % 3 == 0 { 500 } else { 200 };
        exchange.send(&response(status, b"bad"));
    });
    let mut endpoints: Vec<&Upstream> = good.iter().map(|application| &application.upstream).collect();
    endpoints.push(&bad);
    let keys = r#"eject = { interval = "500ms", success_rate_requests = 20 }"#;
    let switchback = Setup::new().pool(keys).start_all(&endpoints);
    let mut client = switchback.client();
    wait_until("it is ejected", || {
        (0..50).for_each(|_| drop(served(&mut client)));
        state(&switchback, bad.address) == "ejected"
    });
    assert_eq!(endpoint(&switchback, bad.address)["ejected"]["reason"], "success_rate");
    assert_eq!(switchback.metric("switchback_endpoint_ejected"), 1.0);
}
