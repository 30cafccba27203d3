//! The history: who changed what, when and why, what was in force then, and the way back to it.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, Uri},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    call::{Call, Done},
    difference::{self, Difference},
    problem::{Fault, Problem},
    query::{self, Named},
    reading::timestamp,
    router::Admin,
};
use crate::control::{
    change::{Author, Change, Kind},
    command::Command,
    handle::ControlError,
    store::{StoreError, document::Document},
};

/// The revisions of a page that does not say how many.
const PAGE: u64 = 50;
/// The most revisions of a page.
pub const MAX_PAGE: u64 = 100;
/// The most lines by which a page or an event tells of a revision: a file in which everything moved has thousands.
const MAX_LINES: usize = 20;

/// A revision in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Revision {
    revision: u64,
    kind: Kind,
    #[serde(flatten)]
    author: Author,
    at: String,
    /// How many things it changed.
    changes: usize,
    /// The first of them, a line each.
    text: Vec<String>,
}

/// `GET /v1/revisions`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Page {
    /// Newest first.
    revisions: Vec<Revision>,
    /// The call for those before them; `null` at the end.
    next: Option<String>,
}

/// `GET /v1/revisions/{n}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Whole {
    #[serde(flatten)]
    revision: Revision,
    diff: Vec<Difference>,
    /// The live state after it.
    state: Value,
}

/// The answer to a restore.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Restored {
    revision: u64,
    changed: bool,
    dry_run: bool,
    kind: Kind,
    /// The revision whose state is in force again.
    restored: u64,
    at: String,
    diff: Vec<Difference>,
}

type Tagged<T> = ([(HeaderName, HeaderValue); 1], Json<T>);

/// `GET /v1/revisions`.
pub async fn page(State(admin): State<Admin>, uri: Uri) -> Result<Tagged<Page>, Problem> {
    let [before, limit] = query::numbers(&uri, ["before", "limit"])?;
    let limit = limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let fault = Fault::parameter("limit", "a page has so many revisions");
        return Err(Problem::invalid_query(vec![fault.allowing([format!("1 to {MAX_PAGE}")])]));
    }
    let newest = admin.control.snapshot().state.revision();
    let limit = usize::try_from(limit).expect("it is small");
    // One more than is shown tells whether there are any.
    let mut changes = admin.control.store().page(before, limit + 1).await.map_err(unreadable)?;
    let is_more = changes.len() > limit;
    changes.truncate(limit);
    let last = changes.last().filter(|_| is_more);
    let next = last.map(|last| format!("/v1/revisions?before={}&limit={limit}", last.revision));
    let revisions = changes.into_iter().map(Revision::of).collect();
    Ok((admin.tags.field(newest), Json(Page { revisions, next })))
}

/// `GET /v1/revisions/{n}`.
pub async fn one(
    State(admin): State<Admin>,
    Named(number): Named<u64>,
    uri: Uri,
) -> Result<Tagged<Whole>, Problem> {
    query::none(&uri)?;
    let (change, text) = find(&admin, number).await?;
    let mut document: Value = serde_json::from_str(&text).map_err(|error| damaged(number, error))?;
    let state = document.get_mut("live").map_or(Value::Null, Value::take);
    let diff = difference::of(&change);
    Ok((admin.tags.field(number), Json(Whole { revision: Revision::of(change), diff, state })))
}

/// `POST /v1/revisions/{n}/restore`; its body may be empty.
pub async fn restore(
    State(admin): State<Admin>,
    Named(number): Named<u64>,
    mut call: Call<false>,
) -> Result<Done<Restored>, Problem> {
    let [] = call.optional_body().members([])?;
    let (_, text) = find(&admin, number).await?;
    let (live, _) = Document::read(&text).map_err(|error| damaged(number, error))?;
    let made = call.make(Command::Restore { revision: number, live: live.into() }).await?;
    let change = &made.change;
    Ok(made.done(Restored {
        revision: change.revision,
        changed: change.changed(),
        dry_run: made.dry_run,
        kind: change.kind,
        restored: number,
        at: timestamp(change.at),
        diff: difference::of(change),
    }))
}

impl Revision {
    /// Shows a change.
    pub(super) fn of(change: Change) -> Self {
        Self {
            text: difference::lines(&change, MAX_LINES),
            changes: change.effects.iter().filter(|effect| effect.changed()).count(),
            revision: change.revision,
            kind: change.kind,
            author: change.author,
            at: timestamp(change.at),
        }
    }
}

async fn find(admin: &Admin, number: u64) -> Result<(Change, String), Problem> {
    admin.control.store().find(number).await.map_err(unreadable)?.ok_or_else(|| {
        let newest = admin.control.snapshot().state.revision();
        let detail = format!("there is no revision {number}, or no more: the newest is {newest}");
        Problem::new(StatusCode::NOT_FOUND, "unknown-revision", "No such revision", detail)
    })
}

/// The store can't be read; that is told as where it can't be written.
pub(super) fn unreadable(error: StoreError) -> Problem {
    match error {
        StoreError::Fenced { .. } | StoreError::Closed => ControlError::NotKept(error).into(),
        _ => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "history-unreadable",
            "The history can't be read",
            error.to_string(),
        )
        .with_header(axum::http::header::RETRY_AFTER, "5"),
    }
}

fn damaged(number: u64, error: impl std::fmt::Display) -> Problem {
    let detail = format!("revision {number} can't be read: {error}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", "A fault in Switchback", detail)
}
