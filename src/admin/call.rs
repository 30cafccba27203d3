//! A call that changes something, taken apart; and the change itself.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    author,
    body::{self, Media, Object},
    difference::{self, Difference},
    idempotency,
    places::{Kept, MAX_WAITS, Place},
    problem::Problem,
    query::ChangeQuery,
    router::Admin,
    tag::Condition,
};
use crate::{
    control::{
        change::{Author, Change},
        command::Command,
        handle::{Answered, ControlError, Expected, Idempotency, Request as Wish},
        state::Object as Subject,
    },
    model::name::{InvalidName, Name},
};

/// A call that changes something: its query, its body and on which terms. `WAITS` says whether it knows `wait`.
#[derive(Debug)]
pub struct Call<const WAITS: bool> {
    admin: Admin,
    place: Arc<Place>,
    author: Author,
    query: ChangeQuery,
    condition: Option<Condition>,
    idempotency: Option<Idempotency>,
    body: Option<Object>,
}

/// A call whose body says what is to be different, and nothing of what stays (RFC 7396).
#[derive(Debug)]
pub struct Patch(pub Call<false>);

/// A change that was made, or would be.
#[derive(Debug)]
pub struct Made {
    /// What it is.
    pub change: Change,
    /// Nothing was changed.
    pub dry_run: bool,
    /// The caller wants to wait, at most so long if he says how long.
    pub wait: Option<Option<Duration>>,
    /// It was made by an earlier call with the same key.
    is_replayed: bool,
    pub(super) admin: Admin,
    /// Keeps the connection's place until the wait has ended.
    _kept: Option<Kept>,
}

/// The answer to a change, with what its fields say.
#[derive(Debug)]
pub struct Done<T> {
    answer: T,
    /// The tag of what was changed, as it is now.
    tag: Option<HeaderValue>,
    is_replayed: bool,
}

impl<const WAITS: bool> FromRequest<Admin> for Call<WAITS> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, admin: &Admin) -> Result<Self, Problem> {
        Self::read(request, admin, Media::Json).await
    }
}

impl FromRequest<Admin> for Patch {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, admin: &Admin) -> Result<Self, Problem> {
        Call::read(request, admin, Media::MergePatch).await.map(Self)
    }
}

impl<const WAITS: bool> Call<WAITS> {
    pub(super) async fn read(request: Request<Body>, admin: &Admin, media: Media) -> Result<Self, Problem> {
        let place = request.extensions().get::<Arc<Place>>();
        let place = Arc::clone(place.expect("the server gives every request its connection's place"));
        let query = ChangeQuery::parse(request.uri(), WAITS)?;
        let mut author = author::of(&request)?;
        let condition = Condition::of(request.headers(), &header::IF_MATCH)?;
        if condition.is_none() && !query.dry_run && admin.control.snapshot().config.require_if_match {
            return Err(unconditional());
        }
        let key = idempotency::key(request.headers())?;
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let (bytes, mut body) = body::read(request, media).await?;
        if let Some(body) = &mut body {
            author.reason = author::take_reason(body)?.or(author.reason);
        }
        let idempotency = key.map(|key| idempotency::of(key, &method, &uri, &bytes));
        Ok(Self { admin: admin.clone(), place, author, query, condition, idempotency, body })
    }

    /// Whether nothing is to be changed.
    pub fn is_dry_run(&self) -> bool {
        self.query.dry_run
    }

    /// The body, which there must be.
    pub fn body(&mut self) -> Result<Object, Problem> {
        body::needed(self.body.take())
    }

    /// The body; an empty one is an object without members.
    pub fn optional_body(&mut self) -> Object {
        self.body.take().unwrap_or_default()
    }

    /// Makes the change, or says what it would do.
    pub async fn make(self, command: Command) -> Result<Made, Problem> {
        let subject = subject(&command);
        let Self { admin, place, author, query, condition, idempotency, .. } = self;
        let expected = match (condition, &subject) {
            (Some(Condition::Tags(tags)), Ok(object)) => {
                Some(Expected { object: object.clone(), revisions: admin.tags.revisions(&tags) })
            }
            // It has to be there for any state of it to match: the command is refused if it is not.
            _ => None,
        };
        let mut wish = Wish { command, author, expected, idempotency };
        let moved = |error| match error {
            ControlError::Moved(_) => in_force(&admin, subject.ok().flatten(), error.into()),
            other => other.into(),
        };
        if query.dry_run {
            wish.idempotency = None;
            let mut change = admin.control.preview(&wish).map_err(moved)?;
            // What a change would be numbered is not known before it is made: others may come first.
            if change.changed() {
                change.revision = admin.control.snapshot().state.revision();
            }
            return Ok(Made { change, dry_run: true, wait: None, is_replayed: false, admin, _kept: None });
        }
        // Before anything is changed: a refused call has changed nothing.
        let kept = place.keep(query.wait).ok_or_else(too_many_waits)?;
        let Answered { change, is_replayed } = admin.control.ask(wish).await.map_err(moved)?;
        let wait = query.wait.then_some(query.timeout);
        Ok(Made { change, dry_run: false, wait, is_replayed, admin, _kept: Some(kept) })
    }
}

impl Made {
    /// What a dry run has to tell.
    pub(super) fn diff(&self) -> Option<Vec<Difference>> {
        self.dry_run.then(|| difference::of(&self.change))
    }

    /// Puts the answer beside what its fields say.
    pub(super) fn done<T>(&self, answer: T) -> Done<T> {
        // Only of a change that was made it is certain which state the caller sees: others may come after it.
        let is_new = self.change.changed() && !self.dry_run;
        let tag = is_new.then(|| self.admin.tags.of(self.change.revision));
        Done { answer, tag, is_replayed: self.is_replayed }
    }
}

impl<T: Serialize> IntoResponse for Done<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.answer).into_response();
        let fields = response.headers_mut();
        if let Some(tag) = self.tag {
            fields.insert(header::ETAG, tag);
        }
        if self.is_replayed {
            fields.insert(idempotency::REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// What a command is about; `None` is the whole live state. Nothing is called what is not a name.
fn subject(command: &Command) -> Result<Option<Subject>, InvalidName> {
    let split = |split: &str| Ok(Some(Subject::Split(Name::new(split)?)));
    let pool = |pool: &str| Ok(Some(Subject::Pool(Name::new(pool)?)));
    match command {
        Command::SetWeights { split: name, .. }
        | Command::MergeWeights { split: name, .. }
        | Command::Switch { split: name, .. }
        | Command::Rollback { split: name, .. } => split(name),
        Command::DrainPool { pool: name, .. } | Command::UndrainPool { pool: name } => pool(name),
        Command::PutEndpoint { of, .. }
        | Command::WeighEndpoint { of, .. }
        | Command::DeleteEndpoint { of, .. }
        | Command::DrainEndpoint { of, .. }
        | Command::UndrainEndpoint { of } => pool(&of.pool),
        Command::Load { .. } => Ok(Some(Subject::File)),
        Command::Restore { .. } | Command::Forget { .. } => Ok(None),
    }
}

/// Adds what is in force now to the refusal of a caller who has seen something else.
fn in_force(admin: &Admin, subject: Option<Subject>, problem: Problem) -> Problem {
    let state = &admin.control.snapshot().state;
    let live = state.live();
    let revision = subject.as_ref().map_or(state.revision(), |object| state.touched(object));
    let current = match &subject {
        Some(Subject::Split(split)) => json!({ "revision": revision, "weights": live.weights.get(split) }),
        Some(Subject::Pool(pool)) => {
            let pool = live.pools.get(pool);
            let pool = pool.map_or(Value::Null, |pool| json!(pool));
            json!({ "revision": revision, "pool": pool })
        }
        Some(Subject::File) | None => json!({ "revision": revision }),
    };
    problem.showing(admin.tags.of(revision), current)
}

fn unconditional() -> Problem {
    Problem::new(
        StatusCode::PRECONDITION_REQUIRED,
        "if-match-required",
        "If-Match is required",
        "this instance takes a change only with the ETag of what it is to change in If-Match (require_if_match in [admin])",
    )
}

fn too_many_waits() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too-many-waits",
        "Too many waits at once",
        format!("{MAX_WAITS} calls wait already; nothing was changed: try again later, or without wait"),
    )
    .with_header(header::RETRY_AFTER, "5")
}
