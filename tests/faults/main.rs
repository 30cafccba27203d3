//! Upstreams that fail in every way they can: what the client gets, in which time, what is counted, what is repeated
//! and what never is.
//!
//! The CI form is short; `SWITCHBACK_LONG=1` runs the long one (a million requests in the keep-alive race, a minute of
//! killed processes).

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod keepalive;
mod killed;
mod layers;
mod repeats;
mod siblings;
mod timeouts;
mod upstreams;

use support::Switchback;

/// A GET of a target.
fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")
}

/// A request with a body that says its length.
fn with_body(method: &str, target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n{fields}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The sum of a metric's series that have all of these labels.
fn counted(switchback: &Switchback, metric: &str, labels: &[&str]) -> u64 {
    let metrics = switchback.metrics();
    let mut series = metrics.lines().filter(|line| line.starts_with(&format!("{metric}{{"))).peekable();
    assert!(series.peek().is_some(), "no metric {metric} in\n{metrics}");
    let of_labels = series.filter(|line| labels.iter().all(|label| line.contains(label)));
    of_labels.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
