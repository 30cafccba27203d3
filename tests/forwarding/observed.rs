//! What is said of the traffic beside it: in the status and in the metrics.

use crate::{
    get,
    support::{Setup, Upstream, wait_until},
};

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
