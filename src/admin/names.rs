//! The names of endpoints: what is shown and counted of them.

use std::{collections::HashMap, net::SocketAddr, time::SystemTime};

use schemars::JsonSchema;
use serde::Serialize;

use super::{reading::timestamp, router::Admin};
use crate::{
    control::{
        names::{Book, Entry},
        snapshot::Snapshot,
    },
    model::{endpoint_address::EndpointAddress, name::Name},
    telemetry::prometheus::Text,
};

/// A name among a pool's endpoints.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NameView {
    name: EndpointAddress,
    /// How it went when it was last asked for; `resolving` before the first time has ended.
    state: &'static str,
    /// How many addresses it stands for.
    addresses: usize,
    /// When all of its questions were last answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_at: Option<String>,
    /// How long those answers could be used, by their own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<f64>,
    /// When it is asked for again.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<str>>,
    /// What of the answers is not used, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<Box<str>>,
}

/// The names of a pool, in declared order.
pub(super) fn of_pool(pool: &Name, snapshot: &Snapshot, book: &Book) -> Vec<NameView> {
    names(pool, snapshot).map(|name| view(name, book.entry(name))).collect()
}

/// For each address that a pool has by a name, the first such name.
pub(super) fn origins<'s>(pool: &Name, snapshot: &'s Snapshot) -> HashMap<SocketAddr, &'s EndpointAddress> {
    let mut origins = HashMap::new();
    for name in names(pool, snapshot) {
        for target in snapshot.resolved.targets(name) {
            origins.entry(target.address).or_insert(name);
        }
    }
    origins
}

fn names<'s>(pool: &Name, snapshot: &'s Snapshot) -> impl Iterator<Item = &'s EndpointAddress> + use<'s> {
    let endpoints = snapshot.state.live().pools.get(pool).map(|live| live.endpoints.as_slice());
    endpoints
        .unwrap_or_default()
        .iter()
        .map(|endpoint| &endpoint.address)
        .filter(|address| address.socket().is_none())
}

fn view(name: &EndpointAddress, entry: Option<Entry>) -> NameView {
    let at = |time: Option<SystemTime>| time.map(timestamp);
    let Some(entry) = entry else {
        // Between its coming into the live state and its first round, and for a name over the limit.
        return NameView {
            name: name.clone(),
            state: "resolving",
            addresses: 0,
            resolved_at: None,
            ttl_seconds: None,
            next_at: None,
            error: None,
            left_out: None,
        };
    };
    NameView {
        name: name.clone(),
        state: entry.outcome.map_or("resolving", |outcome| outcome.name()),
        addresses: entry.addresses,
        resolved_at: at(entry.answered_at),
        ttl_seconds: entry.ttl.map(|ttl| ttl.as_secs_f64()),
        next_at: at(entry.next_at),
        error: entry.fault,
        left_out: entry.left_out,
    }
}

/// The metrics of names. There are at most as many names as are resolved.
pub(super) fn render(admin: &Admin, text: &mut Text) {
    let book = admin.control.names();
    let entries = book.entries();
    text.gauge("switchback_names", "Names of endpoints that are resolved again and again.")
        .sample(&[], entries.len());
    let mut family =
        text.counter("switchback_name_rounds_total", "Times that a name was asked for, by how it went.");
    for (result, count) in book.rounds() {
        family.sample(&[("result", result)], count);
    }
    let mut family = text.gauge("switchback_name_addresses", "Addresses that a name stands for.");
    for (name, entry) in &entries {
        family.sample(&[("name", &name.to_string())], entry.addresses);
    }
    let help = "When all questions about a name were last answered, in seconds since 1970; 0 for never.";
    let mut family = text.gauge("switchback_name_answered_timestamp_seconds", help);
    for (name, entry) in &entries {
        let since = entry.answered_at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        family.sample(&[("name", &name.to_string())], since.map_or(0.0, |since| since.as_secs_f64()));
    }
}
