//! The commands about the configuration file of a running instance.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _},
    path::Path,
};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    arguments::{
        files::{Apply, Config},
        reading::Drift,
    },
    client::{Call, Change, Client},
    output::{self, Cell},
};

/// The largest file that is sent; an instance takes no larger one.
const MAX_BYTES: u64 = 1 << 20;
/// Where the file in force is read, and its tag.
const FILE: &str = "/v1/config";

/// `config`.
pub fn config(client: &Client, config: Config) -> Result<(), Failure> {
    match config {
        Config::Export { connection: _ } => {
            let answer = client.read("/v1/config/export")?;
            client.expect(answer.is_string())?;
            let text = output::text(&answer);
            if client.json {
                return output::print(true, &json!({ "text": text }), |_| String::new());
            }
            // A file gets every byte of it.
            if io::stdout().is_terminal() {
                output::write(&output::harmless(&text.replace("\r\n", "\n")))
            } else {
                output::write_raw(&text)
            }
        }
        Config::Validate { file, connection: _ } => {
            let body = json!({ "text": read(&file)? });
            let answer = client.success(client.send(Call::post("/v1/config/validate", body))?)?;
            client.expect(answer["valid"].is_boolean())?;
            output::print(client.json, &answer, |answer| validated(&file, answer))
        }
        Config::Reload { intent, connection: _ } => {
            let path = "/v1/config/reload".to_owned();
            let loaded = client.change(&Change::new(Method::POST, path, FILE.to_owned(), &intent))?;
            print_loaded(client, &loaded).map(drop)
        }
    }
}

/// `apply`.
pub fn apply(client: &Client, apply: &Apply) -> Result<(), Failure> {
    let Apply { file, exit_code, intent, connection: _ } = apply;
    let body = Some(json!({ "text": read(file)? }));
    let change = Change::new(Method::PUT, FILE.to_owned(), FILE.to_owned(), intent);
    let changed = print_loaded(client, &client.change(&Change { body, ..change })?)?;
    if changed && *exit_code { Err(Failure::Changed) } else { Ok(()) }
}

/// `drift`.
pub fn drift(client: &Client, drift: &Drift) -> Result<(), Failure> {
    let found = client.read("/v1/drift")?;
    client.expect(found["in_sync"].is_boolean())?;
    output::print(client.json, &found, |drift| {
        if drift["in_sync"] == json!(true) {
            return "what is in force is what the file declares\n".to_owned();
        }
        let row = |field: &Value| {
            ["key", "file", "live"].map(|column| Cell::from(output::text(&field[column]))).to_vec()
        };
        let rows: Vec<_> = output::list(&drift["differences"]).map(row).collect();
        output::table(&["FIELD", "FILE", "LIVE"], &rows)
    })?;
    if drift.exit_code && found["in_sync"] == json!(false) { Err(Failure::Changed) } else { Ok(()) }
}

/// Prints what a load did, and answers whether it changed anything, or would.
fn print_loaded(client: &Client, loaded: &Value) -> Result<bool, Failure> {
    client.expect(loaded["revision"].is_u64() && loaded["changes"].is_array())?;
    let changed = loaded["changed"] == json!(true);
    output::print(client.json, loaded, |loaded| {
        let words = match (changed, loaded["dry_run"] == json!(true)) {
            (false, _) => "nothing to change\n".to_owned(),
            (true, false) => format!("in force, revision {}\n", loaded["revision"]),
            (true, true) => "would change:\n".to_owned(),
        };
        words + &output::lines(&loaded["changes"]) + &faults("warning", &loaded["warnings"])
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
    output::list(faults).map(line).collect()
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
