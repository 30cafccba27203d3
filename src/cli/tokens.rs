//! The commands about tokens: in their file, at which a running instance looks every second, or with the instance itself.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    arguments::tokens::Token,
    calls::encode,
    client::{Call, Client},
    output::{self, Cell, Tone},
};
use crate::{
    control::tokens::{
        file::{self, EditError},
        make,
    },
    model::{name::Name, role::Role, tokens},
};

/// Does what a command about tokens asks for, in their file or with a running instance.
pub fn run(mut command: Token) -> Result<(), Failure> {
    let Some(file) = command.place().file().map_err(Failure::Usage)?.map(Path::to_owned) else {
        return live(command);
    };
    let as_json = command.place().connection.form.json;
    match command {
        Token::New { role, name, expires, place: _ } => new(role, name, expires, &file, as_json),
        Token::List { place: _ } => list(&file, as_json),
        Token::Revoke { name, place: _ } => revoke(&name, &file, as_json),
    }
}

/// The same with a running instance. What is answered has the shape that the file's commands give it.
fn live(mut command: Token) -> Result<(), Failure> {
    let client = Client::of(&command.place().connection)?;
    match command {
        Token::New { role, name, expires, place: _ } => {
            let mut body = json!({ "role": role, "name": name });
            if let Some(lasts) = expires {
                body["expires"] = json!(humantime::format_duration(lasts).to_string());
            }
            if name.is_none() {
                body.as_object_mut().expect("it was made as an object above").remove("name");
            }
            let made = client.success(client.send(Call::post("/v1/tokens", body))?)?;
            client.expect(made["token"].is_string() && made["name"].is_string())?;
            if !client.json {
                let name = output::text(&made["name"]);
                output::note(&format!("{name} ({role}) counts from now on; this is its only showing:"));
            }
            output::print(client.json, &made, |made| format!("{}\n", output::text(&made["token"])))
        }
        Token::List { place: _ } => {
            let mut answer = client.read("/v1/tokens")?;
            client.expect(answer["listed"].is_array())?;
            print_list(&answer["listed"].take(), client.json)
        }
        Token::Revoke { name, place: _ } => {
            let path = format!("/v1/tokens/{}", encode(&name));
            let revoked =
                client.success(client.send(Call { method: Method::DELETE, ..Call::get(&path) })?)?;
            client.expect(revoked["name"].is_string())?;
            output::print(client.json, &revoked, |_| format!("{name} counts no more\n"))
        }
    }
}

fn new(
    role: Role,
    name: Option<Name>,
    lasts: Option<Duration>,
    file: &Path,
    as_json: bool,
) -> Result<(), Failure> {
    let (secret, token) = make(name, role, lasts).map_err(|error| failed(error.into()))?;
    let kept = token.clone();
    file::edit(file, |tokens| tokens.with(kept)).map_err(failed)?;
    let mut shown = view(&token);
    shown["token"] = json!(secret.reveal());
    if !as_json {
        // The token alone goes to the standard output, for a variable or a pipe.
        eprintln!(
            "{} ({role}) is kept in {} by its hash; this is its only showing:",
            token.name,
            file.display()
        );
    }
    output::print(as_json, &shown, |_| format!("{}\n", secret.reveal()))
}

fn list(file: &Path, as_json: bool) -> Result<(), Failure> {
    let tokens = file::tokens(file).map_err(failed)?;
    print_list(&tokens.iter().map(view).collect(), as_json)
}

fn print_list(tokens: &Value, as_json: bool) -> Result<(), Failure> {
    output::print(as_json, &json!({ "tokens": tokens }), |shown| {
        let rows: Vec<_> = output::list(&shown["tokens"]).map(row).collect();
        output::table(&["TOKEN", "ROLE", "CREATED", "EXPIRES"], &rows)
    })
}

fn row(token: &Value) -> Vec<Cell> {
    let text = |member: &str| token[member].as_str().unwrap_or("never");
    let expires = match token["expired"] == json!(true) {
        true => Cell::new(format!("expired {}", text("expires")), Tone::Bad),
        false => text("expires").into(),
    };
    vec![text("name").into(), text("role").into(), text("created").into(), expires]
}

fn revoke(name: &str, file: &Path, as_json: bool) -> Result<(), Failure> {
    let mut role = None;
    let edited = file::edit(file, |tokens| {
        role = tokens.iter().find(|token| token.name.as_str() == name).map(|token| token.role);
        tokens.without(name)
    });
    edited.map_err(failed)?;
    let role = role.map(Role::name);
    output::print(as_json, &json!({ "name": name, "role": role }), |_| {
        format!("{name} counts no more; a running instance knows it within two seconds\n")
    })
}

fn view(token: &tokens::Token) -> Value {
    let text = |at: SystemTime| humantime::format_rfc3339_seconds(at).to_string();
    json!({
        "name": token.name,
        "role": token.role,
        "created": text(token.created),
        "expires": token.expires.map(text),
        "expired": token.is_expired(SystemTime::now()),
    })
}

fn failed(error: EditError) -> Failure {
    Failure::Failed(error.to_string())
}
