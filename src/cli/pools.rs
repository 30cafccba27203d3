//! The commands that drain, add and remove endpoints, and drain pools.

use std::{
    io::{IsTerminal, Write as _, stderr},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use hyper::Method;
use serde_json::{Map, Value, json};

use super::{
    Failure,
    arguments::{Connection, DryRun},
    calls::{encode, expect_shape, expect_success, get, send},
    client::{ANSWER_WITHIN, Answer},
    output,
    pool_arguments::{Drain, Endpoint, Terms, Undrain, Wait},
    pool_output,
};
use crate::admin::MAX_WAIT;

/// How often the progress of a drain is shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// `drain`.
pub fn drain(drain: Drain) -> Result<(), Failure> {
    let Drain { pool, address, terms, pins, wait, dry_run, connection } = drain;
    let mut body = body(terms);
    if let Some(pins) = pins {
        body.insert("pins".into(), json!(pins.name()));
    }
    let path = format!("{}/drain{}", path(&pool, address.as_deref()), query(&dry_run, &wait));
    let call = || send(&connection, Method::POST, &path, Some(Value::Object(body)), within(&wait));
    let answer = watched(&connection, &pool, address.as_deref(), wait.wait, call)?;
    print_change(&connection, answer)
}

/// `undrain`.
pub fn undrain(undrain: Undrain) -> Result<(), Failure> {
    let Undrain { pool, address, dry_run, connection } = undrain;
    let path = format!("{}/undrain{}", path(&pool, address.as_deref()), query(&dry_run, &Wait::NOT));
    print_change(&connection, send(&connection, Method::POST, &path, None, ANSWER_WITHIN)?)
}

/// `endpoint`.
pub fn endpoint(endpoint: Endpoint) -> Result<(), Failure> {
    match endpoint {
        Endpoint::Set { pool, address, weight, dry_run, connection } => {
            let path = format!("{}{}", path(&pool, Some(&address)), query(&dry_run, &Wait::NOT));
            let body = json!({ "weight": weight });
            print_change(&connection, send(&connection, Method::PUT, &path, Some(body), ANSWER_WITHIN)?)
        }
        Endpoint::Remove { pool, address, terms, wait, dry_run, connection } => {
            let path = format!("{}{}", path(&pool, Some(&address)), query(&dry_run, &wait));
            let body = Value::Object(body(terms));
            let call = || send(&connection, Method::DELETE, &path, Some(body), within(&wait));
            let answer = watched(&connection, &pool, Some(&address), wait.wait, call)?;
            print_change(&connection, answer)
        }
    }
}

impl Wait {
    const NOT: Self = Self { wait: false, timeout: None };
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

fn query(dry_run: &DryRun, wait: &Wait) -> String {
    let dry_run = dry_run.dry_run.then(|| "dry_run=true".to_owned());
    let wait_for = wait.wait.then(|| "wait=drained".to_owned());
    let timeout = wait.timeout.map(|timeout| format!("timeout={}ms", timeout.as_millis()));
    let parameters: Vec<_> = [dry_run, wait_for, timeout].into_iter().flatten().collect();
    if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) }
}

fn within(wait: &Wait) -> Duration {
    ANSWER_WITHIN + if wait.wait { wait.timeout.unwrap_or(MAX_WAIT) } else { Duration::ZERO }
}

/// Makes a call, and shows meanwhile what is left, if it waits and a person looks on.
fn watched(
    connection: &Connection,
    pool: &str,
    address: Option<&str>,
    waits: bool,
    call: impl FnOnce() -> Result<Answer, Failure>,
) -> Result<Answer, Failure> {
    if !waits || connection.form.json || !stderr().is_terminal() {
        return call();
    }
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        scope.spawn(move || {
            let mut shown = false;
            while is_done.recv_timeout(SHOW_EVERY) == Err(RecvTimeoutError::Timeout) {
                let path = format!("/v1/pools/{}", encode(pool));
                if let Ok(answer) = get(connection, &path, ANSWER_WITHIN)
                    && answer.status == 200
                {
                    // To the line's start, and erase what stands on it.
                    let _ = write!(stderr(), "\r\x1b[K{}", pool_output::progress(&answer.body, address));
                    shown = true;
                }
            }
            if shown {
                let _ = write!(stderr(), "\r\x1b[K");
            }
        });
        let answer = call();
        drop(done);
        answer
    })
}

/// Prints what a change did; one that was to drain and did not is a failure.
fn print_change(connection: &Connection, answer: Answer) -> Result<(), Failure> {
    let change = expect_success(answer)?;
    expect_shape(connection, change["revision"].is_u64() && change["pool"].is_string())?;
    output::print(connection.form.json, &change, pool_output::pool_change)?;
    if change["drained"] == json!(false) {
        return Err(Failure::Failed(format!(
            "the drain is in force, but {} requests are still in flight, {} of them streams",
            change["in_flight"], change["streams"]
        )));
    }
    Ok(())
}
