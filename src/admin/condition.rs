//! How well an endpoint is, as `GET /v1/pools` and `GET /v1/status` show it.

use schemars::JsonSchema;
use serde::Serialize;

use super::reading::timestamp;
use crate::{
    health::report::{EjectedReport, EndpointReport, LastProbe, Probed},
    model::health::Verdict,
};

/// What is known of an endpoint.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Condition {
    /// `available`, or why it takes no new request.
    state: &'static str,
    /// What its probes say; left out if its pool is not probed.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthView>,
    /// Its ejection, if it is ejected now.
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected: Option<EjectedView>,
    /// How often it was ejected.
    ejections: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct HealthView {
    state: Verdict,
    /// How many results like the last one there were in a row.
    streak: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<LastView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LastView {
    at: String,
    took_seconds: f64,
    passed: bool,
    result: &'static str,
    detail: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct EjectedView {
    since: String,
    until: String,
    reason: &'static str,
}

impl Condition {
    /// Puts an endpoint's state beside what is known of it.
    pub(super) fn new(state: &'static str, report: Option<EndpointReport>) -> Self {
        let Some(EndpointReport { probed, ejected, ejections }) = report else {
            return Self { state, health: None, ejected: None, ejections: 0 };
        };
        Self { state, health: probed.map(HealthView::new), ejected: ejected.map(EjectedView::new), ejections }
    }
}

impl HealthView {
    fn new(probed: Probed) -> Self {
        let last = |LastProbe { at, took, result, text }| LastView {
            at: timestamp(at),
            took_seconds: took.as_secs_f64(),
            passed: result.is_success(),
            result: result.name(),
            detail: text,
        };
        Self { state: probed.verdict, streak: probed.streak, last: probed.last.map(last) }
    }
}

impl EjectedView {
    fn new(ejected: EjectedReport) -> Self {
        let EjectedReport { since, until, reason } = ejected;
        Self { since: timestamp(since), until: timestamp(until), reason: reason.name() }
    }
}
