//! Health over real sockets: what probes ask, what they decide, and who gets traffic meanwhile.

#[path = "../support/mod.rs"]
mod support;

mod blame;
mod ejection;
mod grpc;
mod probes;
mod processes;
mod readiness;
mod warming;

use std::net::SocketAddr;

use serde_json::Value;
use support::{Switchback, wait_until};

/// A GET of a target.
fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

/// Keys of a pool whose probes are fast, with further ones.
fn fast(probe: &str) -> String {
    format!(r#"health = {{ {probe}, interval = "20ms", down_interval = "20ms", timeout = "500ms" }}"#)
}

/// What the admin API shows of pool `app`.
fn pool(switchback: &Switchback) -> Value {
    let answer = switchback.admin("GET", "/v1/pools/app", "");
    serde_json::from_str(&answer.text()).expect("the admin API answers JSON")
}

/// What it shows of an endpoint.
fn endpoint(switchback: &Switchback, address: SocketAddr) -> Value {
    let pool = pool(switchback);
    let endpoints = pool["endpoints"].as_array().expect("a list of endpoints");
    let found = endpoints.iter().find(|endpoint| endpoint["address"] == address.to_string().as_str());
    found.expect("an endpoint of the pool").clone()
}

fn state(switchback: &Switchback, address: SocketAddr) -> String {
    endpoint(switchback, address)["state"].as_str().expect("a text").to_owned()
}

fn wait_state(switchback: &Switchback, address: SocketAddr, wanted: &str) {
    wait_until(&format!("endpoint {address} is {wanted}"), || state(switchback, address) == wanted);
}
