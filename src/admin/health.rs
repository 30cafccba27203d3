//! `livez` and `readyz`: what supervisors and load balancers ask.

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde_json::json;

use super::router::Admin;
use crate::control::lifecycle::Phase;

/// 200 while the control plane works: if it does not, only a restart helps.
pub async fn livez(State(admin): State<Admin>) -> impl IntoResponse {
    let alive = admin.control.is_alive();
    let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "alive": alive })))
}

/// 200 while new traffic should come.
pub async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let phase = admin.lifecycle.phase();
    let status = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": phase == Phase::Ready, "phase": phase })))
}
