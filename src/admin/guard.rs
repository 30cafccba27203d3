//! Keeps web pages out of the admin API, which in this version believes whoever can reach it.
//!
//! A page that a person on this machine looks at can make their browser call a loopback address. Two fields that
//! pages can't forge tell such calls apart: `Host` (a page that rebinds its own name in the DNS still sends that
//! name) and `Origin` / `Sec-Fetch-Site` (which browsers set themselves).

use std::net::IpAddr;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{problem::Problem, server::Transport};

/// Lets a request through that is not a web page's doing.
pub async fn guard(State(transport): State<Transport>, request: Request<Body>, next: Next) -> Response {
    match check(transport, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check(transport: Transport, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let host = only(headers, header::HOST.as_str()).map_err(|()| foreign_host())?;
    // No browser speaks to a unix socket, and clients write there what they like. Over TLS, no page's own name has a
    // certificate of ours.
    if transport == Transport::Tcp {
        let authority = uri.authority().map(|authority| authority.as_str());
        let own = host.is_some_and(is_own_host) && authority.is_none_or(is_own_host);
        if !own {
            return Err(foreign_host());
        }
    }
    if let Some(origin) = only(headers, header::ORIGIN.as_str()).map_err(|()| foreign_origin())? {
        let scheme = if transport == Transport::Tls { "https://" } else { "http://" };
        let of = origin.strip_prefix(scheme);
        let own = of.zip(host).is_some_and(|(of, host)| of.eq_ignore_ascii_case(host));
        if !own {
            return Err(foreign_origin());
        }
    }
    match only(headers, "sec-fetch-site").map_err(|()| foreign_origin())? {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err(foreign_origin()),
    }
}

/// The value of a field that may be given once; `Err` if it is repeated or not text.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// Whether a host, with or without a port, names this machine's loopback. The port is not compared: an SSH tunnel
/// ends at another one.
fn is_own_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback() && address.is_ipv6() == name.starts_with('['))
}

fn foreign_host() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "foreign-host",
        "Not this host",
        "the Host field is to name the admin API itself: localhost, 127.0.0.1 or [::1]",
    )
}

fn foreign_origin() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "foreign-origin",
        "Not from another site",
        "web pages of another origin may not call the admin API",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_hosts_are_the_loopback_s_names() {
        for own in
            ["localhost", "LocalHost:9900", "127.0.0.1", "127.0.0.1:1", "127.8.9.1", "[::1]", "[::1]:9900"]
        {
            assert!(is_own_host(own), "{own}");
        }
        for foreign in [
            "",
            ":",
            ":80",
            "evil.example",
            "localhost.evil.example",
            "localhost:9900x",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "[127.0.0.1]",
            "::1",
            "user@localhost",
            "localhost, localhost",
        ] {
            assert!(!is_own_host(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_kept_out() {
        let check = |transport, fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            super::check(transport, &"/v1/status".parse().unwrap(), &headers).is_ok()
        };
        let own = ("host", "127.0.0.1:9900");
        for (fields, through) in [
            (vec![own], true),
            (vec![own, ("origin", "http://127.0.0.1:9900"), ("sec-fetch-site", "same-origin")], true),
            (vec![own, ("sec-fetch-site", "none")], true),
            (vec![], false),
            (vec![own, own], false),
            (vec![("host", "evil.example")], false),
            (vec![own, ("origin", "http://evil.example")], false),
            (vec![own, ("origin", "https://127.0.0.1:9900")], false),
            (vec![own, ("origin", "http://127.0.0.1:3000")], false),
            (vec![own, ("origin", "null")], false),
            (vec![own, ("sec-fetch-site", "cross-site")], false),
            (vec![own, ("sec-fetch-site", "same-site")], false),
        ] {
            assert_eq!(check(Transport::Tcp, &fields), through, "{fields:?}");
        }
        assert!(check(Transport::Unix, &[("host", "switchback")]));
        assert!(check(Transport::Tls, &[("host", "admin.example:9900")]));
        assert!(check(Transport::Tls, &[("host", "admin.example"), ("origin", "https://admin.example")]));
        assert!(!check(Transport::Tls, &[("host", "admin.example"), ("origin", "http://admin.example")]));
        assert!(!check(Transport::Tls, &[("host", "admin.example"), ("origin", "https://evil.example")]));
        assert!(!check(Transport::Unix, &[("host", "x"), ("origin", "http://evil.example")]));
    }
}
