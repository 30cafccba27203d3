//! The commands about the configuration file of a running instance.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    arguments::{Connection, DryRun},
    calls::{expect_shape, expect_success, get, send},
    client::ANSWER_WITHIN,
    file_arguments::{Apply, Config},
    output,
};

/// The largest file that is sent; an instance takes no larger one.
const MAX_BYTES: u64 = 1 << 20;

/// `config`.
pub fn config(config: Config) -> Result<(), Failure> {
    match config {
        Config::Export { connection } => {
            let answer = expect_success(get(&connection, "/v1/config/export", ANSWER_WITHIN)?)?;
            expect_shape(&connection, answer.is_string())?;
            let json = json!({ "text": answer });
            output::print(connection.form.json, &json, |json| output::text(&json["text"]))
        }
        Config::Validate { file, connection } => {
            let body = json!({ "text": read(&file)? });
            let answer = send(&connection, Method::POST, "/v1/config/validate", Some(body), ANSWER_WITHIN)?;
            let answer = expect_success(answer)?;
            expect_shape(&connection, answer["valid"].is_boolean())?;
            output::print(connection.form.json, &answer, |answer| validated(&file, answer))
        }
        Config::Reload { dry_run, connection } => {
            let path = format!("/v1/config/reload{}", query(&dry_run));
            let answer = send(&connection, Method::POST, &path, None, ANSWER_WITHIN)?;
            print_loaded(&connection, expect_success(answer)?).map(drop)
        }
    }
}

/// `apply`.
pub fn apply(apply: Apply) -> Result<(), Failure> {
    let Apply { file, exit_code, dry_run, connection } = apply;
    let body = json!({ "text": read(&file)? });
    let path = format!("/v1/config{}", query(&dry_run));
    let answer = send(&connection, Method::PUT, &path, Some(body), ANSWER_WITHIN)?;
    let changed = print_loaded(&connection, expect_success(answer)?)?;
    if changed && exit_code { Err(Failure::Changed) } else { Ok(()) }
}

/// `drift`.
pub fn drift(connection: &Connection, exit_code: bool) -> Result<(), Failure> {
    let drift = expect_success(get(connection, "/v1/drift", ANSWER_WITHIN)?)?;
    expect_shape(connection, drift["in_sync"].is_boolean())?;
    output::print(connection.form.json, &drift, |drift| {
        if drift["in_sync"] == json!(true) {
            return "what is in force is what the file declares\n".to_owned();
        }
        let row = |field: &Value| ["key", "file", "live"].map(|column| output::text(&field[column])).to_vec();
        let rows: Vec<_> = drift["differences"].as_array().into_iter().flatten().map(row).collect();
        output::table(&["FIELD", "FILE", "LIVE"], &rows)
    })?;
    if exit_code && drift["in_sync"] == json!(false) { Err(Failure::Changed) } else { Ok(()) }
}

/// Prints what a load did, and answers whether it changed anything, or would.
fn print_loaded(connection: &Connection, loaded: Value) -> Result<bool, Failure> {
    expect_shape(connection, loaded["revision"].is_u64() && loaded["changes"].is_array())?;
    let changed = loaded["changed"] == json!(true);
    output::print(connection.form.json, &loaded, |loaded| {
        let mut words = match (changed, loaded["dry_run"] == json!(true)) {
            (false, _) => "nothing to change\n".to_owned(),
            (true, false) => format!("in force, revision {}\n", loaded["revision"]),
            (true, true) => "would change:\n".to_owned(),
        };
        for change in loaded["changes"].as_array().into_iter().flatten() {
            let _ = writeln!(words, "  {}", output::text(&change["text"]));
        }
        words + &faults("warning", &loaded["warnings"])
    })?;
    Ok(changed)
}

fn validated(file: &Path, answer: &Value) -> String {
    let mut words = format!("{} is good\n", file.display());
    words.push_str(&faults("warning", &answer["warnings"]));
    words.push_str(&faults("can't come into force here", &answer["refused"]));
    words
}

fn faults(kind: &str, faults: &Value) -> String {
    let line = |fault: &Value| {
        let place = fault["line"].as_u64().map(|line| format!("line {line}: ")).unwrap_or_default();
        format!("{kind}: {place}{}\n", output::text(&fault["detail"]))
    };
    faults.as_array().into_iter().flatten().map(line).collect()
}

/// Reads a file to send. It is the instance that checks it.
fn read(path: &Path) -> Result<String, Failure> {
    let unreadable = |error: io::Error| Failure::Failed(format!("{} can't be read: {error}", path.display()));
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    } else {
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    }
    if text.len() as u64 > MAX_BYTES {
        return Err(Failure::Failed(format!(
            "{} is larger than 1 MiB, the most that is sent",
            path.display()
        )));
    }
    Ok(text)
}

fn query(dry_run: &DryRun) -> &'static str {
    if dry_run.dry_run { "?dry_run=true" } else { "" }
}
