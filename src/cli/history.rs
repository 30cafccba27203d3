//! The commands about what was changed and what happens: the history, the way back, and the events.

use std::{ops::ControlFlow, time::SystemTime};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    arguments::history::{Events, History, Restore, Revision},
    client::{Change, Client, Follower, StreamEvent},
    ending, output,
};
use crate::admin::MAX_PAGE;

/// `history`.
pub fn history(client: &Client, history: &History) -> Result<(), Failure> {
    let History { limit, mut before, connection: _ } = *history;
    let mut revisions: Vec<Value> = Vec::new();
    // The API gives a page at a time.
    let next = loop {
        let left = limit - revisions.len() as u64;
        let before_this = before.map_or_else(String::new, |before| format!("&before={before}"));
        let mut page = client.read(&format!("/v1/revisions?limit={}{before_this}", left.min(MAX_PAGE)))?;
        client.expect(page["revisions"].is_array())?;
        let Value::Array(of_page) = page["revisions"].take() else { break Value::Null };
        let is_last = of_page.is_empty() || page["next"].is_null();
        revisions.extend(of_page);
        before = revisions.last().and_then(|last| last["revision"].as_u64());
        if is_last || revisions.len() as u64 >= limit {
            break page["next"].take();
        }
    };
    output::print(client.json, &json!({ "revisions": revisions, "next": next }), output::revisions)
}

/// `revision`.
pub fn revision(client: &Client, revision: &Revision) -> Result<(), Failure> {
    let whole = client.read(&format!("/v1/revisions/{}", revision.number))?;
    client.expect(whole["revision"].is_u64() && whole["diff"].is_array())?;
    output::print(client.json, &whole, output::revision)
}

/// `restore`.
pub fn restore(client: &Client, restore: &Restore) -> Result<(), Failure> {
    let path = format!("/v1/revisions/{}/restore", restore.number);
    let restored =
        client.change(&Change::new(Method::POST, path, "/v1/status".to_owned(), &restore.intent))?;
    client.expect(restored["revision"].is_u64() && restored["restored"].is_u64())?;
    output::print(client.json, &restored, |restored| {
        let number = &restored["restored"];
        let words = match (restored["changed"] == json!(true), restored["dry_run"] == json!(true)) {
            (true, false) => format!(
                "what was in force at revision {number} is again, revision {}\n",
                restored["revision"]
            ),
            (true, true) => format!("to go back to revision {number} would change:\n"),
            (false, _) => format!("nothing to change, what was in force at revision {number} still is\n"),
        };
        words + &output::lines(&restored["diff"])
    })
}

/// `events`.
pub fn events(client: &Client, events: &Events) -> Result<(), Failure> {
    ending::end_well()?;
    client.follow(events.since, &mut Printer { json: client.json })
}

/// Prints each event in a line.
struct Printer {
    json: bool,
}

impl Follower for Printer {
    fn tell(&mut self, event: &StreamEvent) -> Result<ControlFlow<()>, Failure> {
        let StreamEvent { event, id, data } = event;
        // What is no JSON is of a later version, and shown as it is.
        let data = serde_json::from_str(data).unwrap_or_else(|_| json!(data));
        if self.json {
            output::print_line(&json!({ "event": event, "id": id, "data": data }))?;
        } else {
            let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
            let event = output::harmless(event);
            output::write(&output::worded(&data, |data| output::event(&event, data, &now)))?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn lost(&mut self, why: &str) {
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        output::note(&format!("the connection is lost{why}: trying again"));
    }

    fn found(&mut self) {
        output::note("connected again");
    }
}
