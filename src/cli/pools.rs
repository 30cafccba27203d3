//! The commands that drain, add and remove endpoints, and drain pools.

use std::time::Duration;

use hyper::Method;
use serde_json::{Map, Value, json};

use super::{
    Failure,
    arguments::pools::{Drain, Endpoint, Terms, Undrain, Wait},
    calls::encode,
    client::{self, Change, Client},
    output, progress,
};
use crate::admin::MAX_WAIT;

/// `drain`.
pub fn drain(client: &Client, drain: Drain) -> Result<(), Failure> {
    let Drain { pool, address, terms, pins, wait, intent, connection: _ } = drain;
    let mut body = body(terms);
    if let Some(pins) = pins {
        body.insert("pins".into(), json!(pins.name()));
    }
    let path = format!("{}/drain{}", path(&pool, address.as_deref()), query(&wait));
    let change = Change::new(Method::POST, path, self::path(&pool, None), &intent);
    let change = Change { body: Some(Value::Object(body)), within: within(&wait), ..change };
    print(client, &watched(client, &change, address.as_deref(), wait.wait)?)
}

/// `undrain`.
pub fn undrain(client: &Client, undrain: &Undrain) -> Result<(), Failure> {
    let Undrain { pool, address, intent, connection: _ } = undrain;
    let path = format!("{}/undrain", path(pool, address.as_deref()));
    print(client, &client.change(&Change::new(Method::POST, path, self::path(pool, None), intent))?)
}

/// `endpoint`.
pub fn endpoint(client: &Client, endpoint: Endpoint) -> Result<(), Failure> {
    match endpoint {
        Endpoint::Set { pool, address, weight, intent, connection: _ } => {
            let change = Change::new(Method::PUT, path(&pool, Some(&address)), path(&pool, None), &intent);
            print(client, &client.change(&Change { body: Some(json!({ "weight": weight })), ..change })?)
        }
        Endpoint::Remove { pool, address, terms, wait, intent, connection: _ } => {
            let path = format!("{}{}", path(&pool, Some(&address)), query(&wait));
            let change = Change::new(Method::DELETE, path, self::path(&pool, None), &intent);
            let body = Some(Value::Object(body(terms)));
            let change = Change { body, within: within(&wait), ..change };
            print(client, &watched(client, &change, Some(&address), wait.wait)?)
        }
    }
}

fn path(pool: &str, address: Option<&str>) -> String {
    let pool = encode(pool);
    match address {
        None => format!("/v1/pools/{pool}"),
        Some(address) => format!("/v1/pools/{pool}/endpoints/{}", encode(address)),
    }
}

fn body(terms: Terms) -> Map<String, Value> {
    let terms = [("deadline", terms.deadline), ("stream_deadline", terms.stream_deadline)];
    terms.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))).collect()
}

fn query(wait: &Wait) -> String {
    if !wait.wait {
        return String::new();
    }
    let timeout = wait.timeout.map(|timeout| format!("&timeout={}ms", timeout.as_millis()));
    format!("?wait=drained{}", timeout.unwrap_or_default())
}

/// How long the answer may take.
fn within(wait: &Wait) -> Duration {
    client::within(wait.wait.then(|| wait.timeout.unwrap_or(MAX_WAIT)))
}

/// Makes a change, and shows meanwhile what is left in flight.
fn watched(
    client: &Client,
    change: &Change<'_>,
    address: Option<&str>,
    waits: bool,
) -> Result<Value, Failure> {
    let look = |_| Some(output::pool_progress(&client.glance(&change.object)?, address));
    progress::during(client, waits, look, || client.change(change))
}

/// Prints what a change did; one that was to drain and did not is a failure.
fn print(client: &Client, change: &Value) -> Result<(), Failure> {
    client.expect(change["revision"].is_u64() && change["pool"].is_string())?;
    output::print(client.json, change, output::pool_change)?;
    if change["drained"] == json!(false) {
        return Err(Failure::Failed(format!(
            "the drain is in force, but {} requests are still in flight, {} of them streams",
            change["in_flight"], change["streams"]
        )));
    }
    Ok(())
}
