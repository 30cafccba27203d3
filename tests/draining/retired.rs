//! What has left for good leaves nothing behind: no series, no connection, and no gap in the totals.

use std::{collections::BTreeSet, sync::mpsc, time::Duration};

use serde_json::Value;

use crate::{
    change, endpoint, get, shown,
    support::{Setup, Switchback, Upstream, upstream::response, wait_until},
};

/// Names and labels of all samples.
fn samples(switchback: &Switchback) -> BTreeSet<String> {
    let metrics = switchback.metrics();
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').expect("a sample has a value").0.to_owned()).collect()
}

/// What never goes back, and is not about endpoints.
fn totals(switchback: &Switchback) -> [f64; 4] {
    [
        "switchback_route_requests_total",
        "switchback_pool_requests_total",
        "switchback_pool_connects_total",
        "switchback_pool_connection_reuses_total",
    ]
    .map(|name| switchback.metric(name))
}

#[test]
fn endpoints_that_come_and_go_leave_nothing_behind_and_totals_do_not_go_back() {
    const ROUNDS: u8 = 30;
    const AT_ONCE: u8 = 10;
    let stays = Upstream::ok();
    // All of 127.0.0.0/8 is the loopback's: one upstream is as many endpoints as are wanted.
    let everywhere = Upstream::start_at("0.0.0.0:0".parse().expect("an address"), |exchange| {
        exchange.send(&response(200, b"ok"));
    });
    let port = everywhere.address.port();
    let switchback = Setup::new().global("workers = 2").pool(r#"balance = "round_robin""#).start(&stays);
    let ask = |count: usize| {
        // A new connection may come to another worker.
        let mut client = switchback.client();
        for _ in 0..count {
            assert_eq!(client.exchange(get("/", "")).whole().status, 200);
        }
    };
    ask(1);
    // A request is counted when its worker is done with it, which may be after the client is.
    wait_until("the first request is counted", || {
        switchback.metrics().contains("switchback_endpoint_request_duration_seconds_count")
    });
    let before = samples(&switchback);
    let (mut asked, mut known) = (1, totals(&switchback));
    for round in 1..=ROUNDS {
        let paths: Vec<_> = (1..=AT_ONCE)
            .map(|last| format!("/v1/pools/app/endpoints/127.7.{round}.{last}:{port}"))
            .collect();
        paths.iter().for_each(|path| drop(change(&switchback, "PUT", path, "{}")));
        ask(25);
        asked += 25;
        paths.iter().for_each(|path| drop(change(&switchback, "DELETE", path, "")));
        let now = totals(&switchback);
        assert!(now.iter().zip(known).all(|(now, known)| *now >= known), "{known:?}, then {now:?}");
        known = now;
    }
    wait_until("all of them are retired", || switchback.metric("switchback_endpoints") == 1.0);
    let retired = f64::from(ROUNDS) * f64::from(AT_ONCE);
    assert_eq!(switchback.metric("switchback_endpoints_retired_total"), retired);
    let after = samples(&switchback);
    assert_eq!(after, before, "the same samples as at the start");
    let connections = stays.connections().len() + everywhere.connections().len();
    let [routes, pools, connects, reuses] = totals(&switchback);
    assert_eq!((routes, pools), (asked as f64, asked as f64));
    assert_eq!((connects, connects + reuses), (connections as f64, asked as f64));
    assert!(everywhere.requests() > usize::from(ROUNDS) * 10, "they took a good part of the requests");
    assert_eq!(everywhere.open(), 0, "no connection to them is left");
    let pool = switchback.admin("GET", "/v1/pools/app", "");
    let pool: Value = serde_json::from_slice(&pool.body.bytes).expect("JSON");
    assert_eq!(pool["endpoints"].as_array().expect("a list").len(), 1);
}

#[test]
fn an_endpoint_that_comes_back_while_it_drains_is_the_same_and_afterwards_a_new_one() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let held = Upstream::start(move |exchange| {
        if exchange.head.target() == "/held" {
            let waited = released.lock().expect("one at a time").recv_timeout(Duration::from_secs(20));
            waited.expect("the test tells it to go on");
        }
        exchange.send(&response(200, b"ok"));
    });
    let switchback = Setup::new().start(&held);
    let retired = || switchback.metric("switchback_endpoints_retired_total");
    let mut client = switchback.client();
    client.send(get("/held", ""));
    wait_until("the request is there", || held.requests() == 1);
    change(&switchback, "DELETE", &endpoint(&held), "");
    assert_eq!(shown(&switchback, &held)["state"], "draining");
    change(&switchback, "PUT", &endpoint(&held), "{}");
    let back = shown(&switchback, &held);
    assert_eq!((&back["state"], &back["in_flight"]), (&"available".into(), &1.into()), "{back}");
    release.send(()).expect("it waits");
    assert_eq!(client.response("GET").whole().text(), "ok");
    wait_until("it is counted", || shown(&switchback, &held)["requests"]["total"] == 1);
    change(&switchback, "DELETE", &endpoint(&held), "");
    wait_until("it is retired", || retired() == 1.0);
    assert_eq!(shown(&switchback, &held), Value::Null);
    wait_until("its connection is closed", || held.open() == 0);
    change(&switchback, "PUT", &endpoint(&held), "{}");
    let anew = shown(&switchback, &held);
    assert_eq!((&anew["state"], &anew["requests"]["total"]), (&"available".into(), &0.into()), "{anew}");
    assert_eq!(switchback.client().exchange(get("/", "")).whole().text(), "ok");
    assert_eq!(retired(), 1.0);
}
