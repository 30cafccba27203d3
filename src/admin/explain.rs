//! `POST /v1/explain`: what a request would get, and why, without sending it.

use std::collections::BTreeSet;

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
};

use super::{body, imagined::Imagined, problem::Problem, query, router::Admin};
use crate::{
    health::{board::Health, report::EndpointReport},
    model::name::Name,
    routing::explain::{self, Explanation},
    wire::request::RequestHead,
};

/// Explains.
pub async fn explain(
    State(admin): State<Admin>,
    request: Request<Body>,
) -> Result<Json<Explanation>, Problem> {
    query::none(request.uri())?;
    let members =
        body::object(request).await?.members(["method", "scheme", "host", "path", "headers", "client"])?;
    let imagined = Imagined::read(members)?;
    let snapshot = admin.control.snapshot();
    // It names no listener: what one of them takes is taken.
    let underscores = snapshot.config.listeners.iter().any(|listener| listener.allow_underscores);
    let mut head = RequestHead::default();
    Ok(Json(match imagined.read_as_sent(&mut head, underscores) {
        Err(refusal) => explain::refused(&snapshot.table, refusal.status(), refusal),
        Ok(target) => {
            // As it was given, with its port.
            let authority = String::from_utf8_lossy(target.authority);
            let mut story = explain::explain(&snapshot.table, &imagined.view(&head, &target), &authority);
            tell_health(&mut story, &admin.health);
            story
        }
    }))
}

/// Adds what is known of why endpoints take no requests.
fn tell_health(story: &mut Explanation, health: &Health) {
    let out = story.endpoints.iter().filter(|endpoint| !endpoint.healthy || endpoint.ejected);
    let pools: BTreeSet<Name> = out.map(|endpoint| endpoint.pool.clone()).collect();
    for pool in pools {
        let reports = health.endpoints(pool.as_str());
        for endpoint in story.endpoints.iter_mut().filter(|endpoint| endpoint.pool == pool) {
            endpoint.why = reports.get(&endpoint.address).and_then(EndpointReport::why_out);
        }
    }
}
