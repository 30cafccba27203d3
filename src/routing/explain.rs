//! Why a request would go where it goes, step by step.
//!
//! Invariant: it takes no part. It claims nothing, draws nothing and counts nothing; it reads the same compiled table
//! by the same matcher and the same buckets, so that it cannot tell another story than [`super::select`] acts out.

use std::{fmt::Display, net::SocketAddr, ops::ControlFlow, sync::Arc, time::Instant};

use serde::Serialize;

use super::{
    matcher::HostRank,
    predicates::{self, Lacking},
    request_view::RequestView,
    select::bucketed,
    split_key::{ClientKey, key_of},
    table::{Arm, Pool, Route, Split, Table, Target},
    terms,
};
use crate::{
    config::{Action, HostPattern, PathPattern, Redirect, SplitKey, WhenUnavailable},
    model::{name::Name, path},
    upstream::endpoint::Endpoint,
};

/// How many routes that nearly took a request are told of.
const MAX_NEAR: usize = 20;

/// What a request would get, and why.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Explanation {
    /// The number of the table that decides.
    pub generation: u64,
    /// How it ends.
    pub outcome: Outcome,
    /// The route that takes it.
    pub route: Option<Name>,
    /// The split that the route names.
    pub split: Option<Name>,
    /// The pool, if it is certain: the route names it, a key decides it, or no other one can be drawn.
    pub pool: Option<Name>,
    /// The endpoint, if it is certain: the pool is, and has one that takes requests, or balances by the request's key. The
    /// key's endpoint is left for another one while it has more than its share of the load.
    pub endpoint: Option<SocketAddr>,
    /// The split's pools, and the share of new requests without a key that each gets now.
    pub pools: Vec<PoolShare>,
    /// The endpoints of the pools that the request may get.
    pub endpoints: Vec<Candidate>,
    /// The status of the answer, if Switchback gives it by itself.
    pub status: Option<u16>,
    /// Where the redirect leads.
    pub location: Option<String>,
    /// The path and query that an endpoint is asked for.
    pub target: Option<String>,
    /// The story, in order.
    pub steps: Vec<String>,
}

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is sent to an endpoint.
    Forward,
    /// Switchback answers it with a redirect.
    Redirect,
    /// No route takes it: 404.
    NoRoute,
    /// Its route takes it, but nobody is there to answer: 503.
    Unavailable,
    /// It is refused: before any route is looked for, or because it does not keep to its route's terms.
    Refused,
}

/// A pool's part in a split.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct PoolShare {
    /// The pool.
    pub pool: Name,
    /// The weight in force.
    pub weight: u32,
    /// Whether any of its endpoints takes requests.
    pub available: bool,
    /// The share of drawn requests that it gets now, what others can't take included; from 0 to 1.
    pub share: f64,
}

/// An endpoint that may get the request.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Candidate {
    /// Its pool.
    pub pool: Name,
    /// Its address.
    pub address: SocketAddr,
    /// Its weight in its pool.
    pub weight: u32,
    /// Whether it takes requests: it has a weight, is well and is not draining.
    pub available: bool,
    /// Whether it is draining.
    pub draining: bool,
    /// Whether it is healthy, as far as is known.
    pub healthy: bool,
    /// Whether it is ejected because it misbehaved.
    pub ejected: bool,
    /// What else is known of why it takes no requests; whoever knows adds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Requests in flight.
    pub in_flight: u64,
}

/// Tells what a request would get from a table, and why. `authority` is its host as it was written, with its port.
pub fn explain(table: &Table, request: &impl RequestView, authority: &str) -> Explanation {
    let mut story = Explanation::begin(table, Outcome::NoRoute);
    story.say(format!("generation {} of the routing table decides", table.generation));
    let Some(route) = story.tell_route(table, request) else { return story };
    story.route = Some(route.settings.name.clone());
    let mut is_pinned = false;
    match route.target {
        Target::Redirect => {
            story.tell_redirect(route, request, authority);
        }
        Target::Pool(pool) => {
            story
                .say(format!("route {} names pool {}", route.settings.name, table.pools[pool].settings.name));
            story.tell_endpoints(&[&*table.pools[pool]], true);
        }
        Target::Split(split) => is_pinned = story.tell_split(table, &table.splits[split], request),
    }
    let certain = table.pools.iter().find(|pool| story.pool.as_ref() == Some(&pool.settings.name));
    // A pin's story is whole already.
    if let (Outcome::Forward, Some(pool), false) = (story.outcome, certain, is_pinned) {
        story.tell_balance(pool, request);
    }
    if story.outcome == Outcome::Forward {
        story.tell_terms(route, request);
    }
    story.tell_rate_limit(route, request);
    if story.outcome == Outcome::Forward {
        story.tell_target(route, request);
    }
    story
}

/// Tells of a request that is refused with a status before any route is looked for.
pub fn refused(table: &Table, status: u16, why: impl Display) -> Explanation {
    let mut story = Explanation::begin(table, Outcome::Refused);
    story.status = Some(status);
    story.say(format!("{why}: it is refused with {status} before any route is looked for"));
    story
}

impl Explanation {
    fn begin(table: &Table, outcome: Outcome) -> Self {
        Self {
            generation: table.generation,
            outcome,
            route: None,
            split: None,
            pool: None,
            endpoint: None,
            pools: Vec::new(),
            endpoints: Vec::new(),
            status: None,
            location: None,
            target: None,
            steps: Vec::new(),
        }
    }

    pub(super) fn say(&mut self, step: String) {
        self.steps.push(step);
    }

    /// Finds the route, and says which ones nearly took the request.
    fn tell_route<'a>(&mut self, table: &'a Table, request: &impl RequestView) -> Option<&'a Route> {
        let (host, path) = (request.host(), request.path());
        let mut near = 0;
        let found = table.matcher.visit(&table.routes, host, path, |rank, index| {
            let route = &table.routes[index];
            let Some(lacking) = predicates::lacking(&route.settings.matches, request) else {
                return ControlFlow::Break((rank, route));
            };
            near += 1;
            if near <= MAX_NEAR {
                let lacking = describe_lacking(lacking, route);
                self.say(format!("route {} takes this host and path, but {lacking}", route.settings.name));
            }
            ControlFlow::Continue(())
        });
        if near > MAX_NEAR {
            self.say(format!("{} more routes take this host and path, but ask for more", near - MAX_NEAR));
        }
        let Some((rank, route)) = found.break_value() else {
            self.tell_no_route(table, request, near);
            return None;
        };
        let host = match rank {
            HostRank::Exact => format!("its host is {host}"),
            HostRank::Wildcard(suffix) => format!("its host is *{suffix}"),
            HostRank::Any => "it takes every host".to_owned(),
        };
        let path = match &route.settings.matches.path {
            PathPattern::Exact(text) => format!("its path is {text} exactly"),
            PathPattern::Prefix(text) if text.is_empty() => "it takes every path".to_owned(),
            PathPattern::Prefix(text) => format!("its path is {text} and all below it"),
        };
        self.say(format!("route {} takes the request: {host}, {path}", route.settings.name));
        Some(route)
    }

    fn tell_no_route(&mut self, table: &Table, request: &impl RequestView, near: usize) {
        let host = request.host();
        let of_host = |route: &&Route| takes_host(&route.settings.matches.hosts, host);
        if near == 0 {
            let mut others = table.routes.iter().filter(of_host).peekable();
            if others.peek().is_none() {
                self.say(format!("no route takes the host {host:?}"));
            }
            for route in others.by_ref().take(MAX_NEAR) {
                let path = match &route.settings.matches.path {
                    PathPattern::Exact(text) => format!("{text} exactly"),
                    PathPattern::Prefix(text) => format!("{text} and what is below it"),
                };
                self.say(format!("route {} takes this host, but only the path {path}", route.settings.name));
            }
            let more = others.count();
            if more > 0 {
                self.say(format!("{more} more routes take this host, but other paths"));
            }
        }
        self.status = Some(404);
        self.say("no route takes the request: it is answered with 404".to_owned());
    }

    fn tell_redirect(&mut self, route: &Route, request: &impl RequestView, authority: &str) {
        let Action::Redirect(redirect) = &route.settings.action else {
            unreachable!("the target is compiled from the action")
        };
        let location = location(redirect, request, &asked_path(route, request), authority);
        self.outcome = Outcome::Redirect;
        self.status = Some(redirect.status);
        self.say(format!(
            "route {} answers by itself: {}, Location: {location}",
            route.settings.name, redirect.status
        ));
        self.location = Some(location);
    }

    /// Says so if the route takes the request but refuses it as it is.
    fn tell_terms(&mut self, route: &Route, request: &impl RequestView) {
        if let Err(unfit) = terms::check(&route.settings, request) {
            let status = unfit.status();
            self.say(format!("route {} refuses it with {status}: {unfit}", route.settings.name));
            (self.outcome, self.status, self.endpoint) = (Outcome::Refused, Some(status), None);
        }
    }

    /// Says what the route's rate limit would do now. It comes before all else that the route does.
    fn tell_rate_limit(&mut self, route: &Route, request: &impl RequestView) {
        let Some(limit) = &route.rate_limit else { return };
        match limit.look(request, Instant::now()) {
            Ok(left) => self.say(format!(
                "route {} takes it by its rate limit, and then {} more at once",
                route.settings.name, left.remaining
            )),
            Err(limited) => {
                self.say(format!("route {} refuses it with 429 now: {limited}", route.settings.name));
                (self.outcome, self.status, self.endpoint) = (Outcome::Refused, Some(429), None);
            }
        }
    }

    /// Says what the endpoint is asked for.
    fn tell_target(&mut self, route: &Route, request: &impl RequestView) {
        let path = asked_path(route, request);
        let mut target = match (&route.settings.rewrite_prefix, &route.settings.matches.path) {
            (Some(replacement), PathPattern::Prefix(prefix)) if path != "*" => {
                let rest = &path[prefix.len()..];
                let rest = if replacement.is_empty() && rest.is_empty() { "/" } else { rest };
                format!("{replacement}{rest}")
            }
            _ => path.clone(),
        };
        if target != path {
            self.say(format!("route {} rewrites the path {path} to {target}", route.settings.name));
        }
        push_query(&mut target, request);
        self.target = Some(target);
    }

    /// Tells which pool of a split it is. Answers whether a pin has decided that.
    fn tell_split(&mut self, table: &Table, split: &Split, request: &impl RequestView) -> bool {
        self.split = Some(split.settings.name.clone());
        self.pools = shares(table, split);
        let weights: Vec<_> =
            self.pools.iter().map(|pool| format!("{} {}", pool.pool, pool.weight)).collect();
        self.say(format!("split {} shares by the weights {}", split.settings.name, weights.join(", ")));
        if self.tell_pins(table, split, request) {
            return true;
        }
        let mut client = ClientKey::default();
        let key = split.settings.key.as_ref();
        match key.and_then(|key| key_of(key, request, &mut client)) {
            Some(value) => self.tell_bucketed(table, split, value),
            None => {
                if let Some(key) = key {
                    self.say(format!("the request has no {}, so it is drawn", describe_key(key)));
                }
                self.tell_drawn(table, split);
            }
        }
        false
    }

    fn tell_bucketed(&mut self, table: &Table, split: &Split, key: &[u8]) {
        let pool_of = |arm: usize| &*table.pools[split.arms[arm].pool];
        let belongs = bucketed(split, table, key, |_| true).expect("a split's weights have a sum above 0");
        let what = describe_key(split.settings.key.as_ref().expect("the request's key was taken by it"));
        self.say(format!("its {what} belongs to pool {}", pool_of(belongs).settings.name));
        if pool_of(belongs).is_available() || split.settings.when_unavailable == WhenUnavailable::Fail {
            return self.tell_endpoints(&[pool_of(belongs)], true);
        }
        self.say(format!("pool {} {}", pool_of(belongs).settings.name, pool_of(belongs).why_away()));
        match bucketed(split, table, key, |arm| pool_of(arm).is_available()) {
            Some(next) => {
                self.say(format!("the key's next best is pool {}", pool_of(next).settings.name));
                self.tell_endpoints(&[pool_of(next)], true);
            }
            None => self.tell_endpoints(&[], true),
        }
    }

    fn tell_drawn(&mut self, table: &Table, split: &Split) {
        let shares = self.pools.clone();
        let nobody_is_left = shares.iter().all(|pool| pool.share == 0.0);
        let fails = nobody_is_left || split.settings.when_unavailable == WhenUnavailable::Fail;
        let mut pools = Vec::new();
        for (share, arm) in shares.iter().zip(&split.arms) {
            let pool = &share.pool;
            if arm.weight < arm.set_weight {
                self.say(format!("pool {pool} drains: the others take its share"));
            } else if share.weight == 0 {
                self.say(format!("pool {pool} has weight 0 and gets no new request"));
            } else if share.available {
                self.say(format!("pool {pool} is drawn for {:.2} % of the requests", share.share * 100.0));
                pools.push(&*table.pools[arm.pool]);
            } else {
                let then = if fails { "its share is answered with 503" } else { "the others take its share" };
                let why = table.pools[arm.pool].why_away();
                self.say(format!("pool {pool} {why}: {then}"));
            }
        }
        // A share that is answered with 503 leaves it open whether the only pool left is drawn.
        let certain = shares.iter().any(|pool| pool.share == 1.0);
        self.tell_endpoints(&pools, certain);
    }

    /// Ends the story with the pools that the request may get; `certain` if it can only be the one that is given.
    fn tell_endpoints(&mut self, pools: &[&Pool], certain: bool) {
        self.endpoints = pools.iter().copied().flat_map(candidates).collect();
        if let [pool] = pools
            && certain
        {
            self.pool = Some(pool.settings.name.clone());
        }
        let is_ejected = |(endpoint, _): &(Arc<Endpoint>, u32)| endpoint.occupancy.standing().is_ejected();
        let ignores = |pool: &&&Pool| pool.ignores_ejections() && pool.endpoints.iter().any(is_ejected);
        for pool in pools.iter().filter(ignores) {
            let pool = &pool.settings.name;
            self.say(format!("pool {pool} has so few endpoints left that it ignores ejections"));
        }
        let available = self.endpoints.iter().filter(|endpoint| endpoint.available);
        let available: Vec<SocketAddr> = available.map(|endpoint| endpoint.address).collect();
        for endpoint in self.endpoints.iter().filter(|endpoint| !endpoint.available) {
            let why = match endpoint {
                Candidate { weight: 0, .. } => "has weight 0",
                Candidate { draining: true, .. } => "is draining",
                Candidate { healthy: false, .. } => "is not healthy",
                Candidate { ejected: true, .. } => "is ejected",
                _ => "takes no new session",
            };
            self.steps.push(format!("endpoint {} of pool {} {why}", endpoint.address, endpoint.pool));
        }
        let by_key = self.pool.is_some() && matches!(pools, [pool] if pool.balances_by_key());
        self.outcome = if available.is_empty() { Outcome::Unavailable } else { Outcome::Forward };
        self.status = available.is_empty().then_some(503);
        self.say(match available[..] {
            [] => nobody(pools),
            [only] => format!("endpoint {only} is the only one that is available"),
            // Whose it is by its key is told with the balance.
            _ if by_key => format!("{} endpoints are available", available.len()),
            _ => format!("{} endpoints are available; the balance picks one", available.len()),
        });
        if let ([only], Some(_)) = (&available[..], &self.pool) {
            self.endpoint = Some(*only);
        }
    }
}

/// What becomes of a request for whom nobody is there.
fn nobody(pools: &[&Pool]) -> String {
    match pools {
        [pool] if !pool.drains() && !pool.settings.limits.unavailable_wait.is_zero() => format!(
            "no endpoint is available: the request waits for one, and is answered with 503 after {:?}",
            pool.settings.limits.unavailable_wait
        ),
        _ => "no endpoint is available: the request is answered with 503".to_owned(),
    }
}

/// The path as the route's requests are forwarded, before a rewrite.
fn asked_path(route: &Route, request: &impl RequestView) -> String {
    let mut merged = Vec::new();
    let path = match route.settings.merge_slashes && path::merge_slashes(request.path(), &mut merged) {
        true => &merged,
        false => request.path(),
    };
    String::from_utf8_lossy(path).into_owned()
}

/// Where a redirect leads: to the request's own URL with the parts that the route replaces.
fn location(redirect: &Redirect, request: &impl RequestView, path: &str, authority: &str) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or_else(|| request.scheme());
    let host = match (&redirect.host, &redirect.scheme) {
        (Some(host), _) => host,
        // Another scheme has another default port: the one that the client used would be wrong.
        (None, Some(_)) => request.host(),
        (None, None) => authority,
    };
    match &redirect.path {
        Some(path) => format!("{scheme}://{host}{path}"),
        None => {
            let mut location = format!("{scheme}://{host}{}", if path == "*" { "/" } else { path });
            push_query(&mut location, request);
            location
        }
    }
}

fn push_query(target: &mut String, request: &impl RequestView) {
    if let Some(query) = request.query() {
        target.push('?');
        target.push_str(&String::from_utf8_lossy(query));
    }
}

/// What each pool of a split gets of the drawn requests, as things are now.
fn shares(table: &Table, split: &Split) -> Vec<PoolShare> {
    let is_available = |arm: &Arm| table.pools[arm.pool].is_available();
    // What is passed on goes by the weights, so the shares are those of a split without the unavailable pools.
    let takes_part =
        |arm: &&Arm| split.settings.when_unavailable == WhenUnavailable::Fail || is_available(arm);
    let sum: u64 = split.arms.iter().filter(takes_part).map(|arm| u64::from(arm.weight)).sum();
    let share = |arm: &Arm| {
        let available = is_available(arm);
        let share = if available && arm.weight > 0 { f64::from(arm.weight) / sum as f64 } else { 0.0 };
        PoolShare {
            pool: table.pools[arm.pool].settings.name.clone(),
            weight: arm.set_weight,
            available,
            share,
        }
    };
    split.arms.iter().map(share).collect()
}

pub(super) fn candidates(pool: &Pool) -> impl Iterator<Item = Candidate> {
    let panics = pool.ignores_ejections();
    pool.endpoints.iter().map(move |(endpoint, weight)| {
        let standing = endpoint.occupancy.standing();
        Candidate {
            pool: pool.settings.name.clone(),
            address: endpoint.address,
            weight: *weight,
            available: *weight > 0 && standing.is_available_in(panics),
            draining: !standing.takes_new(),
            healthy: standing.is_healthy(),
            ejected: standing.is_ejected(),
            why: None,
            in_flight: standing.in_flight(),
        }
    })
}

fn takes_host(patterns: &[HostPattern], host: &str) -> bool {
    patterns.is_empty()
        || patterns.iter().any(|pattern| match pattern {
            HostPattern::Exact(own) => **own == *host,
            HostPattern::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        })
}

fn describe_lacking(lacking: Lacking<'_>, route: &Route) -> String {
    match lacking {
        Lacking::Method => {
            format!("its method is not one of {}", route.settings.matches.methods.join(", "))
        }
        Lacking::Header(name, value) => format!("its field {name} is not {value:?}"),
        Lacking::Query(name, value) => format!("its query parameter {name:?} is not {value:?}"),
    }
}

fn describe_key(key: &SplitKey) -> String {
    match key {
        SplitKey::Cookie(name) => format!("cookie {name}"),
        SplitKey::Header(name) => format!("field {name}"),
        SplitKey::ClientIp => "client address".to_owned(),
    }
}
