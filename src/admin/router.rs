//! Which call is answered by what.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};

use super::{
    changes, explain, guard, health, metrics, pools,
    problem::{Fault, Problem},
    reading,
    server::Transport,
    upgrade,
};
use crate::{
    control::{
        handle::Control,
        lifecycle::{Lifecycle, Phase},
        succession::Succession,
    },
    health::board::Health,
};

/// All paths, for the answer to an unknown one.
const PATHS: [&str; 19] = [
    "GET /v1/status",
    "GET /v1/splits",
    "GET /v1/splits/{split}",
    "PUT /v1/splits/{split}/weights",
    "POST /v1/splits/{split}/switch",
    "POST /v1/splits/{split}/rollback",
    "GET /v1/pools",
    "GET /v1/pools/{pool}",
    "POST /v1/pools/{pool}/drain",
    "POST /v1/pools/{pool}/undrain",
    "PUT /v1/pools/{pool}/endpoints/{address}",
    "DELETE /v1/pools/{pool}/endpoints/{address}",
    "POST /v1/pools/{pool}/endpoints/{address}/drain",
    "POST /v1/pools/{pool}/endpoints/{address}/undrain",
    "POST /v1/explain",
    "POST /v1/upgrade",
    "GET /livez",
    "GET /readyz",
    "GET /metrics",
];

/// What every call may use.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Reads and changes the live state.
    pub control: Control,
    /// Where the process stands.
    pub lifecycle: Lifecycle,
    /// What is known of the endpoints' health.
    pub health: Health,
    /// When the control plane began.
    pub started: Instant,
    /// The version that `status` and the metrics show.
    pub version: &'static str,
    /// How this process is replaced.
    pub succession: Succession,
}

/// The admin API as it is served over a transport.
pub fn router(admin: Arc<Admin>, transport: Transport) -> Router {
    Router::new()
        .route("/v1/status", get(reading::status))
        .route("/v1/splits", get(reading::splits))
        .route("/v1/splits/{split}", get(reading::split))
        .route("/v1/splits/{split}/weights", put(changes::weights))
        .route("/v1/splits/{split}/switch", post(changes::switch))
        .route("/v1/splits/{split}/rollback", post(changes::rollback))
        .route("/v1/pools", get(reading::pools))
        .route("/v1/pools/{pool}", get(reading::pool))
        .route("/v1/pools/{pool}/drain", post(pools::drain_pool))
        .route("/v1/pools/{pool}/undrain", post(pools::undrain_pool))
        .route(
            "/v1/pools/{pool}/endpoints/{address}",
            put(pools::put_endpoint).delete(pools::delete_endpoint),
        )
        .route("/v1/pools/{pool}/endpoints/{address}/drain", post(pools::drain_endpoint))
        .route("/v1/pools/{pool}/endpoints/{address}/undrain", post(pools::undrain_endpoint))
        .route("/v1/explain", post(explain::explain))
        .route("/v1/upgrade", post(upgrade::upgrade))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics_text))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::map_response(uncached))
        .layer(middleware::map_response_with_state(Admin::clone(&admin), last))
        .layer(middleware::from_fn_with_state(transport, guard::guard))
        .with_state(Admin::clone(&admin))
}

async fn metrics_text(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, crate::telemetry::prometheus::CONTENT_TYPE)], metrics::render(&admin))
}

async fn not_found(request: Request<Body>) -> Problem {
    let path: String = request.uri().path().chars().take(80).collect();
    let fault = Fault { detail: "no call has this path".into(), ..Fault::default() }.allowing(PATHS);
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-path",
        "No such path",
        format!("there is nothing at {path:?}"),
    )
    .with_faults(vec![fault])
}

/// The router adds the `Allow` field.
async fn method_not_allowed(request: Request<Body>) -> Problem {
    let method: String = request.method().as_str().chars().take(20).collect();
    let detail = format!("this path does not take {method}; the Allow field says what it takes");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "Wrong method", detail)
}

/// A client of a process that was replaced is to connect to its successor.
async fn last(State(admin): State<Admin>, mut response: Response) -> Response {
    if admin.lifecycle.phase() == Phase::HandedOver {
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    response
}

/// Every answer tells of one moment, so none may be kept; and none is anything but what its type says.
async fn uncached(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}
