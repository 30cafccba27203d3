//! What is said of the traffic beside it: in the status and in the metrics.

use crate::{
    get,
    support::{Setup, Upstream, wait_until},
};

#[test]
fn the_status_shows_the_addresses_that_were_taken() {
    let upstream = Upstream::ok();
    let switchback =
        Setup::new().tables("[[listener]]\nname = \"second\"\nlisten = \"127.0.0.1:0\"").start(&upstream);
    let answer = switchback.admin("GET", "/v1/status", "");
    let status: serde_json::Value = serde_json::from_slice(&answer.body.bytes).expect("JSON");
    for (place, (name, address)) in switchback.listeners.iter().enumerate() {
        let shown = &status["listeners"][place];
        assert_eq!(
            (shown["name"].as_str(), shown["address"].as_str()),
            (Some(name.as_str()), Some(address.to_string().as_str()))
        );
    }
}

#[test]
fn lines_that_the_disk_refuses_are_counted() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().tables("[access_log]\npath = \"/dev/full\"").start(&upstream);
    assert!(switchback.metric("switchback_access_log_lost_total") < 0.5);
    for count in 1..=3 {
        assert_eq!(switchback.client().exchange(get("/", "")).status, 200);
        wait_until("the line is counted as lost", || {
            switchback.metric("switchback_access_log_lost_total") > f64::from(count) - 0.5
        });
    }
}
