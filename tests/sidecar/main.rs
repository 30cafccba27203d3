//! `switchback sidecar`: the real binary in front of an app that starts late, dies, comes back and is stopped.

#[path = "../support/mod.rs"]
mod support;

mod application;
mod arguments;
mod examples;
mod life;
mod replaced;
mod stopping;
mod waiting;

use std::net::SocketAddr;

use self::support::{Client, Response, Switchback};

/// Starts a sidecar in front of an app, on ports of its own, with an admin API for the test to look by.
fn sidecar(app: SocketAddr, options: &str) -> Switchback {
    let own = "--listen 127.0.0.1:0 --health-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0";
    Switchback::run("", &format!("exec \"$0\" sidecar --app {app} {own} {options}"))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

/// What probes are answered.
fn asked(switchback: &Switchback, path: &str) -> Response {
    let address = switchback.health.expect("it has an address for probes");
    let mut client = Client::connect(address);
    client.exchange(format!("GET {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")).whole()
}

fn is_ready(switchback: &Switchback) -> bool {
    let answer = asked(switchback, "/readyz");
    let ready = answer.status == 200;
    assert!(ready || answer.status == 503, "{answer:?}");
    assert!(answer.text().contains(&format!("\"ready\":{ready}")), "{}", answer.text());
    ready
}

/// How many requests wait.
fn pending(switchback: &Switchback) -> f64 {
    switchback.metric("switchback_pool_requests_pending")
}
