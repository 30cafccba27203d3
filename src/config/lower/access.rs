//! Where the admin API is reached, by whom, the address beside it for probes and scrapers, and what readiness needs.

use std::{net::SocketAddr, path::PathBuf};

use super::{Names, Seen, limit, listener, value};
use crate::{
    config::{defaults, pointer::Pointer, problems::Problems, raw, settings::AdminAddress, spanned::Spanned},
    model::name::Name,
};

pub(super) fn admin(
    raw: &Spanned<raw::Admin>,
    listeners: &[Spanned<raw::Listener>],
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<AdminAddress> {
    let listen = raw.listen.as_ref()?;
    let at = at.key("listen");
    if let Some(path) = listen.strip_prefix("unix:") {
        // The longest path that a socket address of Linux can hold, with its last zero byte.
        const MAX_SOCKET_PATH: usize = 107;
        if path.is_empty() || path.len() > MAX_SOCKET_PATH || path.contains('\0') {
            let help = format!("\"unix:\" and the path of a socket, up to {MAX_SOCKET_PATH} bytes");
            problems.error(&listen.span, &at, "not the path of a unix socket", help);
            return None;
        }
        return Some(AdminAddress::Unix(PathBuf::from(path)));
    }
    let address = value::address(listen, &at, problems)?;
    if !address.ip().is_loopback() {
        problems.error(
            &listen.span,
            &at,
            "the admin API listens on a loopback address or a unix socket alone",
            "whoever reaches it can move all traffic, and a token would cross the network in the clear: other addresses \
             wait for TLS. Write \"127.0.0.1:9900\" or \"unix:/run/switchback/admin.sock\", reach that through ssh -L, and \
             give probes and scrapers [health] listen"
                .to_owned(),
        );
        return None;
    }
    listener::not_within(address, &listener::addresses(listeners), &listen.span, &at, problems);
    Some(AdminAddress::Loopback(address))
}

/// The file of tokens.
pub(super) fn tokens(
    raw: &Spanned<raw::Admin>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<PathBuf> {
    let path = raw.tokens.as_ref()?;
    if path.is_empty() || path.contains('\0') {
        problems.error(
            &path.span,
            &at.key("tokens"),
            "this is no path of a file",
            "such as \"tokens.toml\"".to_owned(),
        );
        return None;
    }
    Some(PathBuf::from(path.as_str()))
}

/// The pools that readiness needs.
pub(super) fn required_pools(
    raw: &Spanned<raw::Probes>,
    pools: &Names<'_>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Vec<Name> {
    if raw.listen.is_none() && raw.requires.is_empty() {
        let help = "listen = \"0.0.0.0:9901\" opens an address for probes; requires = [\"app\"] makes readiness need that pool";
        problems.missing(&raw.span, at, "this table says nothing", help.to_owned());
    }
    let at = at.key("requires");
    limit(&raw.requires, defaults::MAX_REQUIRED_POOLS, |pool| pool.span.clone(), &at, problems);
    let mut seen = Seen::default();
    let mut required = Vec::new();
    for (index, pool) in raw.requires.iter().enumerate() {
        let at = at.index(index);
        let Some(name) = value::reference(pool, pools, &at, problems) else { continue };
        if seen.is_new(name.clone(), &format!("the pool {name}"), &pool.span, &at, problems) {
            required.push(name);
        }
    }
    required
}

/// The second address. It may be any: nothing can be changed there.
pub(super) fn health(
    raw: &Spanned<raw::Probes>,
    admin: Option<&Spanned<raw::Admin>>,
    listeners: &[Spanned<raw::Listener>],
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<SocketAddr> {
    let listen = raw.listen.as_ref()?;
    let at = at.key("listen");
    let address = value::address(listen, &at, problems)?;
    let mut taken = listener::addresses(listeners);
    let of_admin = admin.and_then(|admin| admin.listen.as_ref());
    taken.extend(of_admin.and_then(|text| Some((text.parse().ok()?, text.span.start))));
    listener::not_within(address, &taken, &listen.span, &at, problems);
    Some(address)
}
