//! The layers between a client's bytes and an upstream's, compiled for the fuzzer without the rest of the project: with
//! TLS, the admin API, the store and the command line, building them for it took longer than the fuzzing.

// What the layers above would use, and what the project's own lints expect.
#![allow(dead_code, unused_imports, unfulfilled_lint_expectations)]

#[path = "../../src/config/mod.rs"]
mod config;
#[path = "../../src/http2/mod.rs"]
mod http2;
#[path = "../../src/model/mod.rs"]
mod model;
pub mod proxy;
#[path = "../../src/routing/mod.rs"]
mod routing;
#[path = "../../src/telemetry/mod.rs"]
mod telemetry;
mod tls;
#[path = "../../src/upstream/mod.rs"]
mod upstream;
#[path = "../../src/wire/mod.rs"]
pub mod wire;
