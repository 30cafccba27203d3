//! The calls that move traffic between the pools of a split.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    body::{WEIGHTS_ALLOWED, refuse_any, short},
    call::{Call, Done, Made, Patch},
    difference::Difference,
    problem::{Fault, Problem, pointer_to},
    query::{Named, WAIT},
    router::Admin,
};
use crate::{
    control::{
        change::{Change, Effect, Kind},
        command::{Command, PinsOnChange},
    },
    model::{name::Name, weights::Weights},
};

/// How often a wait looks whether the requests in flight have ended.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The answer to a change.
#[derive(Debug, Serialize, JsonSchema)]
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
    /// What a dry run would change.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Vec<Difference>>,
}

/// `PUT /v1/splits/{split}/weights`.
pub async fn weights(Named(split): Named, mut call: Call<false>) -> Result<Done<Answer>, Problem> {
    let mut set = call.body()?;
    // A pool may be called "pins", too: its weight is a number.
    let pins = pins(set.take_text("pins"))?;
    let weights = set.weights()?;
    answer(call.make(Command::SetWeights { split, weights, pins }).await?).await
}

/// `PATCH /v1/splits/{split}`: a pool whose weight is `null` gets 0, as one that a whole set does not name.
pub async fn patch(Named(split): Named, Patch(mut call): Patch) -> Result<Done<Answer>, Problem> {
    let [weights, kept] = call.body()?.members(["weights", "pins"])?;
    let pins = pins(kept)?;
    let weights = match weights {
        None => Vec::new(),
        Some(Value::Object(members)) => patched(members)?,
        Some(other) => return wrong("/weights", format!("{} is not an object of weights", short(&other))),
    };
    answer(call.make(Command::MergeWeights { split, weights, pins }).await?).await
}

/// The weights in a merge patch.
fn patched(members: serde_json::Map<String, Value>) -> Result<Vec<(String, u64)>, Problem> {
    let mut faults = Vec::new();
    let mut weights = Vec::with_capacity(members.len().min(Weights::MAX_POOLS));
    for (pool, value) in members {
        match if value.is_null() { Some(0) } else { value.as_u64() } {
            Some(weight) => weights.push((pool, weight)),
            None => {
                let detail = format!("the weight {} is not a whole number", short(&value));
                let pointer = format!("/weights{}", pointer_to(&pool));
                faults.push(Fault::at(pointer, detail).allowing([WEIGHTS_ALLOWED]));
            }
        }
    }
    refuse_any(faults)?;
    Ok(weights)
}

/// `POST /v1/splits/{split}/switch`.
pub async fn switch(Named(split): Named, mut call: Call<true>) -> Result<Done<Answer>, Problem> {
    let [to, kept] = call.body()?.members(["to", "pins"])?;
    let pins = pins(kept)?;
    let to = match to {
        Some(Value::String(pool)) => pool,
        Some(other) => return wrong("/to", format!("{} is not the name of a pool", short(&other))),
        None => return wrong("/to", "the pool to switch to is missing".into()),
    };
    answer(call.make(Command::Switch { split, to, pins }).await?).await
}

/// `POST /v1/splits/{split}/rollback`; its body may be empty.
pub async fn rollback(Named(split): Named, mut call: Call<false>) -> Result<Done<Answer>, Problem> {
    let [revision, kept] = call.optional_body().members(["revision", "pins"])?;
    let pins = pins(kept)?;
    let to_revision = match &revision {
        None => None,
        Some(number) => match number.as_u64() {
            Some(number) => Some(number),
            None => return wrong("/revision", format!("{} is not the number of a revision", short(number))),
        },
    };
    answer(call.make(Command::Rollback { split, to_revision, pins }).await?).await
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

pub(super) fn wrong<T>(pointer: &str, detail: String) -> Result<T, Problem> {
    refuse_any(vec![Fault::at(pointer, detail)]).map(|()| unreachable!("there is a fault"))
}

/// Says what a change did, and waits first where that was asked for.
async fn answer(made: Made) -> Result<Done<Answer>, Problem> {
    let Change { revision, kind, at, .. } = made.change;
    let changed = made.change.changed();
    let Effect::Weights { split, before, after, pins, released } = made.change.effect() else {
        unreachable!("these commands are about a split's weights")
    };
    let in_flight = match made.wait {
        Some(timeout) => Some(drained(&made.admin, split, after, timeout.unwrap_or(WAIT)).await),
        None => None,
    };
    Ok(made.done(Answer {
        revision,
        changed,
        dry_run: made.dry_run,
        kind,
        split: split.clone(),
        weights: after.clone(),
        previous: before.clone(),
        pins: *pins,
        released: released.clone(),
        at: humantime::format_rfc3339_millis(at).to_string(),
        drained: in_flight.as_ref().map(|left| left.values().all(|in_flight| *in_flight == 0)),
        in_flight,
        diff: made.diff(),
    }))
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
            let name = &pool.settings.name;
            let here: u64 = pool.endpoints.iter().map(|(endpoint, _)| endpoint.occupancy.in_flight()).sum();
            (name.clone(), here + admin.succession.in_flight(name, None))
        })
        .collect()
}
