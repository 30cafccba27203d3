//! The commands that call a running instance.

use std::{fmt::Write, time::Duration};

use hyper::Method;
use serde_json::{Map, Value, json};

use super::{
    Failure,
    arguments::{self, Connection, DryRun},
    client::{self, ANSWER_WITHIN, Answer},
    files, output, pools, upgrade,
};

/// Makes a call and prints its answer.
pub fn call(call: arguments::Call) -> Result<(), Failure> {
    match call {
        arguments::Call::Status { connection } => {
            let status = expect_success(get(&connection, "/v1/status", ANSWER_WITHIN)?)?;
            expect_shape(&connection, status["generation"].is_u64() && status["splits"].is_array())?;
            output::print(connection.form.json, &status, output::status)
        }
        arguments::Call::Weights { split, weights, pins, dry_run, connection } => {
            let path = format!("/v1/splits/{}/weights{}", encode(&split), query(&dry_run, None));
            print_change(
                &connection,
                send(&connection, Method::PUT, &path, Some(set(weights, pins)?), ANSWER_WITHIN)?,
            )
        }
        arguments::Call::Switch { split, pool, wait, timeout, pins, dry_run, connection } => {
            let wait = wait.then_some(timeout);
            let path = format!("/v1/splits/{}/switch{}", encode(&split), query(&dry_run, wait));
            let mut body = json!({ "to": pool });
            if let Some(pins) = pins {
                body["pins"] = json!(pins);
            }
            let within = ANSWER_WITHIN + wait.unwrap_or_default();
            print_change(&connection, send(&connection, Method::POST, &path, Some(body), within)?)
        }
        arguments::Call::Rollback { split, to_revision, pins, dry_run, connection } => {
            let path = format!("/v1/splits/{}/rollback{}", encode(&split), query(&dry_run, None));
            let revision = to_revision.map(|revision| ("revision".to_owned(), json!(revision)));
            let pins = pins.map(|pins| ("pins".to_owned(), json!(pins)));
            let body: Map<_, _> = revision.into_iter().chain(pins).collect();
            let body = (!body.is_empty()).then_some(Value::Object(body));
            print_change(&connection, send(&connection, Method::POST, &path, body, ANSWER_WITHIN)?)
        }
        arguments::Call::Explain { url, headers, method, connection } => {
            let body = imagined(&url, headers, &method)?;
            let answer = send(&connection, Method::POST, "/v1/explain", Some(body), ANSWER_WITHIN)?;
            let explanation = expect_success(answer)?;
            expect_shape(&connection, explanation["outcome"].is_string())?;
            output::print(connection.form.json, &explanation, output::explanation)
        }
        arguments::Call::Drain(drain) => pools::drain(drain),
        arguments::Call::Undrain(undrain) => pools::undrain(undrain),
        arguments::Call::Endpoint(endpoint) => pools::endpoint(endpoint),
        arguments::Call::Upgrade(upgrade) => upgrade::upgrade(upgrade),
        arguments::Call::Config(config) => files::config(config),
        arguments::Call::Apply(apply) => files::apply(apply),
        arguments::Call::Drift { exit_code, connection } => files::drift(&connection, exit_code),
        arguments::Call::Health { live, timeout, connection } => health(&connection, live, timeout),
    }
}

fn health(connection: &Connection, live: bool, within: Duration) -> Result<(), Failure> {
    let (path, member) = if live { ("/livez", "alive") } else { ("/readyz", "ready") };
    let answer = get(connection, path, within)?;
    let well = answer.status == 200;
    expect_shape(connection, answer.body[member] == json!(well))?;
    output::print(connection.form.json, &answer.body, |_| {
        format!("{}\n", if well { "ok" } else { "not ok" })
    })?;
    match (well, live) {
        (true, _) => Ok(()),
        (false, true) => Err(Failure::Failed("the instance does not work".into())),
        (false, false) => Err(Failure::Failed("the instance is not ready".into())),
    }
}

/// Prints what a change did; one that was to drain and did not is a failure.
fn print_change(connection: &Connection, answer: Answer) -> Result<(), Failure> {
    let change = expect_success(answer)?;
    expect_shape(connection, change["revision"].is_u64() && change["weights"].is_object())?;
    output::print(connection.form.json, &change, output::change)?;
    if change["drained"] == json!(false) {
        return Err(Failure::Failed(format!(
            "the switch is in force, but requests are still in flight: {}",
            output::pairs(&change["in_flight"])
        )));
    }
    Ok(())
}

pub fn get(connection: &Connection, path: &str, within: Duration) -> Result<Answer, Failure> {
    send(connection, Method::GET, path, None, within)
}

pub fn send(
    connection: &Connection,
    method: Method,
    path: &str,
    body: Option<Value>,
    within: Duration,
) -> Result<Answer, Failure> {
    client::send(connection, client::Call { method, path, body, within })
}

/// Refuses the answer of something else that speaks JSON at this address.
pub fn expect_shape(connection: &Connection, is_ours: bool) -> Result<(), Failure> {
    if is_ours {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "what answers at {} is not the admin API of a Switchback of this version\n\
         (--admin or SWITCHBACK_ADMIN says where its admin API is)",
        connection.admin
    )))
}

/// The body of a success; a refusal becomes a failure that says all of it.
pub fn expect_success(answer: Answer) -> Result<Value, Failure> {
    if (200..300).contains(&answer.status) {
        return Ok(answer.body);
    }
    Err(Failure::Refused { words: output::problem(answer.status, &answer.body), problem: answer.body })
}

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

fn query(dry_run: &DryRun, wait: Option<Duration>) -> String {
    let mut parameters = Vec::new();
    if dry_run.dry_run {
        parameters.push("dry_run=true".to_owned());
    }
    if let Some(limit) = wait {
        parameters.push(format!("wait=drained&timeout={}ms", limit.as_millis()));
    }
    if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) }
}

/// What `explain` is asked about.
fn imagined(url: &str, headers: Vec<(String, String)>, method: &str) -> Result<Value, Failure> {
    let wrong = || Failure::Usage(format!("{url:?} is not a URL such as http://shop.example.com/cart"));
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let scheme = scheme.to_ascii_lowercase();
    let rest = rest.split('#').next().unwrap_or_default();
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    if host.is_empty() {
        return Err(wrong());
    }
    if host.contains('@') {
        return Err(Failure::Usage(
            "the URL holds a user name: clients send it as a field, so write it as -H 'Authorization: Basic ...'".into(),
        ));
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut fields = Map::new();
    for (name, value) in headers {
        let lines = fields.entry(name.to_ascii_lowercase()).or_insert_with(|| json!([]));
        lines.as_array_mut().expect("each was made a list above").push(json!(value));
    }
    // A Host header takes the place of the URL's host, as it does for curl; a second one is left to be refused.
    let host = match fields.remove("host") {
        Some(Value::Array(mut lines)) if lines.len() == 1 => lines.remove(0),
        Some(several) => {
            fields.insert("host".into(), several);
            json!(host)
        }
        None => json!(host),
    };
    Ok(json!({ "method": method, "scheme": scheme, "host": host, "path": path, "headers": fields }))
}

/// A name as one segment of a path.
pub fn encode(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'~')
            || (byte == b'.' && name.len() > 2)
        {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String can't fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_as_a_client_would() {
        let of = |url: &str| {
            let body =
                imagined(url, vec![("A".into(), "1".into()), ("a".into(), "2".into())], "GET").unwrap();
            assert_eq!(body["headers"], json!({"a": ["1", "2"]}));
            [&body["scheme"], &body["host"], &body["path"]].map(|part| part.as_str().unwrap().to_owned())
        };
        assert_eq!(of("http://a.b:80/c?d#e"), ["http", "a.b:80", "/c?d"]);
        assert_eq!(of("HTTPS://a.b"), ["https", "a.b", "/"]);
        assert!(imagined("https://u:p@a.b/", Vec::new(), "GET").is_err());
        assert_eq!(of("http://a.b?c"), ["http", "a.b", "/?c"]);
        assert!(imagined("/x", Vec::new(), "GET").is_err());
        let named = imagined("http://1.2.3.4/", vec![("Host".into(), "a.b".into())], "GET").unwrap();
        assert_eq!(named["host"], json!("a.b"));
    }

    #[test]
    fn a_name_can_t_leave_its_segment() {
        assert_eq!(encode("shop_eu-1.2"), "shop_eu-1.2");
        assert_eq!(encode("../a?b"), "..%2Fa%3Fb");
        assert_eq!(encode(".."), "%2E%2E");
    }
}
