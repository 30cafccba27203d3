//! The calls about tokens. Each is about the file of tokens, which `switchback token` changes, too.

use std::time::{Duration, SystemTime};

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, Uri},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Access, AccessView, Caller};
use crate::{
    admin::{
        body::{self, Media, short},
        problem::{Fault, Problem},
        query::{self, ChangeQuery, Named},
        reading::timestamp,
        router::Admin,
    },
    control::{
        refusal::Unknown,
        tokens::{EditError, TokenBook},
    },
    model::{
        name::Name,
        role::Role,
        tokens::{Token, TokenFault},
    },
};

/// The longest that a token may be made for: ten years. Who wants more says nothing.
const MAX_LASTS: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// The answer to `GET /v1/tokens`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Listed {
    #[serde(flatten)]
    access: AccessView,
    listed: Vec<View>,
}

/// A token; the token itself is not there.
#[derive(Debug, Serialize, JsonSchema)]
struct View {
    name: String,
    role: String,
    created: String,
    /// From when on it counts no more; null is never.
    expires: Option<String>,
    expired: bool,
}

/// The answer to `POST /v1/tokens`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Made {
    #[serde(flatten)]
    kept: View,
    dry_run: bool,
    /// The token itself, which is shown this once; null on a dry run.
    token: Option<String>,
}

/// The answer to `DELETE /v1/tokens/{name}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Revoked {
    #[serde(flatten)]
    revoked: View,
    dry_run: bool,
}

/// `GET /v1/tokens`.
pub async fn list(State(admin): State<Admin>, uri: Uri) -> Result<Json<Listed>, Problem> {
    query::none(&uri)?;
    let book = book(&admin.access)?;
    let access = admin.access.view().ok_or_else(off)?;
    Ok(Json(Listed { access, listed: book.tokens().iter().map(View::of).collect() }))
}

/// `POST /v1/tokens`.
pub async fn make(State(admin): State<Admin>, request: Request) -> Result<Json<Made>, Problem> {
    let ChangeQuery { dry_run, .. } = ChangeQuery::parse(request.uri(), false)?;
    let by = caller(&request);
    let (_, object) = body::read(request, Media::Json).await?;
    let [name, role, expires] = body::needed(object)?.members(["name", "role", "expires"])?;
    let mut faults = Vec::new();
    let role = self::role(role, &mut faults);
    let name = self::name(name, &mut faults);
    let lasts = self::lasts(expires, &mut faults);
    let role = match role {
        Some(role) if faults.is_empty() => role,
        _ => return Err(Problem::invalid(faults)),
    };
    let book = book(&admin.access)?;
    if dry_run {
        let (_, token) =
            crate::control::tokens::make(name, role, lasts).map_err(|error| problem(error.into(), book))?;
        let tokens = book.tokens();
        tokens.as_ref().clone().with(token.clone()).map_err(|fault| problem(fault.into(), book))?;
        return Ok(Json(Made { kept: View::of(&token), dry_run, token: None }));
    }
    let (secret, token) = book.add(name, role, lasts).await.map_err(|error| problem(error, book))?;
    tracing::info!(token = %token.name, role = %token.role, %by, "a token was made");
    Ok(Json(Made { kept: View::of(&token), dry_run, token: Some(secret.reveal().to_owned()) }))
}

/// `DELETE /v1/tokens/{name}`.
pub async fn revoke(
    State(admin): State<Admin>,
    Named(name): Named,
    request: Request,
) -> Result<Json<Revoked>, Problem> {
    let ChangeQuery { dry_run, .. } = ChangeQuery::parse(request.uri(), false)?;
    let by = caller(&request);
    let book = book(&admin.access)?;
    let tokens = book.tokens();
    let Some(token) = tokens.iter().find(|token| token.name.as_str() == name) else {
        return Err(unknown(&name, book));
    };
    if !dry_run {
        match book.revoke(name.clone()).await {
            Ok(()) => tracing::info!(token = %token.name, role = %token.role, %by, "a token was revoked"),
            Err(EditError::Fault(TokenFault::Unknown)) => return Err(unknown(&name, book)),
            Err(error) => return Err(problem(error, book)),
        }
    }
    Ok(Json(Revoked { revoked: View::of(token), dry_run }))
}

/// Whose token makes the call, for the log: tokens are no part of the history.
fn caller(request: &Request) -> String {
    request.extensions().get::<Caller>().map_or_else(String::new, |Caller(name)| name.to_string())
}

fn book(access: &Access) -> Result<&std::sync::Arc<TokenBook>, Problem> {
    access.book().ok_or_else(off)
}

fn off() -> Problem {
    let detail = "this instance asks for no tokens: name a file of them as [admin] tokens";
    Problem::new(StatusCode::CONFLICT, "no-tokens", "Tokens are off", detail)
}

fn unknown(name: &str, book: &TokenBook) -> Problem {
    let tokens = book.tokens();
    let known = tokens.iter().map(|token| token.name.as_str());
    Problem::not_found("unknown-token", "No such token", "there is no token", &Unknown::new(name, known))
}

/// What is wrong with a call, or with the file.
fn problem(error: EditError, book: &TokenBook) -> Problem {
    let detail = error.to_string();
    match error {
        EditError::Fault(TokenFault::Unknown) => unknown("", book),
        EditError::Fault(TokenFault::Taken(_)) => {
            let fault = Fault::at("/name", detail);
            Problem::new(StatusCode::CONFLICT, "taken-name", "The name is taken", fault.detail.clone())
                .with_faults(vec![fault])
        }
        EditError::Fault(TokenFault::TooMany) => {
            Problem::new(StatusCode::CONFLICT, "too-many-tokens", "Too many tokens", detail)
        }
        EditError::Invalid { .. } => {
            Problem::new(StatusCode::CONFLICT, "refused-tokens", "The file of tokens is malformed", detail)
        }
        EditError::Io { .. } => Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "not-durable",
            "The change could not be made durable",
            detail,
        ),
        EditError::Random(_) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", "A fault of the system", detail)
        }
    }
}

fn role(said: Option<Value>, faults: &mut Vec<Fault>) -> Option<Role> {
    let role = match &said {
        Some(Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    if role.is_none() {
        let detail = match &said {
            None => "the role is missing".to_owned(),
            Some(other) => format!("{} is no role", short(other)),
        };
        faults.push(Fault::at("/role", detail).allowing(Role::ALL));
    }
    role
}

fn name(said: Option<Value>, faults: &mut Vec<Fault>) -> Option<Name> {
    let said = said?;
    let name = said.as_str().and_then(|text| Name::new(text).ok());
    if name.is_none() {
        let detail = format!("{} is no name: {}", short(&said), crate::model::name::InvalidName);
        faults.push(Fault::at("/name", detail));
    }
    name
}

/// How long a token is to count: a duration from now on.
fn lasts(said: Option<Value>, faults: &mut Vec<Fault>) -> Option<Duration> {
    let said = said?;
    let lasts = said.as_str().and_then(|text| humantime::parse_duration(text).ok());
    let lasts = lasts.filter(|lasts| !lasts.is_zero() && *lasts <= MAX_LASTS);
    if lasts.is_none() {
        let detail = format!("{} is no time that a token may count", short(&said));
        faults.push(Fault::at("/expires", detail).allowing(["1s to 10years, such as 90d"]));
    }
    lasts
}

impl View {
    fn of(token: &Token) -> Self {
        Self {
            name: token.name.to_string(),
            role: token.role.to_string(),
            created: timestamp(token.created),
            expires: token.expires.map(timestamp),
            expired: token.is_expired(SystemTime::now()),
        }
    }
}
