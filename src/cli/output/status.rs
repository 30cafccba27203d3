//! What people are shown of the whole picture, and of where a request would go.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    list,
    table::{Cell, Tone, table},
    text,
};

/// What `explain` answers, in words.
pub fn explanation(answer: &Value) -> String {
    let mut rows = Vec::new();
    for part in ["outcome", "status", "route", "split", "pool", "endpoint", "target", "location"] {
        if !answer[part].is_null() {
            rows.push(vec![Cell::from(part), text(&answer[part]).into()]);
        }
    }
    let mut words = table(&[], &rows);
    for (number, step) in list(&answer["steps"]).enumerate() {
        let _ = writeln!(words, "{:>3}. {}", number + 1, text(step));
    }
    words
}

/// The whole picture, in tables.
pub fn status(status: &Value) -> String {
    let mut words = format!(
        "Switchback {}, {}, up {:.0} s, generation {}, revision {}{}\n",
        text(&status["version"]),
        phase(&status["phase"]),
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
    words.push_str(&refused_file(&status["file"]));
    words.push('\n');
    words.push_str(&splits(&status["splits"]));
    words.push_str(&sessions(&status["splits"]));
    words.push('\n');
    words.push_str(&endpoints(&status["pools"]));
    words.push('\n');
    words.push_str(&routes(&status["routes"]));
    words
}

/// Why what is on disk is not in force; nothing if it is.
fn refused_file(file: &Value) -> String {
    let error = &file["error"];
    if error.is_null() {
        return String::new();
    }
    let refused = Tone::Bad.of("refused");
    let (path, since) = (text(&file["path"]), text(&error["since"]));
    let mut words =
        format!("the file {path} is {refused} since {since}; what was in force before still is:\n");
    for line in text(&error["detail"]).lines() {
        let _ = writeln!(words, "  {line}");
    }
    words
}

/// Where the process stands; one that is not ready is seen at once.
fn phase(phase: &Value) -> String {
    let tone = if *phase == json!("ready") { Tone::Good } else { Tone::Passing };
    tone.of(&text(phase))
}

fn splits(splits: &Value) -> String {
    let mut rows = Vec::new();
    for split in list(splits) {
        for (pool, weight) in split["weights"].as_object().into_iter().flatten() {
            rows.push(vec![
                Cell::from(text(&split["name"])),
                pool.into(),
                weight.to_string().into(),
                format!("{:.1} %", split["share"][pool].as_f64().unwrap_or_default() * 100.0).into(),
                split["requests"][pool].to_string().into(),
                split["in_flight"][pool].to_string().into(),
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
                Cell::from(text(&split["name"])),
                pool.into(),
                format!("~{}", pins["sessions"]["estimate"]).into(),
                pins["pinned"].to_string().into(),
                pins["issued"]["new"].to_string().into(),
                pins["issued"]["moved"].to_string().into(),
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
                Cell::from(text(&pool["name"])),
                text(&endpoint["address"]).into(),
                state(endpoint),
                endpoint["in_flight"].to_string().into(),
                endpoint["requests"]["total"].to_string().into(),
                endpoint["requests"]["5xx"].to_string().into(),
            ]);
        }
        if pool["endpoints"].as_array().is_some_and(Vec::is_empty) {
            rows.push(vec![text(&pool["name"]).into(), "(none)".into()]);
        }
    }
    table(&["POOL", "ENDPOINT", "STATE", "IN FLIGHT", "REQUESTS", "5XX"], &rows)
}

/// The state of an endpoint in a word; of one that drains also what its probes say: whether it can come back.
fn state(endpoint: &Value) -> Cell {
    let state = text(&endpoint["state"]);
    match (state.as_str(), endpoint["health"]["state"].as_str()) {
        ("draining", Some(health)) => Cell::new(format!("draining, {health}"), Tone::Passing),
        ("draining", None) => Cell::new(state, Tone::Passing),
        ("available", _) => Cell::new(state, Tone::Good),
        _ => Cell::new(state, Tone::Bad),
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
            vec![text(&route["name"]).into(), target.into(), route["requests"]["total"].to_string().into()]
        })
        .collect();
    table(&["ROUTE", "TARGET", "REQUESTS"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_refused_is_seen_and_a_good_one_takes_no_line() {
        let mut file = json!({"path": "/etc/sb.toml", "error": null});
        assert_eq!(refused_file(&file), "");
        file["error"] = json!({"since": "2026-01-01T00:00:00Z", "detail": "one thing\nanother"});
        let said = anstream::adapter::strip_str(&status(&json!({"file": file}))).to_string();
        let expected = "the file /etc/sb.toml is refused since 2026-01-01T00:00:00Z; what was in force before still is:\n  \
                        one thing\n  another\n";
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn of_what_drains_its_health_is_said_too() {
        let of = |state: &str, health: Value| {
            let cell = super::state(&json!({"state": state, "health": health}));
            anstream::adapter::strip_str(&table(&[], &[vec![cell]])).to_string()
        };
        assert_eq!(of("draining", json!({"state": "unhealthy"})), "draining, unhealthy\n");
        assert_eq!(of("draining", Value::Null), "draining\n");
        assert_eq!(of("available", json!({"state": "healthy"})), "available\n");
    }
}
