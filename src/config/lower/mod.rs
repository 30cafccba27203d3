//! From what is written to what is meant: lowers the raw mirror into the validated [`Config`], once.
//!
//! Every function here reports what is wrong and goes on with what is left, so that one reading finds everything.
//! What they answer counts only if nothing was reported.

mod access;
mod access_log;
mod action;
mod dns;
mod headers;
mod host;
mod listener;
mod path;
mod pool;
mod rate_limit;
mod request_key;
mod route;
mod split;
mod sticky;
mod tls;
mod unused;
mod value;

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
};

use super::{
    defaults,
    pointer::Pointer,
    problems::Problems,
    raw,
    settings::{Config, Shutdown, StatePlace},
    spanned::{Entries, Spanned},
};

/// Lowers a file.
pub(super) fn lower(file: &raw::File, problems: &mut Problems<'_>) -> Config {
    let root = Pointer::Root;
    let workers = file.workers.as_ref().and_then(|workers| {
        let count = value::within(workers, 1..=defaults::MAX_WORKERS, &root.key("workers"), problems)?;
        NonZeroUsize::new(usize::try_from(count).ok()?)
    });
    let declared_listeners = file.listener.as_ref().map_or(&[][..], |list| list.as_slice());
    let admin = file
        .admin
        .as_ref()
        .and_then(|raw| access::admin(raw, declared_listeners, &root.key("admin"), problems));
    if let Some(list) = file.listener.as_ref().filter(|list| list.is_empty()) {
        let help = "a proxy without one would serve nobody: begin with [[listener]]".to_owned();
        problems.error(&list.span, &root.key("listener"), "there is no listener", help);
    }
    let listeners = listener::all(declared_listeners, &root.key("listener"), problems);
    let pools = pool::all(&file.pool, declared_listeners, &root.key("pool"), problems);
    dns::limit_names(&pools, &file.pool, &root.key("pool"), problems);
    let declared = Declared { pools: Names::of("pool", &file.pool), splits: Names::of("split", &file.split) };
    let splits = split::all(&file.split, &declared.pools, &root.key("split"), problems);
    let routes = route::all(&file.route, &declared, &root.key("route"), problems);
    unused::warn(file, problems);
    let access_log =
        file.access_log.as_ref().and_then(|raw| access_log::settings(raw, &root.key("access_log"), problems));
    Config {
        text: Arc::default(),
        references: Arc::default(),
        workers,
        admin,
        admin_tls: file
            .admin
            .as_ref()
            .and_then(|raw| access::tls(raw, &root.key("admin"), problems))
            .map(Arc::new),
        admin_roles: file
            .admin
            .as_ref()
            .map_or_else(Default::default, |raw| access::roles(raw, &root.key("admin"), problems)),
        tokens: file.admin.as_ref().and_then(|raw| access::tokens(raw, &root.key("admin"), problems)),
        health: file.health.as_ref().and_then(|raw| {
            access::health(raw, file.admin.as_ref(), declared_listeners, &root.key("health"), problems)
        }),
        required_pools: file.health.as_ref().map_or_else(Vec::new, |raw| {
            access::required_pools(raw, &declared.pools, &root.key("health"), problems)
        }),
        require_if_match: file.admin.as_ref().and_then(|raw| raw.require_if_match).unwrap_or(false),
        state: file.state.as_ref().and_then(|raw| state(raw, &root.key("state"), problems)),
        listeners: listeners.into_iter().map(Arc::new).collect(),
        pools: pools.into_iter().map(Arc::new).collect(),
        splits: splits.into_iter().map(Arc::new).collect(),
        routes: routes.into_iter().map(Arc::new).collect(),
        dns: dns::settings(file.dns.as_ref(), &root.key("dns"), problems),
        pins: sticky::pins(file.pins.as_ref(), &root.key("pins"), problems),
        access_log,
        shutdown: shutdown(file.shutdown.as_ref(), &root.key("shutdown"), problems),
    }
}

fn state(raw: &Spanned<raw::State>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<StatePlace> {
    let path = raw.path.as_ref()?;
    let at = at.key("path");
    if path.is_empty() {
        problems.error(&path.span, &at, "the path is empty", "a file, or \":memory:\"".to_owned());
        return None;
    }
    Some(match path.as_str() {
        ":memory:" => StatePlace::Memory,
        path => StatePlace::File(PathBuf::from(path)),
    })
}

fn shutdown(raw: Option<&Spanned<raw::Shutdown>>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Shutdown {
    let mut shutdown = Shutdown { delay: defaults::SHUTDOWN_DELAY, deadline: defaults::SHUTDOWN_DEADLINE };
    if let Some(raw) = raw {
        shutdown.delay = value::pause(&raw.delay, shutdown.delay, &at.key("delay"), problems);
        shutdown.deadline = value::pause(&raw.deadline, shutdown.deadline, &at.key("deadline"), problems);
    }
    shutdown
}

/// The names that routes and splits may refer to.
#[derive(Debug)]
struct Declared<'f> {
    pools: Names<'f>,
    splits: Names<'f>,
}

/// The names of a kind, in the file's order.
#[derive(Debug)]
struct Names<'f> {
    kind: &'static str,
    listed: Vec<&'f str>,
    set: HashSet<&'f str>,
}

impl<'f> Names<'f> {
    fn of<T>(kind: &'static str, entries: &'f Entries<T>) -> Self {
        let listed: Vec<_> = entries.iter().map(|(name, _)| name.as_str()).collect();
        Self { kind, set: listed.iter().copied().collect(), listed }
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn has(&self, name: &str) -> bool {
        self.set.contains(name)
    }

    fn iter(&self) -> impl Iterator<Item = &'f str> + Clone + '_ {
        self.listed.iter().copied()
    }
}

/// Reports a list or table that has more entries than its limit; `span` is that of the first one over it.
fn limit<T>(
    entries: &[T],
    most: usize,
    span: impl Fn(&T) -> std::ops::Range<usize>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) {
    if let Some(first) = entries.get(most) {
        let message = format!("{} entries are too many", entries.len());
        problems.error(&span(first), at, message, format!("at most {most}"));
    }
}

/// Remembers where names and addresses were first given, to report the second time.
#[derive(Debug)]
struct Seen<K>(HashMap<K, usize>);

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: std::hash::Hash + Eq> Seen<K> {
    /// Whether it is new; else an error is reported that says where it was first given.
    fn is_new(
        &mut self,
        key: K,
        what: &str,
        span: &std::ops::Range<usize>,
        at: &Pointer<'_>,
        problems: &mut Problems<'_>,
    ) -> bool {
        if let Some(first) = self.0.get(&key) {
            let line = problems.source().line_of(*first) + 1;
            problems.error(span, at, format!("{what} is given twice"), format!("first in line {line}"));
            return false;
        }
        self.0.insert(key, span.start);
        true
    }
}
