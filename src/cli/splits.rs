//! The commands that move traffic between the pools of a split.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::{
    Failure,
    arguments::splits::{Rollback, Switch, Weights},
    calls::encode,
    client::{Change, Client, within},
    output, progress,
};

/// `weights`.
pub fn weights(client: &Client, weights: Weights) -> Result<(), Failure> {
    let Weights { split, weights, pins, intent, connection: _ } = weights;
    let split = path(&split);
    let change = Change::new(Method::PUT, format!("{split}/weights"), split, &intent);
    print(client, &client.change(&Change { body: Some(set(weights, pins)?), ..change })?)
}

/// `switch`.
pub fn switch(client: &Client, switch: &Switch) -> Result<(), Failure> {
    let Switch { split, pool, wait, timeout, pins, intent, connection: _ } = switch;
    let split = path(split);
    let mut body = json!({ "to": pool });
    if let Some(pins) = pins {
        body["pins"] = json!(pins);
    }
    let wait = wait.then_some(*timeout);
    let query =
        wait.map_or_else(String::new, |limit| format!("?wait=drained&timeout={}ms", limit.as_millis()));
    let change = Change::new(Method::POST, format!("{split}/switch{query}"), split.clone(), intent);
    let change = Change { body: Some(body), within: within(wait), ..change };
    let look = |waited| {
        // What is waited for is what is in flight on those pools by whichever route it came.
        let seen = client.glance(&split)?;
        let others = seen["weights"].as_object()?.keys().filter(|other| *other != pool);
        let pools = others.map(|other| client.glance(&format!("/v1/pools/{}", encode(other))));
        Some(output::split_progress(&pools.collect::<Option<Vec<_>>>()?, waited))
    };
    let answer = progress::during(client, wait.is_some(), look, || client.change(&change))?;
    print(client, &answer)
}

/// `rollback`.
pub fn rollback(client: &Client, rollback: &Rollback) -> Result<(), Failure> {
    let Rollback { split, to_revision, pins, intent, connection: _ } = rollback;
    let split = path(split);
    let revision = to_revision.map(|revision| ("revision".to_owned(), json!(revision)));
    let pins = pins.as_ref().map(|pins| ("pins".to_owned(), json!(pins)));
    let body: Map<_, _> = revision.into_iter().chain(pins).collect();
    let body = (!body.is_empty()).then_some(Value::Object(body));
    let change = Change::new(Method::POST, format!("{split}/rollback"), split, intent);
    print(client, &client.change(&Change { body, ..change })?)
}

fn path(split: &str) -> String {
    format!("/v1/splits/{}", encode(split))
}

/// Prints what a change did; one that was to drain and did not is a failure.
fn print(client: &Client, change: &Value) -> Result<(), Failure> {
    client.expect(change["revision"].is_u64() && change["weights"].is_object())?;
    output::print(client.json, change, output::change)?;
    if change["drained"] == json!(false) {
        return Err(Failure::Failed(format!(
            "the switch is in force, but requests are still in flight: {}",
            output::pairs(&change["in_flight"])
        )));
    }
    Ok(())
}

/// The body of a whole set of weights.
fn set(weights: Vec<(String, u64)>, pins: Option<String>) -> Result<Value, Failure> {
    let mut set = Map::new();
    for (pool, weight) in weights {
        if set.insert(pool.clone(), json!(weight)).is_some() {
            return Err(Failure::Usage(format!("pool {pool:?} is named twice")));
        }
    }
    // JSON that names a member twice is refused, and which of the two was meant could not be told.
    match pins {
        Some(_) if set.contains_key("pins") => Err(Failure::Usage(
            "a pool is called pins: say what becomes of pins through the admin API".into(),
        )),
        Some(pins) => {
            set.insert("pins".into(), json!(pins));
            Ok(Value::Object(set))
        }
        None => Ok(Value::Object(set)),
    }
}
