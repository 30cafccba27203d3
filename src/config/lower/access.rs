//! Where the admin API is reached, by whom, the address beside it for probes and scrapers, and what readiness needs.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use super::{Names, Seen, limit, listener, tls, value};
use crate::{
    config::{
        defaults,
        pointer::Pointer,
        problems::Problems,
        raw,
        settings::{AdminAddress, TlsSettings},
        spanned::Spanned,
    },
    model::{name::Name, role::Role},
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
    if !address.ip().is_loopback() && !is_guarded(raw) {
        problems.error(
            &listen.span,
            &at,
            "the admin API leaves loopback only over TLS, and only to those who prove who they are",
            "whoever reaches it can move all traffic: give it `tls` and, beside that, `tokens` or `client_ca` in `tls`, without \
             client_auth = \"optional\". Or write \"127.0.0.1:9900\" or \"unix:/run/switchback/admin.sock\", reach that through \
             ssh -L, and give probes and scrapers [health] listen"
                .to_owned(),
        );
        return None;
    }
    listener::not_within(address, &listener::addresses(listeners), &listen.span, &at, problems);
    Some(AdminAddress::Tcp(address))
}

/// Whether nobody calls in the clear, nor without a proof of who it is.
fn is_guarded(raw: &raw::Admin) -> bool {
    let asks = |tls: &Spanned<raw::AdminTls>| {
        let is_optional = |auth: &Spanned<_>| matches!(auth.value, raw::ClientAuth::Optional);
        tls.client_ca.is_some() && !tls.client_auth.as_ref().is_some_and(is_optional)
    };
    raw.tls.as_ref().is_some_and(|tls| raw.tokens.is_some() || asks(tls))
}

/// The TLS of the admin API.
pub(super) fn tls(
    raw: &Spanned<raw::Admin>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<TlsSettings> {
    let given = raw.tls.as_ref()?;
    let at = at.key("tls");
    if raw.listen.as_ref().is_some_and(|listen| listen.starts_with("unix:")) {
        let help = "what is written to it never leaves this machine: take the key out".to_owned();
        problems.error(&given.span, &at, "\"tls\" has no meaning on a unix socket", help);
    }
    tls::of_admin(given, &at, problems)
}

/// What callers may by their certificates.
pub(super) fn roles(
    raw: &Spanned<raw::Admin>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, Role> {
    let Some(tls) = &raw.tls else { return BTreeMap::new() };
    let at = at.key("tls");
    let at = at.key("client_roles");
    let mut roles = BTreeMap::new();
    limit(&tls.client_roles, defaults::MAX_CLIENT_ROLES, |(name, _)| name.span.clone(), &at, problems);
    for (name, role) in tls.client_roles.iter() {
        let at = at.key(name);
        if tls.client_ca.is_none() {
            let help =
                "client_ca = \"ca.pem\" names the authorities whose certificates callers show".to_owned();
            problems.error(&name.span, &at, "nobody is asked for a certificate", help);
        }
        match role.parse() {
            Ok(role) => drop(roles.insert(name.to_string(), role)),
            Err(help) => problems.error(&role.span, &at, "this is no role", help),
        }
    }
    roles
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
