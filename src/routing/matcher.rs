//! From a request to the first route that takes it, by the precedence of the Gateway API's HTTPRoute.
//!
//! Invariant: the order is exact host, wildcard host (longer first), any host; within a host exact path, then prefix
//! (longer first); within a path a method, then more header matches, then more query matches, then the file's order.
//! A host whose routes don't hold leaves the request to the next less specific one. The cost of a look-up depends on
//! the request and on the routes that share its host and path, not on how many routes there are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
    ops::ControlFlow,
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    path_tree::{Hit, PathTrees, Pattern, Root},
    predicates,
    request_view::RequestView,
    table::Route,
};
use crate::{
    config::{HostPattern, PathPattern, RouteMatch},
    model::path,
};

/// The compiled matches of all routes.
#[derive(Debug, Default)]
pub(super) struct Matcher {
    exact: Hosts,
    /// By the suffix with its first dot.
    wildcard: Hosts,
    any: Option<Root>,
    paths: PathTrees,
    /// Whether any route reads `//` as `/`.
    merges_slashes: bool,
}

type Hosts = HashMap<Box<str>, Root, BuildHasherDefault<HostHasher>>;

/// How specific the host of a match is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostRank<'a> {
    /// The request's own host.
    Exact,
    /// This suffix of it.
    Wildcard(&'a str),
    /// Every host.
    Any,
}

impl Matcher {
    /// Compiles the matches of routes, given in the file's order.
    pub fn new(routes: &[Route]) -> Self {
        // By whether it is a wildcard, and the text.
        let mut hosts: BTreeMap<Option<(bool, &str)>, BTreeMap<&str, Pattern>> = BTreeMap::new();
        let mut by_specificity: Vec<u32> =
            (0..u32::try_from(routes.len()).expect("far fewer routes")).collect();
        let matches = |route: u32| &routes[route as usize].settings.matches;
        by_specificity.sort_by_key(|route| specificity(matches(*route), *route));
        for route in by_specificity {
            let matches = matches(route);
            let every_host = matches.hosts.is_empty().then_some(None);
            for host in matches.hosts.iter().map(|host| Some(host_key(host))).chain(every_host) {
                let patterns = hosts.entry(host).or_default();
                match &matches.path {
                    PathPattern::Exact(text) => patterns.entry(text).or_default().exact.push(route),
                    PathPattern::Prefix(text) => patterns.entry(text).or_default().prefix.push(route),
                }
            }
        }
        let mut matcher = Self {
            merges_slashes: routes.iter().any(|route| route.settings.merge_slashes),
            ..Self::default()
        };
        for (host, patterns) in hosts {
            let patterns: Vec<_> = patterns.into_iter().collect();
            let root = matcher.paths.add(&patterns);
            match host {
                Some((false, host)) => _ = matcher.exact.insert(host.into(), root),
                Some((true, suffix)) => _ = matcher.wildcard.insert(suffix.into(), root),
                None => matcher.any = Some(root),
            }
        }
        matcher
    }

    /// The first route that takes a request.
    #[inline]
    pub fn find(&self, routes: &[Route], request: &impl RequestView) -> Option<usize> {
        let found = self.visit(routes, request.host(), request.path(), |_, route| {
            match predicates::hold(&routes[route].settings.matches, request) {
                true => ControlFlow::Break(route),
                false => ControlFlow::Continue(()),
            }
        });
        found.break_value()
    }

    /// Shows the routes whose host and path take a request, in the order of their precedence, until told to stop.
    #[inline]
    pub fn visit<'h, B>(
        &self,
        routes: &[Route],
        host: &'h str,
        path: &[u8],
        mut show: impl FnMut(HostRank<'h>, usize) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let merged = self.merged(path);
        for (rank, root) in self.roots(host) {
            match &merged {
                None => {
                    for hit in self.paths.hits(root, path) {
                        for route in hit.routes {
                            show(rank, *route as usize)?;
                        }
                    }
                }
                Some(merged) => {
                    for route in self.with_merged(routes, root, path, merged) {
                        show(rank, route)?;
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The path with its slashes merged, if it has any to merge and a route wants it so.
    #[inline]
    fn merged(&self, path: &[u8]) -> Option<Vec<u8>> {
        if !self.merges_slashes {
            return None;
        }
        let mut merged = Vec::new();
        path::merge_slashes(path, &mut merged).then_some(merged)
    }

    /// The candidates under one host when a path reads differently to routes that merge slashes. Rare, so it may
    /// allocate.
    #[cold]
    fn with_merged(&self, routes: &[Route], root: Root, path: &[u8], merged: &[u8]) -> Vec<usize> {
        let of = |path: &[u8], merges: bool| {
            let hits: Vec<Hit<'_>> = self.paths.hits(root, path).collect();
            hits.into_iter()
                .flat_map(move |hit| hit.routes.iter().map(move |route| (hit.rank, *route)))
                .filter(move |(_, route)| routes[*route as usize].settings.merge_slashes == merges)
                .collect::<Vec<_>>()
        };
        let mut candidates = of(path, false);
        candidates.extend(of(merged, true));
        candidates.sort_by_key(|(rank, route)| {
            (Reverse(*rank), specificity(&routes[*route as usize].settings.matches, *route))
        });
        candidates.into_iter().map(|(_, route)| route as usize).collect()
    }

    /// The trees of the patterns that take a host, most specific first.
    #[inline]
    fn roots<'a, 'h>(&'a self, host: &'h str) -> impl Iterator<Item = (HostRank<'h>, Root)> + use<'a, 'h> {
        let exact = self.exact.get(host).map(|root| (HostRank::Exact, *root));
        // The scan is lazy: a request that its own host takes never looks for wildcards.
        let dots = (!self.wildcard.is_empty()).then(|| host.match_indices('.')).into_iter().flatten();
        let wildcard = dots.filter(|(at, _)| *at > 0).filter_map(|(at, _)| {
            let suffix = &host[at..];
            self.wildcard.get(suffix).map(|root| (HostRank::Wildcard(suffix), *root))
        });
        let any = self.any.map(|root| (HostRank::Any, root));
        exact.into_iter().chain(wildcard).chain(any)
    }
}

fn host_key(host: &HostPattern) -> (bool, &str) {
    match host {
        HostPattern::Exact(host) => (false, host),
        HostPattern::Wildcard(suffix) => (true, suffix),
    }
}

/// The order of routes with the same host and path: smaller is tried first.
fn specificity(matches: &RouteMatch, route: u32) -> (bool, Reverse<usize>, Reverse<usize>, u32) {
    (matches.methods.is_empty(), Reverse(matches.headers.len()), Reverse(matches.query.len()), route)
}

/// XXH3 over a host. The set of hosts comes from the file and clients only look up, so no client can make it collide.
#[derive(Debug, Default)]
struct HostHasher(u64);

impl Hasher for HostHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// A text ends its hash with one fixed byte, which tells nothing.
    #[inline]
    fn write_u8(&mut self, _: u8) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
