//! The commands about tokens. They work on the file of tokens: a running instance looks at it every second.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::{Failure, output, token_arguments::Token};
use crate::{
    control::tokens::{
        file::{self, EditError},
        make,
    },
    model::{name::Name, role::Role, tokens},
};

/// Does what a command about tokens asks for.
pub fn run(command: Token) -> Result<(), Failure> {
    match command {
        Token::New { role, name, expires, place } => new(role, name, expires, &place.file, place.form.json),
        Token::List { place } => list(&place.file, place.form.json),
        Token::Revoke { name, place } => revoke(&name, &place.file, place.form.json),
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
    let shown: Vec<_> = tokens.iter().map(view).collect();
    output::print(as_json, &json!({ "tokens": shown }), |shown| {
        let rows: Vec<_> = shown["tokens"].as_array().into_iter().flatten().map(row).collect();
        output::table(&["TOKEN", "ROLE", "CREATED", "EXPIRES"], &rows)
    })
}

fn row(token: &Value) -> Vec<String> {
    let text = |member: &str| token[member].as_str().unwrap_or("never").to_owned();
    let expires = if token["expired"] == json!(true) { "expired " } else { "" };
    vec![text("name"), text("role"), text("created"), format!("{expires}{}", text("expires"))]
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
