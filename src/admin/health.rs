//! `livez` and `readyz`: what supervisors and load balancers ask.

use axum::{Json, extract::State, http::StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::router::Admin;
use crate::control::lifecycle::Phase;

/// The answer of `livez`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Alive {
    alive: bool,
}

/// The answer of `readyz`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Ready {
    ready: bool,
    phase: Phase,
}

/// 200 while the control plane works: if it does not, only a restart helps.
pub async fn livez(State(admin): State<Admin>) -> (StatusCode, Json<Alive>) {
    let alive = admin.control.is_alive();
    let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Alive { alive }))
}

/// 200 while new traffic should come.
pub async fn readyz(State(admin): State<Admin>) -> (StatusCode, Json<Ready>) {
    let phase = admin.lifecycle.phase();
    let status = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready: phase == Phase::Ready, phase }))
}
