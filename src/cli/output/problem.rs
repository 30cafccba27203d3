//! A refusal, in words.

use std::fmt::Write as _;

use serde_json::Value;

use super::{list, text};

/// A refusal, in words.
pub fn problem(status: u16, problem: &Value) -> String {
    let mut words = match problem["detail"].as_str() {
        Some(detail) => detail.to_owned(),
        None => format!("the instance answered with status {status}"),
    };
    let mut listed: Vec<&Value> = Vec::new();
    for error in list(&problem["errors"]) {
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
        words.push_str("\n(--token, SWITCHBACK_TOKEN or the client file says which token is shown)");
    }
    words
}
