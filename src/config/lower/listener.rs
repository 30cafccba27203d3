//! Listeners.

use std::{net::SocketAddr, sync::Arc};

use ipnet::IpNet;

use super::{Seen, host, limit, tls, value};
use crate::config::{
    defaults, pointer::Pointer, problems::Problems, raw, settings::Listener, shape::shortened,
    spanned::Spanned,
};

pub(super) fn all(
    raw: &[Spanned<raw::Listener>],
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Vec<Listener> {
    limit(raw, defaults::MAX_LISTENERS, |listener| listener.span.clone(), at, problems);
    let (mut names, mut addresses) = (Seen::default(), Seen::default());
    let mut listeners = Vec::new();
    let mut taken: Vec<(SocketAddr, usize)> = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        if let Some(name) = &raw.name {
            names.is_new(name.as_str(), "this listener's name", &name.span, &at.key("name"), problems);
        }
        // Port 0 is another port each time.
        let address = |text: &Spanned<String>| text.parse::<SocketAddr>().ok().filter(|it| it.port() != 0);
        if let Some(listen) = &raw.listen
            && let Some(address) = address(listen)
        {
            let what = format!("the address {address}");
            if addresses.is_new(address, &what, &listen.span, &at.key("listen"), problems) {
                not_within(address, &taken, &listen.span, &at.key("listen"), problems);
                taken.push((address, listen.span.start));
            }
        }
        listeners.extend(one(raw, &at, problems));
    }
    listeners
}

/// Reports an address that an earlier one covers, or that covers it: connections would go now to the one and now to
/// the other, or the second could not be had at all.
pub(super) fn not_within(
    address: SocketAddr,
    taken: &[(SocketAddr, usize)],
    span: &std::ops::Range<usize>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) {
    if let Some((other, first)) = taken.iter().find(|(other, _)| overlap(address, *other)) {
        let line = problems.source().line_of(*first) + 1;
        let help = format!("{other} in line {line} has it already: take another port");
        problems.error(span, at, format!("the address {address} is not free"), help);
    }
}

/// Whether two addresses would take the same connections. `[::]` takes those of IPv4 as well.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: SocketAddr, narrow: SocketAddr| {
        wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
}

/// The addresses of listeners that could be read, with where they stand.
pub(super) fn addresses(raw: &[Spanned<raw::Listener>]) -> Vec<(SocketAddr, usize)> {
    let listens = raw.iter().filter_map(|listener| listener.listen.as_ref());
    listens.filter_map(|listen| Some((listen.parse().ok()?, listen.span.start))).collect()
}

fn one(raw: &Spanned<raw::Listener>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<Listener> {
    let name = raw.name.as_ref().and_then(|text| value::name(text, &at.key("name"), problems));
    let address = raw.listen.as_ref().and_then(|text| value::address(text, &at.key("listen"), problems));
    let trusted_proxies = networks(&raw.trusted_proxies, &at.key("trusted_proxies"), problems);
    let default_host =
        raw.default_host.as_ref().and_then(|text| host::exact(text, &at.key("default_host"), problems));
    let timeout =
        |text, default, key: &str, problems: &mut _| value::timeout(text, default, &at.key(key), problems);
    let head = timeout(&raw.head_timeout, defaults::HEAD_TIMEOUT, "head_timeout", problems);
    let keep_alive =
        timeout(&raw.keep_alive_timeout, defaults::KEEP_ALIVE_TIMEOUT, "keep_alive_timeout", problems);
    let body = timeout(&raw.body_timeout, defaults::BODY_TIMEOUT, "body_timeout", problems);
    let write = timeout(&raw.write_timeout, defaults::WRITE_TIMEOUT, "write_timeout", problems);
    let max_connections = value::count(
        &raw.max_connections,
        1..=defaults::MAX_MAX_CONNECTIONS,
        defaults::MAX_CONNECTIONS,
        &at.key("max_connections"),
        problems,
    );
    let max_requests = value::count(
        &raw.max_requests,
        1..=defaults::MAX_MAX_CONNECTIONS,
        defaults::MAX_REQUESTS,
        &at.key("max_requests"),
        problems,
    );
    let http2 = raw.http2.unwrap_or(defaults::HTTP2);
    let http2_max_streams = value::count(
        &raw.http2_max_streams,
        1..=defaults::MAX_HTTP2_STREAMS,
        defaults::HTTP2_STREAMS,
        &at.key("http2_max_streams"),
        problems,
    );
    let of = name.as_ref().map_or_else(String::new, |name| format!("listener {name}: "));
    let tls = raw.tls.as_ref().and_then(|raw| tls::settings(raw, &of, http2, &at.key("tls"), problems));
    let redirect_to_https = redirect_to_https(raw, &at.key("redirect_to_https"), problems);
    Some(Listener {
        name: name?,
        address: address?,
        trusted_proxies,
        default_host,
        allow_underscores: raw
            .underscores
            .as_ref()
            .is_some_and(|choice| matches!(choice.value, raw::Underscores::Allow)),
        max_connections,
        max_requests,
        head_timeout: head,
        keep_alive_timeout: keep_alive,
        body_timeout: body,
        write_timeout: write,
        http2,
        http2_max_streams,
        redirect_to_https,
        tls: tls.map(Arc::new),
    })
}

fn redirect_to_https(
    raw: &Spanned<raw::Listener>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<u16> {
    let port = raw.redirect_to_https.as_ref()?;
    if raw.tls.is_some() {
        let help = "it is for a listener of plain HTTP: take it out here".to_owned();
        problems.error(&port.span, at, "this listener speaks HTTPS itself", help);
        return None;
    }
    value::within(port, 1..=65_535, at, problems).and_then(|port| u16::try_from(port).ok())
}

fn networks(raw: &[Spanned<String>], at: &Pointer<'_>, problems: &mut Problems<'_>) -> Vec<IpNet> {
    limit(raw, defaults::MAX_TRUSTED_PROXIES, |text| text.span.clone(), at, problems);
    let mut networks = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        // A single address is a network of one.
        let parsed = text
            .parse::<IpNet>()
            .or_else(|error| text.parse::<std::net::IpAddr>().map(IpNet::from).map_err(|_| error));
        match parsed {
            Ok(network) if network.trunc() != network => {
                let message = format!("\"{}\" has bits set beyond its prefix", shortened(text));
                let help = format!("did you mean \"{}\"?", network.trunc());
                problems.error(&text.span, &at.index(index), message, help);
            }
            Ok(network) => networks.push(network),
            Err(_) => {
                let message = format!("\"{}\" is no network", shortened(text));
                let help = "an address and the length of its prefix, such as \"10.0.0.0/8\"".to_owned();
                problems.error(&text.span, &at.index(index), message, help);
            }
        }
    }
    networks
}
