//! What runs by the monotonic clock: timeouts, drains, probes.

use std::time::{Duration, Instant};

use crate::{
    SHIFTS, WallClock,
    support::{Setup, Upstream, upstream::OK, wait_until},
};

/// An app that answers nothing to `/never` and everything else.
fn app() -> Upstream {
    Upstream::start(|exchange| {
        if exchange.head.target() == "/never" {
            exchange.wire().fill().ok();
            exchange.close();
        } else {
            exchange.send(OK);
        }
    })
}

const NEVER: &str = "GET /never HTTP/1.1\r\nHost: a.example\r\n\r\n";

#[test]
fn a_timeout_is_neither_sooner_nor_later() {
    for shift in SHIFTS {
        let (clock, app) = (WallClock::new(), app());
        let switchback = clock.start(&Setup::new().route("timeout = \"2s\"").toml(&[&app]));
        let mut client = switchback.client();
        let begun = Instant::now();
        client.send(NEVER);
        wait_until("the request is in flight", || app.requests() == 1);
        clock.set(shift, &switchback);
        assert_eq!(client.response("GET").whole().status, 504, "{shift}");
        assert!(begun.elapsed() >= Duration::from_secs(2), "{shift}: after {:?}", begun.elapsed());
        switchback.client().expect_alive(shift);
    }
}

#[test]
fn a_drain_has_its_deadline_and_another_change_does_not_move_it() {
    for shift in SHIFTS {
        let (clock, app) = (WallClock::new(), app());
        let switchback = clock.start(&Setup::new().toml(&[&app]));
        let mut client = switchback.client();
        client.send(NEVER);
        wait_until("the request is in flight", || app.requests() == 1);
        let at = format!("/v1/pools/app/endpoints/{}", app.address);
        let begun = Instant::now();
        switchback.json("POST", &format!("{at}/drain"), r#"{"deadline": "3s"}"#);
        clock.set(shift, &switchback);
        // What drains is looked at anew by this, under the new time.
        switchback.json("POST", "/v1/pools/app/drain", r#"{"deadline": "1h"}"#);
        let pool = switchback.json("GET", "/v1/pools/app", "");
        let left = pool["endpoints"][0]["drain"]["seconds_left"].as_f64();
        assert!(left.is_some_and(|left| left <= 3.0), "{shift}: {pool:#}");
        let answer = client.response("GET").whole();
        assert_eq!(answer.status, 503, "{shift}: it was cut by the drain");
        assert!(begun.elapsed() >= Duration::from_secs(3), "{shift}: after {:?}", begun.elapsed());
    }
}

#[test]
fn probes_go_on_and_are_believed() {
    for shift in SHIFTS {
        let (clock, first, second) = (WallClock::new(), app(), app());
        let probes =
            "health = { http = \"/\", interval = \"50ms\", down_interval = \"50ms\", unhealthy_after = 2 }";
        let switchback = clock.start(&Setup::new().pool(probes).toml(&[&first, &second]));
        let healthy = || switchback.metric("switchback_endpoint_healthy");
        wait_until("both are healthy", || healthy() == 2.0);
        clock.set(shift, &switchback);
        let before = switchback.metric("switchback_pool_probes_total");
        wait_until("probes go on", || switchback.metric("switchback_pool_probes_total") > before + 4.0);
        first.stop();
        wait_until("a fall is seen", || healthy() == 1.0);
        switchback.client().expect_alive(shift);
    }
}

/// A machine without a clock of its own begins in 1970; what was seen before that has no date.
#[test]
fn a_clock_that_is_set_to_1970_is_shown_and_hurts_nothing() {
    let (clock, app) = (WallClock::new(), app());
    let probes = "health = { http = \"/\", interval = \"1h\" }";
    let switchback = clock.start(&Setup::new().pool(probes).toml(&[&app]));
    wait_until("it is probed", || switchback.metric("switchback_endpoint_healthy") == 1.0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("it is later than 1970").as_secs();
    clock.set(&format!("-{now}"), &switchback);
    let pools = switchback.json("GET", "/v1/pools/app", "").to_string();
    assert!(pools.contains("\"1970-01-01T00:00:0"), "{pools}");
    switchback.json("POST", "/v1/pools/app/drain", "{}");
    switchback.json("POST", "/v1/pools/app/undrain", "{}");
    switchback.client().expect_alive("in 1970");
}
