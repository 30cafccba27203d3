//! Replacing this process by a successor, and how that is shown.

use std::{path::PathBuf, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{Request, StatusCode, header},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    body::{self, Media, refuse_any, short},
    problem::{Fault, Problem},
    query,
    router::Admin,
};
use crate::control::succession::{MAX_TIMEOUT, SuccessionError, TIMEOUT};

/// Which process answers, and what is left of the one that it has replaced.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProcessView {
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<PredecessorView>,
}

/// A process that was replaced and drains.
#[derive(Debug, Serialize, JsonSchema)]
struct PredecessorView {
    pid: u32,
    /// For how long this process has served in its place.
    replaced_seconds: f64,
    /// The clients' connections that it has left.
    connections: u64,
}

/// The answer to a replacement.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Upgraded {
    /// The process that serves.
    pid: u32,
    version: String,
    binary: String,
    /// The process that has answered, and drains.
    predecessor: Replaced,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Replaced {
    pid: u32,
    version: &'static str,
}

impl ProcessView {
    pub fn of(admin: &Admin) -> Self {
        let predecessor = admin.succession.predecessor().map(|predecessor| PredecessorView {
            pid: predecessor.pid,
            replaced_seconds: predecessor.since.elapsed().as_secs_f64(),
            connections: predecessor.standing.connections,
        });
        Self { pid: std::process::id(), predecessor }
    }
}

/// Starts a successor, and answers when it serves.
pub async fn upgrade(State(admin): State<Admin>, request: Request<Body>) -> Result<Json<Upgraded>, Problem> {
    query::none(request.uri())?;
    let (_, body) = body::read(request, Media::Json).await?;
    let body = body.unwrap_or_default();
    let [binary, timeout] = body.members(["binary", "timeout"])?;
    let mut faults = Vec::new();
    let binary = binary.and_then(|value| path(&value, &mut faults));
    let timeout = timeout.and_then(|value| duration(&value, &mut faults)).unwrap_or(TIMEOUT);
    refuse_any(faults)?;
    let successor = admin.succession.replace(binary, timeout).await?;
    Ok(Json(Upgraded {
        pid: successor.pid,
        version: successor.version,
        binary: successor.binary.to_string_lossy().into_owned(),
        predecessor: Replaced { pid: std::process::id(), version: admin.version },
    }))
}

fn path(value: &Value, faults: &mut Vec<Fault>) -> Option<PathBuf> {
    let path = value.as_str().map(PathBuf::from).filter(|path| path.is_absolute());
    if path.is_none() {
        faults.push(Fault::at("/binary", format!("{} is not an absolute path", short(value))));
    }
    path
}

fn duration(value: &Value, faults: &mut Vec<Fault>) -> Option<Duration> {
    let duration = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    let in_range = duration.filter(|duration| !duration.is_zero() && *duration <= MAX_TIMEOUT);
    if in_range.is_none() {
        let fault = Fault::at("/timeout", format!("{} is not a time of 10m at most", short(value)));
        faults.push(fault.allowing([r#""60s""#, r#""2m""#]));
    }
    in_range
}

impl From<SuccessionError> for Problem {
    fn from(error: SuccessionError) -> Self {
        let detail = error.to_string();
        match error {
            SuccessionError::Busy => {
                Self::new(StatusCode::CONFLICT, "upgrade-running", "A successor is being started", detail)
                    .with_header(header::RETRY_AFTER, "5")
            }
            SuccessionError::Unable | SuccessionError::First => {
                Self::new(StatusCode::CONFLICT, "not-replaceable", "This process can't be replaced", detail)
            }
            SuccessionError::Binary { .. } => Self::invalid(vec![Fault::at("/binary", detail)]),
            SuccessionError::Failed { .. } => {
                Self::new(StatusCode::BAD_GATEWAY, "no-successor", "The successor does not serve", detail)
            }
        }
    }
}
