//! What people and scripts are shown.
//!
//! Results go to the standard output, complaints to the standard error. Text that came from an instance is shown
//! without control characters: a name in an answer must not be able to move the cursor of a terminal.

use std::{
    fmt::Write as _,
    io::{ErrorKind, Write, stderr, stdout},
};

use serde_json::{Value, json};

use super::Failure;
use crate::config::Warning;

/// Prints an answer as JSON or as `human` words it.
pub fn print(as_json: bool, answer: &Value, human: impl Fn(&Value) -> String) -> Result<(), Failure> {
    text_as_it_is(&if as_json { format!("{answer:#}\n") } else { harmless(&human(answer)) })
}

/// Prints a text that this process has made.
pub fn text_as_it_is(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that went away (`| head`) has seen what it wanted.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("the answer could not be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Says what may surprise about a file.
pub fn warn(warnings: &[Warning]) {
    for warning in warnings {
        let _ = writeln!(stderr(), "{warning}");
    }
}

/// Says why a command failed.
pub fn complain(failure: &Failure, as_json: bool) {
    let text = if as_json {
        let document = match failure {
            Failure::Refused { problem, .. } => problem.clone(),
            Failure::File(errors) => json!({ "errors": errors.errors(), "omitted": errors.omitted() }),
            other => json!({ "detail": other.to_string() }),
        };
        format!("{document:#}\n")
    } else {
        format!("{}\n", harmless(failure.to_string().trim_end()))
    };
    let _ = stderr().write_all(text.as_bytes());
}

/// A change, in words.
pub fn change(answer: &Value) -> String {
    let split = text(&answer["split"]);
    let mut words = match (answer["changed"] == json!(true), answer["dry_run"] == json!(true)) {
        (true, false) => {
            format!(
                "{split}: {} (was {}), revision {}\n",
                pairs(&answer["weights"]),
                pairs(&answer["previous"]),
                answer["revision"]
            )
        }
        (true, true) => {
            format!("{split} would be {} (is {})\n", pairs(&answer["weights"]), pairs(&answer["previous"]))
        }
        (false, _) => format!("{split}: nothing to change, it is at {}\n", pairs(&answer["weights"])),
    };
    let released: Vec<_> = list(&answer["released"]).map(text).collect();
    if !released.is_empty() {
        let were = if answer["dry_run"] == json!(true) { "would be" } else { "were" };
        let _ = writeln!(words, "pins to {} {were} released", released.join(", "));
    }
    if answer["drained"] == json!(true) {
        words.push_str("nothing is in flight on the other pools\n");
    }
    words
}

/// `blue=90 green=10`.
pub fn pairs(object: &Value) -> String {
    let members = object.as_object().into_iter().flatten();
    members.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// A refusal, in words.
pub fn problem(status: u16, problem: &Value) -> String {
    let mut words = match problem["detail"].as_str() {
        Some(detail) => detail.to_owned(),
        None => format!("the instance answered with status {status}"),
    };
    let mut listed: Vec<&Value> = Vec::new();
    for error in problem["errors"].as_array().into_iter().flatten() {
        // Two wrong pools have the same right ones.
        if let Some(allowed) = error["allowed"].as_array()
            && !listed.contains(&&error["allowed"])
        {
            listed.push(&error["allowed"]);
            let allowed: Vec<_> = allowed.iter().map(text).collect();
            let _ = write!(words, "\n  allowed: {}", allowed.join(", "));
        }
    }
    if status == 401 {
        words.push_str("\n(--token or SWITCHBACK_TOKEN says which token is shown)");
    }
    words
}

/// What `explain` answers, in words.
pub fn explanation(answer: &Value) -> String {
    let mut rows = Vec::new();
    for part in ["outcome", "status", "route", "split", "pool", "endpoint", "target", "location"] {
        if !answer[part].is_null() {
            rows.push(vec![part.to_owned(), text(&answer[part])]);
        }
    }
    let mut words = table(&[], &rows);
    for (number, step) in answer["steps"].as_array().into_iter().flatten().enumerate() {
        let _ = writeln!(words, "{:>3}. {}", number + 1, text(step));
    }
    words
}

/// The whole picture, in tables.
pub fn status(status: &Value) -> String {
    let mut words = format!(
        "Switchback {}, {}, up {:.0} s, generation {}, revision {}{}\n",
        text(&status["version"]),
        text(&status["phase"]),
        status["uptime_seconds"].as_f64().unwrap_or_default(),
        status["generation"],
        status["revision"],
        if status["durable"] == json!(true) {
            ""
        } else {
            " (changes end with the process: name a [state] path)"
        },
    );
    let predecessor = &status["process"]["predecessor"];
    if predecessor.is_object() {
        let _ = writeln!(
            words,
            "process {} has taken the place of process {}, which drains: {} connections are left there",
            status["process"]["pid"], predecessor["pid"], predecessor["connections"],
        );
    }
    words.push('\n');
    words.push_str(&splits(&status["splits"]));
    words.push_str(&sessions(&status["splits"]));
    words.push('\n');
    words.push_str(&endpoints(&status["pools"]));
    words.push('\n');
    words.push_str(&routes(&status["routes"]));
    words
}

fn splits(splits: &Value) -> String {
    let mut rows = Vec::new();
    for split in list(splits) {
        for (pool, weight) in split["weights"].as_object().into_iter().flatten() {
            rows.push(vec![
                text(&split["name"]),
                pool.clone(),
                weight.to_string(),
                format!("{:.1} %", split["share"][pool].as_f64().unwrap_or_default() * 100.0),
                split["requests"][pool].to_string(),
                split["in_flight"][pool].to_string(),
            ]);
        }
    }
    table(&["SPLIT", "POOL", "WEIGHT", "REALISED", "REQUESTS", "IN FLIGHT"], &rows)
}

/// The pins of sticky splits; nothing if there is none.
fn sessions(splits: &Value) -> String {
    let mut rows = Vec::new();
    for split in list(splits) {
        for (pool, pins) in split["sticky"]["pools"].as_object().into_iter().flatten() {
            rows.push(vec![
                text(&split["name"]),
                pool.clone(),
                format!("~{}", pins["sessions"]["estimate"]),
                pins["pinned"].to_string(),
                pins["issued"]["new"].to_string(),
                pins["issued"]["moved"].to_string(),
            ]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let head = ["SPLIT", "POOL", "SESSIONS", "PINNED REQUESTS", "NEW PINS", "MOVED HERE"];
    format!("\n{}", table(&head, &rows))
}

fn endpoints(pools: &Value) -> String {
    let mut rows = Vec::new();
    for pool in list(pools) {
        for endpoint in list(&pool["endpoints"]) {
            rows.push(vec![
                text(&pool["name"]),
                text(&endpoint["address"]),
                state(endpoint),
                endpoint["in_flight"].to_string(),
                endpoint["requests"]["total"].to_string(),
                endpoint["requests"]["5xx"].to_string(),
            ]);
        }
        if pool["endpoints"].as_array().is_some_and(Vec::is_empty) {
            rows.push([&text(&pool["name"]), "(none)", "", "", "", ""].map(str::to_owned).to_vec());
        }
    }
    table(&["POOL", "ENDPOINT", "STATE", "IN FLIGHT", "REQUESTS", "5XX"], &rows)
}

/// The state of an endpoint in a word; of one that drains also what its probes say: whether it can come back.
fn state(endpoint: &Value) -> String {
    match (endpoint["state"].as_str(), endpoint["health"]["state"].as_str()) {
        (Some("draining"), Some(health)) => format!("draining, {health}"),
        _ => text(&endpoint["state"]),
    }
}

fn routes(routes: &Value) -> String {
    let rows: Vec<_> = list(routes)
        .map(|route| {
            let target = match (&route["split"], &route["pool"]) {
                (Value::String(split), _) => format!("split {split}"),
                (_, Value::String(pool)) => format!("pool {pool}"),
                _ => "redirect".to_owned(),
            };
            vec![text(&route["name"]), target, route["requests"]["total"].to_string()]
        })
        .collect();
    table(&["ROUTE", "TARGET", "REQUESTS"], &rows)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A value without the quotes of a text.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Columns as wide as their widest cell.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let lines = || std::iter::once(&head).filter(|head| !head.is_empty()).chain(rows);
    let columns = lines().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines() {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

fn harmless(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() && character != '\n' { '\u{fffd}' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_said_in_one_line() {
        let mut answer = json!({
            "split": "shop", "changed": true, "dry_run": false, "revision": 3,
            "weights": {"blue": 90, "green": 10}, "previous": {"blue": 95, "green": 5},
        });
        assert_eq!(change(&answer), "shop: blue=90 green=10 (was blue=95 green=5), revision 3\n");
        answer["dry_run"] = json!(true);
        assert_eq!(change(&answer), "shop would be blue=90 green=10 (is blue=95 green=5)\n");
        answer["changed"] = json!(false);
        assert_eq!(change(&answer), "shop: nothing to change, it is at blue=90 green=10\n");
    }

    #[test]
    fn of_what_drains_its_health_is_said_too() {
        let of = |state: &str, health: Value| super::state(&json!({"state": state, "health": health}));
        assert_eq!(of("draining", json!({"state": "unhealthy"})), "draining, unhealthy");
        assert_eq!(of("draining", Value::Null), "draining");
        assert_eq!(of("available", json!({"state": "healthy"})), "available");
    }

    #[test]
    fn columns_are_aligned_and_control_characters_are_not_passed_on() {
        let rows = [vec!["a".to_owned(), "bcd".to_owned()], vec!["efgh".to_owned(), "i".to_owned()]];
        assert_eq!(table(&["X", "Y"], &rows), "X     Y\na     bcd\nefgh  i\n");
        assert_eq!(harmless("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\n");
    }
}
