//! What people are shown of what was changed, and of what happens.

use serde_json::Value;

use super::{
    list,
    table::{Cell, Tone, table},
    text,
};

/// A page of the history, with how to see what was before it.
pub fn revisions(page: &Value) -> String {
    let rows: Vec<_> = list(&page["revisions"]).map(row).collect();
    if rows.is_empty() {
        return "there is nothing before that\n".to_owned();
    }
    let mut words = table(&["REVISION", "TIME", "WHO", "ORIGIN", "WHAT", "REASON"], &rows);
    if let (false, Some(last)) = (page["next"].is_null(), list(&page["revisions"]).last()) {
        words.push_str(&format!("(older ones: switchback history --before {})\n", last["revision"]));
    }
    words
}

fn row(revision: &Value) -> Vec<Cell> {
    let told = |member: &str| revision[member].as_str().unwrap_or("-").to_owned();
    vec![
        revision["revision"].to_string().into(),
        told("at").into(),
        told("who").into(),
        told("origin").into(),
        what(revision).into(),
        revision["reason"].as_str().unwrap_or_default().into(),
    ]
}

/// What a revision changed, in a line; its kind, if it changed nothing that has a line.
fn what(revision: &Value) -> String {
    let kind = text(&revision["kind"]).replace('_', " ");
    let Some(first) = list(&revision["text"]).next() else { return kind };
    match revision["changes"].as_u64().unwrap_or(1) {
        0 | 1 => format!("{kind}: {}", text(first)),
        changes => format!("{kind}: {} (and {} more)", text(first), changes - 1),
    }
}

/// One revision: who, when and why, and all that it changed.
pub fn revision(whole: &Value) -> String {
    format!("{}\n{}", revision_line(whole), super::lines(&whole["diff"]))
}

/// Which revision, by whom, when and why.
pub fn revision_line(revision: &Value) -> String {
    let who = revision["who"].as_str().map_or_else(String::new, |who| format!(" by {who}"));
    let reason = revision["reason"].as_str().map_or_else(String::new, |reason| format!(": {reason}"));
    format!(
        "revision {}, {}{who} ({}), {}{reason}",
        revision["revision"],
        text(&revision["kind"]).replace('_', " "),
        text(&revision["origin"]),
        text(&revision["at"]),
    )
}

/// An event in a line. `at` is when it came, for those that do not say when they were.
pub fn event(kind: &str, data: &Value, at: &str) -> String {
    let endpoint = || format!("{} of pool {}", text(&data["address"]), text(&data["pool"]));
    match kind {
        "revision" => {
            let who = data["who"].as_str().map_or_else(String::new, |who| format!(" by {who}"));
            let reason = data["reason"].as_str().map_or_else(String::new, |reason| format!(" -- {reason}"));
            let (at, number, origin) = (text(&data["at"]), &data["revision"], text(&data["origin"]));
            format!("{at} revision {number}{who} ({origin}), {}{reason}\n", what(data))
        }
        "endpoint" => {
            let tone = if data["after"] == "available" { Tone::Good } else { Tone::Passing };
            format!(
                "{at} endpoint {}: {} -> {}\n",
                endpoint(),
                text(&data["before"]),
                tone.of(&text(&data["after"]))
            )
        }
        "drained" => format!("{at} drained {}: nothing is in flight there\n", endpoint()),
        "gap" => format!(
            "{at} {} nothing is known of what came after revision {} up to {}\n",
            Tone::Bad.of("gap"),
            data["after"],
            data["from"]
        ),
        "file" => match data["error"].as_str() {
            Some(error) => format!("{at} file {}: {}\n", Tone::Bad.of("refused"), error.replace('\n', "; ")),
            None => format!("{at} file is good again\n"),
        },
        // What a later version tells.
        other => format!("{at} {other} {data}\n"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_page_is_a_table_that_says_what_is_before_it() {
        let revision = json!({
            "revision": 12, "kind": "put_endpoint", "origin": "cli", "who": "ci", "at": "2026-01-31T12:00:00.000Z",
            "changes": 3, "text": ["a", "b", "c"], "reason": "more",
        });
        let shown = plain(&revisions(&json!({"revisions": [revision], "next": "/v1/revisions?before=12"})));
        assert_eq!(
            shown,
            "REVISION  TIME                      WHO  ORIGIN  WHAT                          REASON\n\
             12        2026-01-31T12:00:00.000Z  ci   cli     put endpoint: a (and 2 more)  more\n\
             (older ones: switchback history --before 12)\n"
        );
        assert_eq!(revisions(&json!({"revisions": [], "next": null})), "there is nothing before that\n");
    }

    #[test]
    fn every_event_is_a_line() {
        let at = "2026-01-31T12:00:00Z";
        for (kind, data, line) in [
            (
                "endpoint",
                json!({"pool": "blue", "address": "a:1", "before": "available", "after": "ejected"}),
                "endpoint a:1 of pool blue: available -> ejected",
            ),
            (
                "drained",
                json!({"pool": "blue", "address": "a:1"}),
                "drained a:1 of pool blue: nothing is in flight there",
            ),
            (
                "gap",
                json!({"after": 3, "from": 9}),
                "gap nothing is known of what came after revision 3 up to 9",
            ),
            ("file", json!({"error": "line 1\nline 2"}), "file refused: line 1; line 2"),
            ("file", json!({"error": null}), "file is good again"),
            ("new", json!({"a": 1}), "new {\"a\":1}"),
        ] {
            assert_eq!(plain(&event(kind, &data, at)), format!("{at} {line}\n"));
        }
        let revision = json!({"revision": 3, "kind": "switch", "origin": "api", "at": "T", "changes": 1, "text": ["x"], "reason": "y"});
        assert_eq!(event("revision", &revision, at), "T revision 3 (api), switch: x -- y\n");
    }
}
