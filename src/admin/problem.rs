//! What the admin API answers when it does not do what it was asked: `application/problem+json` (RFC 9457).

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::control::{
    file::{Diagnostic, LoadError},
    handle::ControlError,
    refusal::{FileFault, Refusal, Unknown, WeightFault},
    store::StoreError,
};

/// The most faults that an answer lists: a small body must not make a large answer.
const MAX_FAULTS: usize = 50;

/// One thing that is wrong with a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fault {
    /// A JSON pointer (RFC 6901) into the body to what is wrong; empty is the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The line of a file that is wrong, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column in that line, in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The query parameter that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// What is wrong with it.
    pub detail: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// What could stand there instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// The allowed value that was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub did_you_mean: Option<String>,
}

/// A refused call. The first of its faults is shown at the top level too, for clients that read only one.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    faults: Vec<Fault>,
    /// Faults beyond those that are listed.
    omitted: u32,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What is in force instead of what the caller has seen.
    current: Option<Box<Value>>,
}

impl Fault {
    /// Something wrong in the body.
    pub fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: Some(pointer.into()), detail: detail.into(), ..Self::default() }
    }

    /// Something wrong in the query.
    pub fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { parameter: Some(name.into()), detail: detail.into(), ..Self::default() }
    }

    /// Says what could stand there instead.
    #[must_use]
    pub fn allowing<T: ToString>(mut self, allowed: impl IntoIterator<Item = T>) -> Self {
        self.allowed = allowed.into_iter().map(|value| value.to_string()).collect();
        self
    }

    fn unknown(pointer: Option<String>, what: &str, unknown: &Unknown) -> Self {
        Self {
            pointer,
            detail: format!("{what} {unknown}"),
            allowed: unknown.known.clone(),
            did_you_mean: unknown.nearest.clone(),
            ..Self::default()
        }
    }
}

impl From<&Diagnostic> for Fault {
    fn from(error: &Diagnostic) -> Self {
        let place = |number: usize| (number > 0).then_some(number);
        let (line, column, help) = (place(error.line), place(error.column), error.help.clone());
        Self { line, column, help, ..Self::at(error.pointer.clone(), error.message.clone()) }
    }
}

impl From<&FileFault> for Fault {
    fn from(fault: &FileFault) -> Self {
        Self { help: Some(fault.help.clone()), ..Self::at(fault.pointer.clone(), fault.message.clone()) }
    }
}

impl Problem {
    /// A problem without faults of its own. `kind` is the end of its type, a word that scripts can rely on.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            title,
            detail: detail.into(),
            faults: Vec::new(),
            omitted: 0,
            headers: Vec::new(),
            current: None,
        }
    }

    /// A body that is JSON but not what the call takes: 422.
    pub fn invalid(faults: Vec<Fault>) -> Self {
        Self::of_faults(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", "The body is not valid", faults)
    }

    /// A query that the call does not take: 400.
    pub fn invalid_query(faults: Vec<Fault>) -> Self {
        Self::of_faults(StatusCode::BAD_REQUEST, "invalid-query", "The query is not valid", faults)
    }

    /// A thing named in the path that is not there: 404.
    pub fn not_found(kind: &'static str, title: &'static str, what: &str, unknown: &Unknown) -> Self {
        Self::of_faults(StatusCode::NOT_FOUND, kind, title, vec![Fault::unknown(None, what, unknown)])
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// Says what is in force, and by which tag it is known.
    #[must_use]
    pub fn showing(mut self, tag: HeaderValue, current: Value) -> Self {
        self.headers.push((header::ETAG, tag));
        self.current = Some(current.into());
        self
    }

    /// Adds faults.
    #[must_use]
    pub fn with_faults(mut self, faults: Vec<Fault>) -> Self {
        self.faults = faults;
        self
    }

    fn of_faults(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        mut faults: Vec<Fault>,
    ) -> Self {
        let omitted = u32::try_from(faults.len().saturating_sub(MAX_FAULTS)).unwrap_or(u32::MAX);
        faults.truncate(MAX_FAULTS);
        let mut detail = faults.iter().map(|fault| fault.detail.as_str()).collect::<Vec<_>>().join("; ");
        if omitted > 0 {
            detail.push_str(&format!("; and {omitted} more"));
        }
        Self { omitted, ..Self::new(status, kind, title, detail).with_faults(faults) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        const STATUS: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
        match &refusal {
            Refusal::Split(unknown) => {
                Self::not_found("unknown-split", "No such split", "there is no split", unknown)
            }
            Refusal::Pool(unknown) => {
                let fault = Fault::unknown(Some("/to".into()), "the split has no pool", unknown);
                Self::of_faults(STATUS, "unknown-pool", "No such pool in the split", vec![fault])
            }
            Refusal::NoPool(unknown) => {
                Self::not_found("unknown-pool", "No such pool", "there is no pool", unknown)
            }
            Refusal::NoEndpoint { pool, unknown } => {
                let what = format!("pool {pool} has no endpoint");
                Self::not_found("unknown-endpoint", "No such endpoint in the pool", &what, unknown)
            }
            Refusal::Address { .. } => {
                let fault = Fault { detail: refusal.to_string(), ..Fault::default() };
                Self::of_faults(STATUS, "invalid-address", "The address is refused", vec![fault])
            }
            Refusal::EndpointWeight => {
                let fault =
                    Fault::at("/weight", refusal.to_string()).allowing([super::body::WEIGHTS_ALLOWED]);
                Self::of_faults(STATUS, "invalid-body", "The body is not valid", vec![fault])
            }
            Refusal::Weights(faults) => {
                let faults = faults.iter().map(weight_fault).collect();
                Self::of_faults(STATUS, "invalid-weights", "The weights are not valid", faults)
            }
            Refusal::File(faults) => {
                let faults = faults.iter().map(Fault::from).collect();
                Self::of_faults(STATUS, "file-refused", "The file can't come into force", faults)
            }
            Refusal::Revision { oldest, newest, .. } => {
                let fault =
                    Fault::at("/revision", refusal.to_string()).allowing([format!("{oldest} to {newest}")]);
                Self::of_faults(STATUS, "unknown-revision", "No such revision", vec![fault])
            }
        }
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        let errors = match error {
            LoadError::Control(error) => return error.into(),
            LoadError::Text(errors) => errors,
        };
        let faults = errors.errors().iter().map(Fault::from).collect();
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let problem = Self::of_faults(status, "invalid-file", "The file is not valid", faults);
        Self {
            omitted: problem.omitted.saturating_add(u32::try_from(errors.omitted()).unwrap_or(u32::MAX)),
            ..problem
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        const BUSY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        let detail = error.to_string();
        match error {
            ControlError::Refused(refusal) => refusal.into(),
            ControlError::Busy => Self::new(BUSY, "busy", "Too many changes at once", detail)
                .with_header(header::RETRY_AFTER, "1"),
            ControlError::Stopped => {
                Self::new(BUSY, "stopping", "Stopping", detail).with_header(header::RETRY_AFTER, "5")
            }
            ControlError::Moved(_) => {
                Self::new(StatusCode::PRECONDITION_FAILED, "moved", "It has changed since", detail)
            }
            ControlError::OtherCall => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "other-call",
                "The Idempotency-Key is another call's",
                detail,
            ),
            ControlError::HandedOver
            | ControlError::NotKept(StoreError::Fenced { .. } | StoreError::Closed) => {
                Self::new(BUSY, "handed-over", "Another process takes changes", detail)
                    .with_header(header::RETRY_AFTER, "1")
            }
            ControlError::NotKept(_) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "not-durable",
                "The change could not be made durable",
                format!("{detail}. Nothing was changed"),
            ),
            ControlError::Failed | ControlError::NotInForce(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", "A fault in Switchback", detail)
            }
        }
    }
}

fn weight_fault(fault: &WeightFault) -> Fault {
    let detail = fault.to_string();
    match fault {
        WeightFault::Pool(unknown) => {
            Fault::unknown(Some(pointer_to(&unknown.name)), "the split has no pool", unknown)
        }
        WeightFault::Repeated(pool) => Fault::at(pointer_to(pool.as_str()), detail),
        WeightFault::TooLarge(pool, _) => {
            Fault::at(pointer_to(pool.as_str()), detail).allowing([super::body::WEIGHTS_ALLOWED])
        }
        WeightFault::AllZero => Fault::at("", detail),
    }
}

/// The JSON pointer to a member of the top-level object.
pub(super) fn pointer_to(member: &str) -> String {
    format!("/{}", member.replace('~', "~0").replace('/', "~1"))
}

/// A problem as it is written (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    first: Option<First<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Fault],
    /// Faults beyond those that are listed.
    #[serde(skip_serializing_if = "is_zero")]
    omitted: u32,
    /// What is in force instead of what the caller has seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<&'a Value>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[derive(Serialize, JsonSchema)]
struct First<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    allowed: &'a [String],
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: format!("urn:switchback:problem:{}", self.kind),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            first: self.faults.first().map(|fault| First {
                pointer: fault.pointer.as_deref(),
                parameter: fault.parameter.as_deref(),
                allowed: &fault.allowed,
            }),
            errors: &self.faults,
            omitted: self.omitted,
            current: self.current.as_deref(),
        };
        let mut response = (self.status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.headers);
        response
    }
}
