//! Switchback: a layer-7 reverse proxy whose one purpose is the release.
//!
//! The layers, and which of them may import which, are listed in `docs/ARCHITECTURE.md` and kept by
//! `tests/layers.rs`. The way of a request is `proxy::listener` -> `proxy::connection` -> `proxy::handler` ->
//! `routing::select` -> `proxy::forward`; the way of a change is `admin` -> `control::controller` ->
//! `routing::build` -> `routing::live`.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod discovery;
pub mod health;
pub mod model;
pub mod proxy;
pub mod routing;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod wire;
