//! How names are resolved, and how many there may be.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use super::{limit, value};
use crate::config::{
    defaults,
    pointer::Pointer,
    problems::Problems,
    raw,
    settings::{Dns, DnsFamily, Pool},
    shape::shortened,
    spanned::{Entries, Spanned},
};

/// The port of name servers.
const PORT: u16 = 53;

pub(super) fn settings(
    raw: Option<&Spanned<raw::Dns>>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Dns {
    let default = Dns::default();
    let Some(raw) = raw else { return default };
    let min_ttl = value::timeout(&raw.min_ttl, default.min_ttl, &at.key("min_ttl"), problems);
    let max_ttl = value::timeout(&raw.max_ttl, default.max_ttl, &at.key("max_ttl"), problems);
    if min_ttl > max_ttl {
        let help =
            "names are asked again after their time to live, but not before `min_ttl` nor after `max_ttl`";
        problems.error(&raw.span, at, "`min_ttl` is longer than `max_ttl`", help.to_owned());
    }
    if min_ttl < defaults::DNS_LOWEST_TTL
        && let Some(text) = &raw.min_ttl
    {
        problems.error(&text.span, &at.key("min_ttl"), "too short", "at least 10ms".to_owned());
    }
    let family = raw.family.as_ref().map_or(default.family, |family| match family.value {
        raw::DnsFamily::Any => DnsFamily::Any,
        raw::DnsFamily::Ipv4 => DnsFamily::Ipv4,
        raw::DnsFamily::Ipv6 => DnsFamily::Ipv6,
    });
    Dns {
        servers: servers(&raw.servers, &at.key("servers"), problems),
        family,
        min_ttl,
        max_ttl,
        timeout: value::timeout(&raw.timeout, default.timeout, &at.key("timeout"), problems),
    }
}

fn servers(raw: &[Spanned<String>], at: &Pointer<'_>, problems: &mut Problems<'_>) -> Vec<SocketAddr> {
    limit(raw, defaults::MAX_DNS_SERVERS, |text| text.span.clone(), at, problems);
    let mut servers = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        let with_port = || text.parse::<SocketAddr>().ok().filter(|address| address.port() > 0);
        let without = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT));
        let server = with_port().or_else(without).filter(|address| !address.ip().is_unspecified());
        if server.is_none() {
            let help =
                "an IP address, with a port where it is not 53: \"10.0.0.2\", \"127.0.0.1:5353\"".to_owned();
            let message = format!("\"{}\" is no address of a name server", shortened(text));
            problems.error(&text.span, &at.index(index), message, help);
        }
        servers.extend(server);
    }
    servers
}

/// Reports more names of endpoints than are resolved.
pub(super) fn limit_names(
    pools: &[Pool],
    raw: &Entries<raw::Pool>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) {
    let endpoints = pools.iter().flat_map(|pool| &pool.endpoints);
    let names: HashSet<_> =
        endpoints.map(|endpoint| &endpoint.address).filter(|it| it.socket().is_none()).collect();
    if names.len() > defaults::MAX_DNS_NAMES
        && let Some((first, _)) = raw.first()
    {
        let message = format!("{} names of endpoints are too many", names.len());
        problems.error(&first.span, at, message, format!("at most {} in all pools", defaults::MAX_DNS_NAMES));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parsed(dns: &str) -> Result<Dns, String> {
        let file = format!(
            "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:8080\"\n[pool.a]\nendpoints = [\"app:80\"]\n\
             [[route]]\nname = \"r\"\npool = \"a\"\n{dns}"
        );
        crate::config::parse("t.toml", &file)
            .map(|(config, _)| config.dns)
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn what_is_given_is_taken_and_the_rest_is_the_default() {
        assert_eq!(parsed(""), Ok(Dns::default()));
        let dns =
            parsed("[dns]\nservers = [\"10.0.0.2\", \"[::1]:5353\"]\nfamily = \"ipv4\"\nmax_ttl = \"1m\"\n");
        let servers = vec!["10.0.0.2:53".parse().unwrap(), "[::1]:5353".parse().unwrap()];
        let max_ttl = Duration::from_secs(60);
        assert_eq!(dns, Ok(Dns { servers, family: DnsFamily::Ipv4, max_ttl, ..Dns::default() }));
    }

    #[test]
    fn what_nobody_could_be_asked_by_is_refused() {
        for (wrong, said) in [
            ("servers = [\"dns.example\"]", "no address of a name server"),
            ("servers = [\"0.0.0.0\"]", "no address of a name server"),
            ("servers = [\"10.0.0.2:0\"]", "no address of a name server"),
            ("min_ttl = \"1m\"\nmax_ttl = \"10s\"", "longer than"),
            ("min_ttl = \"1ms\"", "too short"),
            ("family = \"both\"", "not allowed here"),
            ("timeout = \"off\"", "can't be turned off"),
        ] {
            let error = parsed(&format!("[dns]\n{wrong}\n")).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }
}
