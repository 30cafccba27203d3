//! Pools and their endpoints.

use std::{collections::HashSet, net::SocketAddr};

use super::{Seen, limit, value};
use crate::{
    config::{
        defaults,
        pointer::Pointer,
        problems::Problems,
        raw,
        settings::{Balance, EndpointAddress, EndpointSettings, Pool},
        shape::shortened,
        spanned::{Entries, Spanned},
    },
    model::weights::Weights,
};

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
    let balance = raw.balance.as_ref().map_or(defaults::BALANCE, |balance| match balance.value {
        raw::Balance::LeastRequest => Balance::LeastRequest,
        raw::Balance::RoundRobin => Balance::RoundRobin,
    });
    Some(Pool { balance, connect_timeout, idle_timeout, max_idle, ..Pool::new(name?, endpoints) })
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
    let (address, weight) = match &raw.value {
        raw::Endpoint::Address(address) => (endpoint_address(&spanned(address), at, problems), None),
        raw::Endpoint::Weighted(raw::WeightedEndpoint { address, weight }) => {
            let address = address.as_ref();
            let address =
                address.and_then(|address| endpoint_address(&spanned(address), &at.key("address"), problems));
            (address, *weight)
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
    Some(EndpointSettings { weight: weight?, ..EndpointSettings::new(address?) })
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
