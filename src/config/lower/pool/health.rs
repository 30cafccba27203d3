//! How a pool's endpoints are probed.

use super::value;
use crate::config::{
    defaults,
    pointer::Pointer,
    problems::Problems,
    raw,
    settings::{HealthCheck, HttpProbe, Probe},
    shape::shortened,
    spanned::Spanned,
};

/// The fields that an http probe sets by itself, or that would make its message another one.
const OWN_FIELDS: &[&str] = &["host", "connection", "content-length", "transfer-encoding", "upgrade"];

pub(super) fn check(
    raw: &Spanned<raw::HealthCheck>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<HealthCheck> {
    let probe = probe(raw, at, problems);
    let time = |text, default, key, problems: &mut Problems<'_>| {
        value::timeout(text, default, &at.key(key), problems)
    };
    let streak = |number, default, key, problems: &mut Problems<'_>| {
        value::small(number, 1..=defaults::MAX_STREAK, default, &at.key(key), problems)
    };
    let interval = time(&raw.interval, defaults::HEALTH_INTERVAL, "interval", problems);
    let port = raw.port.as_ref().and_then(|port| value::within(port, 1..=65535, &at.key("port"), problems));
    Some(HealthCheck {
        interval,
        // A pool that is probed often is probed as often while it is down.
        down_interval: time(
            &raw.down_interval,
            defaults::HEALTH_DOWN_INTERVAL.min(interval),
            "down_interval",
            problems,
        ),
        timeout: time(&raw.timeout, defaults::HEALTH_TIMEOUT, "timeout", problems),
        healthy_after: streak(&raw.healthy_after, defaults::HEALTHY_AFTER, "healthy_after", problems),
        unhealthy_after: streak(&raw.unhealthy_after, defaults::UNHEALTHY_AFTER, "unhealthy_after", problems),
        port: port.and_then(|port| u16::try_from(port).ok()),
        probe: probe?,
    })
}

fn probe(raw: &Spanned<raw::HealthCheck>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<Probe> {
    let wants_tcp = raw.tcp.as_ref().is_some_and(|tcp| tcp.value);
    let probe = match (&raw.http, wants_tcp, &raw.grpc) {
        (Some(path), false, None) => return http(raw, path, at, problems).map(Probe::Http),
        (None, true, None) => Probe::Tcp,
        (None, false, Some(service)) => {
            if let Some(fault) = value::field_value_fault(service) {
                problems.error(&service.span, &at.key("grpc"), "no name of a service", fault.to_owned());
            }
            Probe::Grpc { service: service.as_str().into() }
        }
        _ => {
            let help = "http = \"/healthz\", tcp = true or grpc = \"\"".to_owned();
            problems.missing(&raw.span, at, "a check is one of http, tcp and grpc", help);
            return None;
        }
    };
    let of_http = [
        ("method", raw.method.is_some()),
        ("status", !raw.status.is_empty()),
        ("body", raw.body.is_some()),
        ("headers", raw.headers.iter().next().is_some()),
        ("host", raw.host.is_some()),
    ];
    for (key, _) in of_http.iter().filter(|(_, is_given)| *is_given) {
        let help = "take it out, or ask by http".to_owned();
        problems.error(&raw.span, &at.key(key), format!("\"{key}\" is of http checks alone"), help);
    }
    Some(probe)
}

fn http(
    raw: &raw::HealthCheck,
    path: &Spanned<String>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<HttpProbe> {
    let is_path = path.starts_with('/')
        && path.len() <= defaults::MAX_TEXT_BYTES
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_path {
        let help = "a path that begins with /, and perhaps a query: \"/healthz?full=1\"".to_owned();
        problems.error(&path.span, &at.key("http"), format!("\"{}\" is no path", shortened(path)), help);
    }
    let method = raw.method.as_ref().map_or("GET", |method| {
        if !value::is_token(method) || matches!(method.as_str(), "CONNECT" | "TRACE") {
            let help = "GET, HEAD, OPTIONS or POST".to_owned();
            problems.error(&method.span, &at.key("method"), "this method can't probe", help);
        }
        method.as_str()
    });
    let mut headers = Vec::new();
    for (name, text) in raw.headers.iter() {
        let headers_at = at.key("headers");
        let at = headers_at.key(name);
        if !value::is_token(name) || OWN_FIELDS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            let help =
                "a field name other than Host (see `host`) and those that frame the message".to_owned();
            problems.error(&name.span, &at, format!("\"{}\" can't be sent", shortened(name)), help);
        }
        if let Some(fault) = value::field_value_fault(text) {
            problems.error(&text.span, &at, "this value can't be sent", fault.to_owned());
        }
        headers.push((name.as_str().into(), text.as_str().into()));
    }
    for (text, key) in [(&raw.host, "host"), (&raw.body, "body")] {
        if let Some(text) = text
            && let Some(fault) = value::field_value_fault(text).filter(|_| key == "host" || text.is_empty())
        {
            problems.error(&text.span, &at.key(key), "this can't be used", fault.to_owned());
        }
    }
    let given = raw.status.iter().enumerate();
    let status_at = at.key("status");
    let status: Vec<_> =
        given.filter_map(|(index, raw)| status(raw, &status_at.index(index), problems)).collect();
    Some(HttpProbe {
        method: method.into(),
        path: path.as_str().into(),
        host: raw.host.as_ref().map(|host| host.as_str().into()),
        headers,
        status: if raw.status.is_empty() { vec![(200, 299)] } else { status },
        body: raw.body.as_ref().map(|body| body.as_str().into()),
    })
}

fn status(raw: &Spanned<raw::Status>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<(u16, u16)> {
    let one = |text: &str| text.trim().parse::<u16>().ok();
    let range = match &raw.value {
        raw::Status::One(status) => u16::try_from(*status).ok().map(|status| (status, status)),
        raw::Status::Range(text) => match text.split_once('-') {
            Some((first, last)) => one(first).zip(one(last)),
            None => one(text).map(|status| (status, status)),
        },
    };
    let range = range.filter(|(first, last)| first <= last && *first >= 200 && *last <= 599);
    if range.is_none() {
        let help = "statuses from 200 to 599: 204, \"200-299\"".to_owned();
        problems.error(&raw.span, at, "no status, and no range of statuses", help);
    }
    range
}
