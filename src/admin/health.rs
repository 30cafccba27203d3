//! `livez` and `readyz`: what supervisors and load balancers ask.

use std::collections::HashSet;

use axum::{Json, extract::State, http::StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::router::Admin;
use crate::{control::lifecycle::Phase, model::name::Name};

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
    /// The pools that readiness needs (`[health] requires`) and that have no available endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unavailable: Vec<Name>,
}

/// 200 while the control plane works: if it does not, only a restart helps.
pub async fn livez(State(admin): State<Admin>) -> (StatusCode, Json<Alive>) {
    let alive = admin.control.is_alive();
    let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Alive { alive }))
}

/// 200 while new traffic should come: the process serves and is not about to end, and every pool that the file requires
/// has an available endpoint in this very moment.
pub async fn readyz(State(admin): State<Admin>) -> (StatusCode, Json<Ready>) {
    let (phase, unavailable) = (admin.lifecycle.phase(), unavailable(&admin));
    let ready = phase == Phase::Ready && unavailable.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, phase, unavailable }))
}

/// Whether new traffic should come.
pub(super) fn is_ready(admin: &Admin) -> bool {
    admin.lifecycle.phase() == Phase::Ready && unavailable(admin).is_empty()
}

/// The pools that readiness needs and has not. The endpoints are looked at themselves, by the same question that a request
/// asks: what is known of their health is in their own words at once.
fn unavailable(admin: &Admin) -> Vec<Name> {
    let snapshot = admin.control.snapshot();
    let required = &snapshot.config.required_pools;
    if required.is_empty() {
        return Vec::new();
    }
    let available: HashSet<&Name> = snapshot
        .table
        .pools
        .iter()
        .filter(|pool| pool.is_available())
        .map(|pool| &pool.settings.name)
        .collect();
    required.iter().filter(|pool| !available.contains(pool)).cloned().collect()
}
