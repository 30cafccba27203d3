//! Drains seen from both sides: what clients get, and what endpoints receive.

#[path = "../support/mod.rs"]
mod support;

mod requests;
mod retired;
mod streams;
mod waiting;

use serde_json::Value;
use support::{Switchback, Upstream};

/// A GET with a host and further fields.
pub fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")
}

/// The path of an endpoint of pool `app` in the admin API.
pub fn endpoint(upstream: &Upstream) -> String {
    format!("/v1/pools/app/endpoints/{}", upstream.address)
}

/// A call that changes something and succeeds.
pub fn change(switchback: &Switchback, method: &str, path: &str, body: &str) -> Value {
    let answer = switchback.admin(method, path, body);
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    serde_json::from_slice(&answer.body.bytes).expect("JSON")
}

/// What the admin API shows of pool `app`'s endpoint.
pub fn shown(switchback: &Switchback, upstream: &Upstream) -> Value {
    let pool: Value =
        serde_json::from_slice(&switchback.admin("GET", "/v1/pools/app", "").body.bytes).expect("JSON");
    let endpoints = pool["endpoints"].as_array().expect("a list");
    let address = upstream.address.to_string();
    endpoints.iter().find(|endpoint| endpoint["address"] == address.as_str()).cloned().unwrap_or_default()
}
