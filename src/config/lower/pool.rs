//! Pools and their endpoints.

use std::{collections::HashSet, net::SocketAddr};

use super::{
    Seen, limit,
    request_key::{self, Written},
    value,
};
use crate::{
    config::{
        defaults,
        pointer::Pointer,
        problems::Problems,
        raw,
        settings::{Balance, DrainSettings, EndpointAddress, EndpointSettings, HashBalance, Outliers, Pool},
        shape::shortened,
        spanned::{Entries, Spanned},
    },
    model::weights::Weights,
};

mod eject;
mod health;
mod limits;
mod tls;
mod warming;

pub(super) fn all(
    raw: &Entries<raw::Pool>,
    listeners: &[Spanned<raw::Listener>],
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Vec<Pool> {
    limit(raw, defaults::MAX_POOLS, |(name, _)| name.span.clone(), at, problems);
    let own: HashSet<SocketAddr> =
        listeners.iter().filter_map(|listener| listener.listen.as_ref()?.parse().ok()).collect();
    raw.iter().filter_map(|(name, pool)| one(name, pool, &own, &at.key(name), problems)).collect()
}

fn one(
    name: &Spanned<String>,
    raw: &Spanned<raw::Pool>,
    own: &HashSet<SocketAddr>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Pool> {
    let name = value::name(name, at, problems);
    let endpoints =
        endpoints(raw.endpoints.as_deref().unwrap_or_default(), own, &at.key("endpoints"), problems);
    let health = raw.health.as_ref().and_then(|raw| health::check(raw, &at.key("health"), problems));
    let eject = match &raw.eject {
        Some(raw) => eject::outliers(raw, &at.key("eject"), problems),
        None => Some(Outliers::default()),
    };
    let panic_threshold = value::share(&raw.panic, defaults::PANIC_THRESHOLD, &at.key("panic"), problems);
    let slow_start =
        raw.slow_start.as_ref().map(|raw| warming::slow_start(raw, &at.key("slow_start"), problems));
    let max_age = value::timeout_or_off(&raw.max_age, None, &at.key("max_age"), problems);
    let limits = limits::limits(raw, at, problems);
    let drain = drain(raw, at, problems);
    let connect_timeout =
        value::timeout(&raw.connect_timeout, defaults::CONNECT_TIMEOUT, &at.key("connect_timeout"), problems);
    let idle_timeout =
        value::timeout(&raw.idle_timeout, defaults::IDLE_TIMEOUT, &at.key("idle_timeout"), problems);
    let max_idle = value::count(
        &raw.max_idle,
        0..=defaults::MAX_MAX_IDLE,
        defaults::MAX_IDLE,
        &at.key("max_idle"),
        problems,
    );
    let balance = balance(raw, at, problems);
    let protocol = tls::protocol(raw, at, problems);
    let tls = tls::settings(raw, protocol, &endpoints, at, problems);
    Some(Pool {
        name: name?,
        endpoints,
        balance: balance?,
        health,
        eject,
        panic_threshold,
        slow_start,
        protocol,
        tls,
        connect_timeout,
        idle_timeout,
        max_idle,
        max_age,
        limits,
        is_drained: raw.drain.as_ref().is_some_and(|drain| drain.value),
        drain,
    })
}

fn balance(raw: &Spanned<raw::Pool>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<Balance> {
    let chosen = raw.balance.as_ref().map(|balance| balance.value);
    match (chosen, &raw.hash) {
        (Some(raw::Balance::Hash), Some(hash)) => hash_balance(hash, &at.key("hash"), problems),
        (Some(raw::Balance::Hash), None) => {
            let help =
                "hash = { cookie = \"user\" }, { header = \"X-User\" } or { client = \"ip\" }".to_owned();
            problems.missing(&raw.span, at, "balance = \"hash\" needs a key", help);
            None
        }
        (_, Some(hash)) => {
            let help = "balance = \"hash\"".to_owned();
            problems.error(&hash.span, &at.key("hash"), "a key without balancing by it", help);
            None
        }
        (None, None) => Some(defaults::BALANCE),
        (Some(raw::Balance::LeastRequest), None) => Some(Balance::LeastRequest),
        (Some(raw::Balance::RoundRobin), None) => Some(Balance::RoundRobin),
    }
}

fn hash_balance(
    raw: &Spanned<raw::HashBalance>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Balance> {
    let raw::HashBalance { cookie, header, client, max_load } = &raw.value;
    let key = request_key::key(Written { cookie, header, client }, &raw.span, at, problems)?;
    let percent = f64::from(defaults::MAX_LOAD);
    let max_load = value::real(max_load, 1.0..=100.0, percent / 100.0, &at.key("max_load"), problems);
    Some(Balance::Hash(HashBalance { key, max_load: (max_load * 100.0).round() as u32 }))
}

fn drain(raw: &raw::Pool, at: &Pointer<'_>, problems: &mut Problems<'_>) -> DrainSettings {
    let default = DrainSettings::default();
    DrainSettings {
        deadline: value::pause(&raw.drain_deadline, default.deadline, &at.key("drain_deadline"), problems),
        stream_deadline: value::pause(
            &raw.stream_drain_deadline,
            default.stream_deadline,
            &at.key("stream_drain_deadline"),
            problems,
        ),
    }
}

fn endpoints(
    raw: &[Spanned<raw::Endpoint>],
    own: &HashSet<SocketAddr>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Vec<EndpointSettings> {
    limit(raw, defaults::MAX_ENDPOINTS, |endpoint| endpoint.span.clone(), at, problems);
    let mut seen = Seen::default();
    let mut endpoints = Vec::with_capacity(raw.len());
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        let Some(endpoint) = endpoint(raw, &at, problems) else { continue };
        let what = format!("the endpoint {}", endpoint.address);
        if seen.is_new(endpoint.address.clone(), &what, &raw.span, &at, problems) {
            endpoints.push(endpoint.clone());
        }
        if endpoint.address.socket().is_some_and(|address| own.contains(&address)) {
            let help = "its requests come back until they are cut off".to_owned();
            problems.warning(&raw.span, &at, "this endpoint is a listener of this file", help);
        }
    }
    endpoints
}

fn endpoint(
    raw: &Spanned<raw::Endpoint>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<EndpointSettings> {
    let spanned = |value: &String| Spanned { span: raw.span.clone(), value: value.clone() };
    let (address, weight, drain) = match &raw.value {
        raw::Endpoint::Address(address) => (endpoint_address(&spanned(address), at, problems), None, None),
        raw::Endpoint::Table(raw::EndpointTable { address, weight, drain }) => {
            let address = address.as_ref();
            let address =
                address.and_then(|address| endpoint_address(&spanned(address), &at.key("address"), problems));
            (address, *weight, *drain)
        }
    };
    let weight = match weight {
        None => Some(defaults::ENDPOINT_WEIGHT),
        Some(weight) => {
            let weight = Spanned { span: raw.span.clone(), value: weight };
            value::within(&weight, 0..=u64::from(Weights::MAX), &at.key("weight"), problems)
                .and_then(|weight| u32::try_from(weight).ok())
        }
    };
    Some(EndpointSettings { address: address?, weight: weight?, is_drained: drain.unwrap_or(false) })
}

fn endpoint_address(
    text: &Spanned<String>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<EndpointAddress> {
    let address = text.parse::<EndpointAddress>();
    if let Err(error) = &address {
        let help = "the address and port that the application listens on, such as \"127.0.0.1:9001\", or a name: \
                    \"app.internal:8080\", \"srv:_http._tcp.app.internal\"";
        let message = format!("\"{}\": {error}", shortened(text));
        problems.error(&text.span, at, message, help.to_owned());
    }
    address.ok()
}
