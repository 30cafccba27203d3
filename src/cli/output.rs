//! What people and scripts are shown.
//!
//! Results go to the standard output, complaints to the standard error. Text that came from an instance is shown
//! without control characters: a name in an answer must not be able to move the cursor of a terminal. What is coloured
//! is so on a terminal alone, and not where `NO_COLOR` is set.

mod history;
mod pools;
mod problem;
mod splits;
mod status;
mod table;

use std::io::{ErrorKind, Write, stderr, stdout};

pub use history::{event, revision, revision_line, revisions};
pub use pools::{pool_change, progress as pool_progress};
pub use problem::problem;
use serde_json::{Value, json};
pub use splits::{change, pairs, progress as split_progress};
pub use status::{explanation, status};
pub use table::{Cell, Tone, table};

use super::Failure;
use crate::config::Warning;

/// Prints an answer as JSON or as `human` words it.
pub fn print(as_json: bool, answer: &Value, human: impl Fn(&Value) -> String) -> Result<(), Failure> {
    if as_json { write_raw(&plain_json(&format!("{answer:#}\n"))) } else { write(&worded(answer, human)) }
}

/// What an answer says, in words that can do nothing to a terminal but colour it.
pub fn worded(answer: &Value, human: impl Fn(&Value) -> String) -> String {
    human(&harmless_value(answer))
}

/// Prints a line of JSON, for whoever reads line by line.
pub fn print_line(answer: &Value) -> Result<(), Failure> {
    write_raw(&plain_json(&format!("{answer}\n")))
}

/// Writes to the standard output, with colours if it is a terminal that shows them.
pub fn write(text: &str) -> Result<(), Failure> {
    write_to(anstream::stdout().lock(), text)
}

/// Writes to the standard output as it is.
pub fn write_raw(text: &str) -> Result<(), Failure> {
    write_to(stdout().lock(), text)
}

fn write_to(mut out: impl Write, text: &str) -> Result<(), Failure> {
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

/// Says something about the course of a command that goes on.
pub fn note(text: &str) {
    let _ = writeln!(stderr(), "{}", harmless(text));
}

/// Says why a command failed.
pub fn complain(failure: &Failure, as_json: bool) {
    let text = if as_json {
        let document = match failure {
            Failure::Refused { problem, .. } => problem.clone(),
            Failure::File(errors) => json!({ "errors": errors.errors(), "omitted": errors.omitted() }),
            other => json!({ "detail": other.to_string() }),
        };
        plain_json(&format!("{document:#}\n"))
    } else {
        format!("{}\n", harmless(failure.to_string().trim_end()))
    };
    let _ = stderr().write_all(text.as_bytes());
}

/// The members of a list; none if it is no list.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A value without the quotes of a text.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The lines that tell what a change changes, each further in than what they belong to.
pub fn lines(differences: &Value) -> String {
    list(differences).map(|difference| format!("  {}\n", text(&difference["text"]))).collect()
}

/// A text that can do nothing to a terminal.
pub fn harmless(text: &str) -> String {
    let harmless = |character: char| {
        if character.is_control() && !"\n\t".contains(character) { '\u{fffd}' } else { character }
    };
    text.chars().map(harmless).collect()
}

/// The same of all texts of an answer, and of the names of its members.
fn harmless_value(value: &Value) -> Value {
    match value {
        Value::String(text) => harmless(text).into(),
        Value::Array(values) => values.iter().map(harmless_value).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (harmless(name), harmless_value(value))).collect()
        }
        other => other.clone(),
    }
}

/// JSON that can do nothing to a terminal and says the same: JSON itself leaves DEL and the C1 controls in texts as they are.
fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\u{7f}'..='\u{9f}' => plain.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_not_passed_on() {
        assert_eq!(harmless("a\x1b[2Jb\tc\n"), "a\u{fffd}[2Jb\tc\n");
        let texts = json!("\u{9b}2J\u{7f}é");
        let plain = plain_json(&texts.to_string());
        assert_eq!(plain, "\"\\u009b2J\\u007fé\"");
        assert_eq!(serde_json::from_str::<Value>(&plain).unwrap(), texts, "it says the same");
        let answer = json!({ "a\x07": ["\x1b[2J", { "b": 1 }] });
        assert_eq!(harmless_value(&answer), json!({ "a\u{fffd}": ["\u{fffd}[2J", { "b": 1 }] }));
    }
}
