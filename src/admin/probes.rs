//! The second address (`[health] listen`): `livez`, `readyz` and `metrics` for probes and scrapers, and nothing else.
//!
//! Invariant: nothing can be changed here, no body is read, and whoever can reach it costs the control plane little: the
//! metrics are rendered once a second at most, however many ask.

use std::{
    io,
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody as _},
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{sync::watch, task::JoinSet};

use super::{
    author::Peer,
    health, metrics,
    problem::{Fault, Problem},
    router::{self, Admin},
    server::{self, Limits},
};
use crate::telemetry::prometheus;

/// How old the metrics may be that are answered.
const MAX_AGE: Duration = Duration::from_secs(1);
/// All calls.
const CALLS: [&str; 3] = ["GET /livez", "GET /readyz", "GET /metrics"];

/// The most connections, where there are descriptors for them: probes and scrapers close theirs, or keep a few.
pub const MAX_CONNECTIONS: usize = 64;

/// What clients of the address may take, for this many connections.
pub fn limits(connections: usize) -> Limits {
    // From networks that nobody vouches for come slower and ruder clients than to a loopback address.
    let five = Duration::from_secs(5);
    Limits { connections, head_timeout: five, write_timeout: five, ..Limits::default() }
}

/// Serves until `stop` is set or dropped, or the process is handed over.
pub async fn serve(
    listener: TcpListener,
    admin: Arc<Admin>,
    limits: Limits,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let accept = async || {
        let (stream, address) = listener.accept().await?;
        Ok(std::future::ready(Some((stream, Peer::tcp(address)))))
    };
    let mut connections = JoinSet::new();
    let ending = server::Ending::new(stop, admin.lifecycle.clone());
    server::accept_until(&ending, accept, router(admin), limits, &mut connections).await;
    // An answer here takes milliseconds: who reads his slower than that is cut.
    Ok(())
}

#[derive(Clone)]
struct Rendered {
    admin: Arc<Admin>,
    text: Arc<Mutex<Option<(Instant, Bytes)>>>,
}

fn router(admin: Arc<Admin>) -> Router {
    let rendered = Rendered { admin: Arc::clone(&admin), text: Arc::default() };
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .with_state(Admin::clone(&admin))
        .merge(Router::new().route("/metrics", get(metrics_text)).with_state(rendered))
        .method_not_allowed_fallback(router::method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn(without_body))
        .layer(middleware::map_response(router::uncached))
}

async fn metrics_text(State(rendered): State<Rendered>) -> impl IntoResponse {
    let mut text = rendered.text.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let fresh = text.as_ref().filter(|(at, _)| now.duration_since(*at) < MAX_AGE);
    let bytes = match fresh {
        Some((_, bytes)) => bytes.clone(),
        None => {
            let bytes = Bytes::from(metrics::render(&rendered.admin));
            *text = Some((now, bytes.clone()));
            bytes
        }
    };
    ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], bytes)
}

/// Refuses a body, and ends its connection.
async fn without_body(request: Request<Body>, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let detail = "nothing here takes a body";
    let problem =
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large", detail);
    problem.with_header(header::CONNECTION, "close").into_response()
}

async fn not_found() -> Problem {
    let fault = Fault { detail: "no call has this path".into(), ..Fault::default() }.allowing(CALLS);
    let detail = "this address is for probes and scrapers alone";
    Problem::new(StatusCode::NOT_FOUND, "unknown-path", "No such path", detail).with_faults(vec![fault])
}
