//! The calls that change something.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    body::{self, refuse_any, short},
    places::{MAX_WAITS, Place},
    problem::{Fault, Problem},
    query::{ChangeQuery, Named},
    router::Admin,
};
use crate::{
    control::command::{Change, Command, Kind, Origin, PinsOnChange},
    model::{name::Name, weights::Weights},
};

/// How often a wait looks whether the requests in flight have ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The answer to a change.
#[derive(Debug, Serialize)]
pub struct Answer {
    revision: u64,
    changed: bool,
    dry_run: bool,
    kind: Kind,
    split: Name,
    weights: Weights,
    previous: Weights,
    /// What became of pins, and the pools whose pins were released.
    pins: PinsOnChange,
    released: Vec<Name>,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    drained: Option<bool>,
    /// Requests in flight, when the wait ended, on each pool that takes no new traffic of the split.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<BTreeMap<Name, u64>>,
}

/// `PUT /v1/splits/{split}/weights`.
pub async fn weights(
    State(admin): State<Admin>,
    Extension(place): Extension<Arc<Place>>,
    Named(split): Named,
    request: Request<Body>,
) -> Result<Json<Answer>, Problem> {
    let query = ChangeQuery::parse(request.uri(), false)?;
    let mut set = body::object(request).await?;
    // A pool may be called "pins", too: its weight is a number.
    let pins = pins(set.take_text("pins"))?;
    let weights = set.weights()?;
    change(&admin, &place, Command::SetWeights { split, weights, pins }, query).await
}

/// `POST /v1/splits/{split}/switch`.
pub async fn switch(
    State(admin): State<Admin>,
    Extension(place): Extension<Arc<Place>>,
    Named(split): Named,
    request: Request<Body>,
) -> Result<Json<Answer>, Problem> {
    let query = ChangeQuery::parse(request.uri(), true)?;
    let [to, kept] = body::object(request).await?.members(["to", "pins"])?;
    let pins = pins(kept)?;
    let to = match to {
        Some(Value::String(pool)) => pool,
        Some(other) => return wrong("/to", format!("{} is not the name of a pool", short(&other))),
        None => return wrong("/to", "the pool to switch to is missing".into()),
    };
    change(&admin, &place, Command::Switch { split, to, pins }, query).await
}

/// `POST /v1/splits/{split}/rollback`; its body may be empty.
pub async fn rollback(
    State(admin): State<Admin>,
    Extension(place): Extension<Arc<Place>>,
    Named(split): Named,
    request: Request<Body>,
) -> Result<Json<Answer>, Problem> {
    let query = ChangeQuery::parse(request.uri(), false)?;
    let members = body::optional_object(request).await?.unwrap_or_default();
    let [revision, kept] = members.members(["revision", "pins"])?;
    let pins = pins(kept)?;
    let to_revision = match &revision {
        None => None,
        Some(number) => match number.as_u64() {
            Some(number) => Some(number),
            None => return wrong("/revision", format!("{} is not the number of a revision", short(number))),
        },
    };
    change(&admin, &place, Command::Rollback { split, to_revision, pins }, query).await
}

/// What a body says of pins.
fn pins(said: Option<Value>) -> Result<Option<PinsOnChange>, Problem> {
    let pins = match said {
        None => return Ok(None),
        Some(Value::String(text)) if text == "keep" => PinsOnChange::Keep,
        Some(Value::String(text)) if text == "release" => PinsOnChange::Release,
        Some(other) => {
            let fault = Fault::at("/pins", format!("{} says nothing about pins", short(&other)));
            return Err(Problem::invalid(vec![fault.allowing(["keep", "release"])]));
        }
    };
    Ok(Some(pins))
}

fn wrong<T>(pointer: &str, detail: String) -> Result<T, Problem> {
    refuse_any(vec![Fault::at(pointer, detail)]).map(|()| unreachable!("there is a fault"))
}

/// Makes a change, or says what it would do, and waits where that was asked for.
async fn change(
    admin: &Admin,
    place: &Arc<Place>,
    command: Command,
    query: ChangeQuery,
) -> Result<Json<Answer>, Problem> {
    if query.dry_run {
        return Ok(Json(answer(admin.control.preview(&command, Origin::Admin)?, true)));
    }
    // Before anything is changed: a refused call has changed nothing.
    let _kept = place.keep(query.wait.is_some()).ok_or_else(|| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-waits",
            "Too many waits at once",
            format!("{MAX_WAITS} calls wait already; nothing was changed: try again later, or without wait"),
        )
        .with_header(header::RETRY_AFTER, "5")
    })?;
    let change = admin.control.change(command, Origin::Admin).await?;
    let mut answer = answer(change, false);
    if let Some(limit) = query.wait {
        let left = drained(admin, &answer.split, &answer.weights, limit).await;
        answer.drained = Some(left.values().all(|in_flight| *in_flight == 0));
        answer.in_flight = Some(left);
    }
    Ok(Json(answer))
}

fn answer(change: Change, dry_run: bool) -> Answer {
    Answer {
        revision: change.revision,
        changed: change.changed(),
        dry_run,
        kind: change.kind,
        split: change.split,
        weights: change.after,
        previous: change.before,
        pins: change.pins,
        released: change.released,
        at: humantime::format_rfc3339_millis(change.at).to_string(),
        drained: None,
        in_flight: None,
    }
}

/// Waits until nothing is in flight on the pools whose weight is 0, and answers what is left there.
///
/// It takes two looks in a row: a worker may have chosen by the old table in the instant before the new one was
/// published, and claim its endpoint just after the first look.
async fn drained(admin: &Admin, split: &Name, weights: &Weights, limit: Duration) -> BTreeMap<Name, u64> {
    let end = tokio::time::Instant::now() + limit;
    let mut empty_before = false;
    loop {
        let left = in_flight(admin, split, weights);
        let empty = left.values().all(|in_flight| *in_flight == 0);
        if (empty && empty_before) || tokio::time::Instant::now() >= end {
            return left;
        }
        empty_before = empty;
        tokio::time::sleep_until(end.min(tokio::time::Instant::now() + LOOK_EVERY)).await;
    }
}

/// What is in flight on each pool of a split whose weight is 0 in `weights`, by whichever route it came.
fn in_flight(admin: &Admin, split: &Name, weights: &Weights) -> BTreeMap<Name, u64> {
    let table = &admin.control.snapshot().table;
    let arms = table.splits.iter().find(|compiled| compiled.settings.name == *split).map(|split| &split.arms);
    let pools = arms.into_iter().flatten().map(|arm| &table.pools[arm.pool]);
    pools
        .filter(|pool| weights.of(pool.settings.name.as_str()) == Some(0))
        .map(|pool| {
            let in_flight = pool.endpoints.iter().map(|(endpoint, _)| endpoint.occupancy.in_flight()).sum();
            (pool.settings.name.clone(), in_flight)
        })
        .collect()
}
