//! All calls of the admin API: which path and method is answered by what, and what is said of it in its description.
//!
//! Invariant: the router and the OpenAPI document are both made from this table, so neither has a call that the other
//! lacks.

use axum::{
    http::Method,
    routing::{MethodRouter, delete, get, patch, post, put},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{
    access, bodies,
    body::{MERGE_PATCH, TOML},
    certificates, changes, explain, files, health, pools, reading, revisions,
    router::{self, Admin},
    streams, upgrade,
};
use crate::routing::explain::Explanation;

/// A call.
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// What answers it.
    pub(super) route: MethodRouter<Admin>,
    /// What it does, in a line.
    pub(super) summary: &'static str,
    pub(super) kind: Kind,
    /// The body that it takes.
    pub(super) body: Option<Body>,
    /// What a success is answered with.
    pub(super) answer: Answer,
    /// The parameters of its query, beside those of its kind.
    pub(super) query: &'static [&'static str],
}

/// What a call is to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It reads something that has a tag.
    Tagged,
    /// It reads something else.
    Reads,
    /// It makes a revision.
    Changes,
}

/// The body of a call.
pub(super) struct Body {
    pub(super) media: &'static str,
    pub(super) is_required: bool,
    pub(super) schema: Schema,
}

/// The body of an answer.
pub(super) enum Answer {
    /// JSON of this type.
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// A text of this media type.
    Text(&'static str),
}

/// All of them.
pub(super) fn all() -> Vec<Operation> {
    let mut all = reading();
    all.extend(splits());
    all.extend(endpoints());
    all.extend(history());
    all.push(Operation {
        method: Method::POST,
        ..read::<upgrade::Upgraded>(
            Kind::Reads,
            "/v1/upgrade",
            post(upgrade::upgrade),
            "Replaces the process by a successor, and answers when that serves.",
        )
        .perhaps_taking(bodies::upgrade())
    });
    all.extend(tokens());
    all.extend(file());
    all
}

fn reading() -> Vec<Operation> {
    use Kind::{Reads, Tagged};
    vec![
        read::<reading::Status>(Tagged, "/v1/status", get(reading::status), "The whole picture."),
        read::<reading::Splits>(Tagged, "/v1/splits", get(reading::splits), "All splits."),
        read::<reading::SplitView>(
            Tagged,
            "/v1/splits/{split}",
            get(reading::split),
            "A split: what is set, and what came of it.",
        ),
        read::<reading::Pools>(Tagged, "/v1/pools", get(reading::pools), "All pools."),
        read::<reading::PoolView>(
            Tagged,
            "/v1/pools/{pool}",
            get(reading::pool),
            "A pool: its endpoints and what is in flight.",
        ),
        read::<certificates::Listed>(
            Reads,
            "/v1/certificates",
            get(certificates::list),
            "The certificates of listeners.",
        ),
        Operation {
            method: Method::POST,
            ..read::<Explanation>(
                Reads,
                "/v1/explain",
                post(explain::explain),
                "Where a request would go, and why.",
            )
        }
        .taking(bodies::explain()),
        read::<health::Alive>(Reads, "/livez", get(health::livez), "Whether the control plane works."),
        read::<health::Ready>(Reads, "/readyz", get(health::readyz), "Whether new traffic should come."),
        text("/metrics", get(router::metrics_text), "text/plain", "The metrics, for Prometheus."),
        text("/openapi.json", get(router::description), "application/json", "This document."),
    ]
}

fn splits() -> Vec<Operation> {
    type Answer = changes::Answer;
    vec![
        change::<Answer>(
            Method::PATCH,
            "/v1/splits/{split}",
            patch(changes::patch),
            "Changes some weights of a split.",
        )
        .patched_with(bodies::split_patch()),
        change::<Answer>(
            Method::PUT,
            "/v1/splits/{split}/weights",
            put(changes::weights),
            "Puts a whole set of weights in force.",
        )
        .taking(bodies::weights()),
        change::<Answer>(
            Method::POST,
            "/v1/splits/{split}/switch",
            post(changes::switch),
            "Sends all new traffic to one pool.",
        )
        .taking(bodies::switch())
        .waiting(),
        change::<Answer>(
            Method::POST,
            "/v1/splits/{split}/rollback",
            post(changes::rollback),
            "Goes back to earlier weights.",
        )
        .perhaps_taking(bodies::rollback()),
    ]
}

fn endpoints() -> Vec<Operation> {
    type Answer = pools::Answer;
    const ENDPOINT: &str = "/v1/pools/{pool}/endpoints/{address}";
    const DRAIN: &str = "/v1/pools/{pool}/endpoints/{address}/drain";
    const UNDRAIN: &str = "/v1/pools/{pool}/endpoints/{address}/undrain";
    vec![
        change::<Answer>(Method::POST, "/v1/pools/{pool}/drain", post(pools::drain_pool), "Drains a pool.")
            .perhaps_taking(bodies::drain())
            .waiting(),
        change::<Answer>(
            Method::POST,
            "/v1/pools/{pool}/undrain",
            post(pools::undrain_pool),
            "Lets a pool take traffic again.",
        )
        .perhaps_taking(bodies::reason_alone()),
        change::<Answer>(
            Method::PUT,
            ENDPOINT,
            put(pools::put_endpoint),
            "Adds an endpoint, or changes its weight.",
        )
        .perhaps_taking(bodies::endpoint()),
        change::<Answer>(
            Method::PATCH,
            ENDPOINT,
            patch(pools::patch_endpoint),
            "Changes the weight of an endpoint that is there.",
        )
        .patched_with(bodies::endpoint_patch()),
        change::<Answer>(
            Method::DELETE,
            ENDPOINT,
            delete(pools::delete_endpoint),
            "Drains an endpoint, then removes it.",
        )
        .perhaps_taking(bodies::drain())
        .waiting(),
        change::<Answer>(Method::POST, DRAIN, post(pools::drain_endpoint), "Drains an endpoint.")
            .perhaps_taking(bodies::drain())
            .waiting(),
        change::<Answer>(
            Method::POST,
            UNDRAIN,
            post(pools::undrain_endpoint),
            "Lets an endpoint take traffic again.",
        )
        .perhaps_taking(bodies::reason_alone()),
    ]
}

fn history() -> Vec<Operation> {
    vec![
        Operation {
            query: &["before", "limit"],
            ..read::<revisions::Page>(
                Kind::Tagged,
                "/v1/revisions",
                get(revisions::page),
                "The history, newest first.",
            )
        },
        read::<revisions::Whole>(
            Kind::Tagged,
            "/v1/revisions/{n}",
            get(revisions::one),
            "A revision, and the live state after it.",
        ),
        change::<revisions::Restored>(
            Method::POST,
            "/v1/revisions/{n}/restore",
            post(revisions::restore),
            "Puts the live state of a revision in force again.",
        )
        .perhaps_taking(bodies::reason_alone()),
        Operation {
            query: &["after"],
            ..text(
                "/v1/events",
                get(streams::events),
                "text/event-stream",
                "Revisions and more, as they come.",
            )
        },
    ]
}

fn tokens() -> Vec<Operation> {
    const TOKENS: &str = "/v1/tokens";
    let dry_run: &[&str] = &["dry_run"];
    vec![
        read::<access::Listed>(Kind::Reads, TOKENS, get(access::list), "Who may call."),
        Operation {
            method: Method::POST,
            query: dry_run,
            ..read::<access::Made>(
                Kind::Reads,
                TOKENS,
                post(access::make),
                "Makes a token, and shows it once.",
            )
        }
        .taking(bodies::token()),
        Operation {
            method: Method::DELETE,
            query: dry_run,
            ..read::<access::Revoked>(
                Kind::Reads,
                "/v1/tokens/{name}",
                delete(access::revoke),
                "Makes a token count no more.",
            )
        },
    ]
}

fn file() -> Vec<Operation> {
    let validate = post(files::validate);
    let validate = read::<files::Valid>(Kind::Reads, "/v1/config/validate", validate, "Checks a file.");
    let reload = "Reads the file on disk again, and puts it in force.";
    let export = "The live state as a file that declares it.";
    let apply = "Puts a whole file in force.";
    vec![
        read::<files::Whole>(Kind::Tagged, "/v1/config", get(files::config), "The file in force."),
        change::<files::Loaded>(Method::PUT, "/v1/config", put(files::apply), apply).taking_a_file(),
        Operation { method: Method::POST, ..validate }.taking_a_file(),
        change::<files::Loaded>(Method::POST, "/v1/config/reload", post(files::reload), reload)
            .perhaps_taking(bodies::reason_alone()),
        text("/v1/config/export", get(files::export), TOML, export),
        read::<files::Drift>(
            Kind::Tagged,
            "/v1/drift",
            get(files::drift),
            "Where live state and file differ.",
        ),
    ]
}

fn read<A: JsonSchema>(
    kind: Kind,
    path: &'static str,
    route: MethodRouter<Admin>,
    summary: &'static str,
) -> Operation {
    let answer = Answer::Json(|generator| generator.subschema_for::<A>());
    Operation { method: Method::GET, path, route, summary, kind, body: None, answer, query: &[] }
}

fn text(
    path: &'static str,
    route: MethodRouter<Admin>,
    media: &'static str,
    summary: &'static str,
) -> Operation {
    let (kind, answer) = (Kind::Reads, Answer::Text(media));
    Operation { method: Method::GET, path, route, summary, kind, body: None, answer, query: &[] }
}

fn change<A: JsonSchema>(
    method: Method,
    path: &'static str,
    route: MethodRouter<Admin>,
    summary: &'static str,
) -> Operation {
    Operation { method, query: &["dry_run"], ..read::<A>(Kind::Changes, path, route, summary) }
}

impl Operation {
    fn taking(self, schema: Schema) -> Self {
        Self { body: Some(Body { media: "application/json", is_required: true, schema }), ..self }
    }

    fn perhaps_taking(self, schema: Schema) -> Self {
        Self { body: Some(Body { media: "application/json", is_required: false, schema }), ..self }
    }

    fn taking_a_file(self) -> Self {
        Self { body: Some(Body { media: TOML, is_required: true, schema: bodies::file() }), ..self }
    }

    fn patched_with(self, schema: Schema) -> Self {
        Self { body: Some(Body { media: MERGE_PATCH, is_required: true, schema }), ..self }
    }

    fn waiting(self) -> Self {
        Self { query: &["dry_run", "wait", "timeout"], ..self }
    }
}
