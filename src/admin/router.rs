//! Which call is answered by what.

use std::{
    sync::{Arc, LazyLock},
    time::Instant,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
};

use super::{
    access::{self, Access},
    calls, guard, metrics, openapi,
    problem::{Fault, Problem},
    server::Transport,
    streams::Streams,
    tag::{self, Tags},
};
use crate::{
    control::{
        file::File,
        handle::Control,
        lifecycle::{Lifecycle, Phase},
        succession::Succession,
    },
    health::board::Health,
    tls,
};

/// All calls, for the answer to an unknown path.
static CALLS: LazyLock<Vec<String>> =
    LazyLock::new(|| calls::all().iter().map(|call| format!("{} {}", call.method, call.path)).collect());

/// What every call may use.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Reads and changes the live state.
    pub control: Control,
    /// Where the process stands.
    pub lifecycle: Lifecycle,
    /// What is known of the endpoints' health.
    pub health: Health,
    /// The TLS of the listeners.
    pub certificates: tls::Book,
    /// The TLS of this API, if it speaks TLS.
    pub own_tls: Option<Arc<tls::Front>>,
    /// Who may call.
    pub access: Access,
    /// The configuration file, if there is one.
    pub file: Option<File>,
    /// The tags of what is set.
    pub tags: Tags,
    /// The places of event streams.
    pub streams: Streams,
    /// When the control plane began.
    pub started: Instant,
    /// The version that `status` and the metrics show.
    pub version: &'static str,
    /// How this process is replaced.
    pub succession: Succession,
}

/// The admin API as it is served over a transport.
pub fn router(admin: Arc<Admin>, transport: Transport) -> Router {
    let calls = calls::all();
    calls
        .into_iter()
        .fold(Router::new(), |router, call| router.route(call.path, call.route))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn(tag::unless_seen))
        .layer(middleware::from_fn_with_state(admin.access.clone(), access::check))
        .layer(middleware::map_response(uncached))
        .layer(middleware::map_response_with_state(Admin::clone(&admin), last))
        .layer(middleware::from_fn_with_state(transport, guard::guard))
        .with_state(Admin::clone(&admin))
}

pub(super) async fn metrics_text(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, crate::telemetry::prometheus::CONTENT_TYPE)], metrics::render(&admin))
}

/// `GET /openapi.json`.
pub(super) async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi::TEXT.as_str())
}

async fn not_found(request: Request<Body>) -> Problem {
    let path: String = request.uri().path().chars().take(80).collect();
    let fault = Fault { detail: "no call has this path".into(), ..Fault::default() }.allowing(CALLS.iter());
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-path",
        "No such path",
        format!("there is nothing at {path:?}"),
    )
    .with_faults(vec![fault])
}

/// The router adds the `Allow` field.
pub(super) async fn method_not_allowed(request: Request<Body>) -> Problem {
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
pub(super) async fn uncached(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}
