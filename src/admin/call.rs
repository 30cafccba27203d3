//! A call that changes something, taken apart; and the change itself.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{StatusCode, header},
};

use super::{
    author,
    body::{self, Object},
    places::{Kept, MAX_WAITS, Place},
    problem::Problem,
    query::ChangeQuery,
    router::Admin,
};
use crate::control::{
    change::{Author, Change},
    command::Command,
    handle::Request as Wish,
};

/// A call that changes something: its query and its body. `WAITS` says whether it knows `wait`.
#[derive(Debug)]
pub struct Call<const WAITS: bool> {
    admin: Admin,
    place: Arc<Place>,
    author: Author,
    query: ChangeQuery,
    body: Option<Object>,
}

/// A change that was made, or would be.
#[derive(Debug)]
pub struct Made {
    /// What it is.
    pub change: Change,
    /// Nothing was changed.
    pub dry_run: bool,
    /// The caller wants to wait, at most so long if he says how long.
    pub wait: Option<Option<Duration>>,
    pub(super) admin: Admin,
    /// Keeps the connection's place until the wait has ended.
    _kept: Option<Kept>,
}

impl<const WAITS: bool> FromRequest<Admin> for Call<WAITS> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, admin: &Admin) -> Result<Self, Problem> {
        let place = request.extensions().get::<Arc<Place>>();
        let place = Arc::clone(place.expect("the server gives every request its connection's place"));
        let query = ChangeQuery::parse(request.uri(), WAITS)?;
        let author = author::of(request.headers())?;
        let body = body::optional_object(request).await?;
        Ok(Self { admin: admin.clone(), place, author, query, body })
    }
}

impl<const WAITS: bool> Call<WAITS> {
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
        let Self { admin, place, author, query, .. } = self;
        let wish = Wish::new(command, author);
        if query.dry_run {
            let mut change = admin.control.preview(&wish)?;
            // What a change would be numbered is not known before it is made: others may come first.
            if change.changed() {
                change.revision = admin.control.snapshot().state.revision();
            }
            return Ok(Made { change, dry_run: true, wait: None, admin, _kept: None });
        }
        // Before anything is changed: a refused call has changed nothing.
        let kept = place.keep(query.wait).ok_or_else(|| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-waits",
                "Too many waits at once",
                format!(
                    "{MAX_WAITS} calls wait already; nothing was changed: try again later, or without wait"
                ),
            )
            .with_header(header::RETRY_AFTER, "5")
        })?;
        let change = admin.control.change(wish).await?;
        let wait = query.wait.then_some(query.timeout);
        Ok(Made { change, dry_run: false, wait, admin, _kept: Some(kept) })
    }
}
