//! The stories against what selections do.

use std::sync::Arc;

use super::{
    explain::{self, Explanation, Outcome},
    request_view::RequestView,
    table::Table,
    testing::*,
};
use crate::{
    config::{Action, Redirect, SplitKey, WhenUnavailable},
    model::name::Name,
};

fn shop() -> Bench {
    let mut config = config(&[("blue", &[1, 1]), ("green", &[1])]);
    let both = [("blue", 95), ("green", 5)];
    config.splits = vec![
        split("shop", &both, None, WhenUnavailable::PassOn),
        split("keyed", &both, Some(SplitKey::Cookie("user".into())), WhenUnavailable::PassOn),
        split("strict", &both, None, WhenUnavailable::Fail),
    ];
    let mut testers = matches(&["shop.example.com"], "/");
    testers.headers.push(("canary".into(), "true".into()));
    config.routes = [
        route("shop", matches(&["shop.example.com"], "/"), Action::Split(name("shop"))),
        route("testers", testers, Action::Pool(name("green"))),
        route("keyed", matches(&["*.example.com"], "/k"), Action::Split(name("keyed"))),
        route("strict", matches(&[], "=/strict"), Action::Split(name("strict"))),
    ]
    .map(Arc::new)
    .to_vec();
    Bench::new(config)
}

fn explain(table: &Table, request: &Request) -> Explanation {
    explain::explain(table, request, request.host())
}

fn told(story: &Explanation, text: &str) -> bool {
    story.steps.iter().any(|step| step.contains(text))
}

#[test]
fn a_drawn_request_has_shares_and_what_nearly_took_it() {
    let mut bench = shop();
    let request = get("shop.example.com", "/x");
    let story = explain(&bench.table, &request);
    assert_eq!((story.outcome, story.route.clone()), (Outcome::Forward, Some(name("shop"))));
    assert_eq!((story.split.clone(), story.pool.clone(), story.endpoint), (Some(name("shop")), None, None));
    let shares: Vec<_> = story.pools.iter().map(|pool| (pool.weight, pool.share)).collect();
    assert_eq!(shares, [(95, 0.95), (5, 0.05)]);
    assert_eq!(story.endpoints.len(), 3);
    assert!(told(&story, "route testers takes this host and path, but its field canary is not \"true\""));

    bench.set_healthy("blue", false);
    let story = explain(&bench.table, &request);
    assert_eq!(story.pool, Some(name("green")));
    assert_eq!(story.endpoint, Some(bench.table.pools[1].endpoints[0].0.address));
    assert!(told(&story, "the others take its share"));
    bench.set_healthy("green", false);
    assert_eq!(explain(&bench.table, &request).outcome, Outcome::Unavailable);
    bench.set_healthy("green", true);
    bench.set_healthy("blue", true);

    bench.set("shop", &[("blue", 1), ("green", 0)]);
    let story = explain(&bench.table, &request);
    assert_eq!((story.generation, story.pool.clone(), story.endpoint), (2, Some(name("blue")), None));
    assert!(told(&story, "pool green has weight 0"));
}

/// The last endpoint that was left is ejected in this very moment: whoever decides on panic has not seen it yet.
#[test]
fn a_sudden_panic_is_told_as_selections_take_it() {
    let mut bench = shop();
    let request = get("shop.example.com", "/").with("canary", "true");
    let green = bench.table.pools[1].clone();
    let only = &green.endpoints[0].0;
    only.occupancy.set_ejected(true);
    assert!(!green.state.panics());
    let story = explain(&bench.table, &request);
    assert_eq!((story.outcome, story.endpoint), (Outcome::Forward, Some(only.address)));
    assert!(told(&story, "pool green has so few endpoints left that it ignores ejections"));
    assert_eq!(bench.pool(&request), Some("green"));
    only.occupancy.set_healthy(false);
    let story = explain(&bench.table, &request);
    assert_eq!((story.outcome, bench.pool(&request)), (Outcome::Unavailable, None));
}

#[test]
fn a_share_that_fails_leaves_the_pool_uncertain() {
    let bench = shop();
    bench.set_healthy("blue", false);
    let story = explain(&bench.table, &get("any", "/strict"));
    assert_eq!((story.outcome, story.pool.clone()), (Outcome::Forward, None));
    assert_eq!(story.pools[1].share, 0.05);
    assert!(told(&story, "its share is answered with 503"));
}

#[test]
fn a_key_and_a_named_pool_make_it_certain_and_selections_agree() {
    let mut bench = shop();
    for user in 0..200 {
        let request = get("k.example.com", "/k").with("cookie", &format!("user={user}"));
        let story = explain(&bench.table, &request);
        assert_eq!(story.pool.as_ref().map(Name::as_str), bench.pool(&request));
        bench.set_healthy("green", false);
        let story = explain(&bench.table, &request);
        assert_eq!(story.pool.as_ref().map(Name::as_str), bench.pool(&request));
        bench.set_healthy("green", true);
    }
    let story = explain(&bench.table, &get("shop.example.com", "/").with("canary", "true"));
    assert_eq!((story.split.clone(), story.pool.clone()), (None, Some(name("green"))));
    assert!(story.endpoint.is_some());
}

#[test]
fn a_request_that_no_route_takes_is_told_why() {
    let bench = shop();
    let story = explain(&bench.table, &get("other", "/"));
    assert_eq!((story.outcome, story.route.clone()), (Outcome::NoRoute, None));
    assert!(told(&story, "route strict takes this host, but only the path /strict exactly"));
    let text = serde_json::to_string(&story).unwrap();
    assert!(text.contains(r#""outcome":"no_route","route":null,"split":null,"pool":null,"endpoint":null"#));
}

#[test]
fn a_rewrite_and_a_redirect_are_shown_as_they_would_be() {
    let mut config = config(&[("blue", &[1])]);
    let mut api = route("api", matches(&[], "/api"), Action::Pool(name("blue")));
    api.rewrite_prefix = Some("/v2".into());
    let to = |scheme: Option<&str>| {
        Action::Redirect(Redirect { status: 308, scheme: scheme.map(Into::into), host: None, path: None })
    };
    config.routes = [
        api,
        route("secure", matches(&[], "/secure"), to(Some("https"))),
        route("same", matches(&[], "/same"), to(None)),
    ]
    .map(Arc::new)
    .to_vec();
    let bench = Bench::new(config);
    let explain = |path: &str| explain::explain(&bench.table, &get("a.b", path), "a.b:8080");
    let story = explain("/api/x");
    assert_eq!((story.outcome, story.target.as_deref()), (Outcome::Forward, Some("/v2/x")));
    assert!(told(&story, "rewrites the path /api/x to /v2/x"));
    for (path, location) in [("/secure/x", "https://a.b/secure/x"), ("/same", "http://a.b:8080/same")] {
        let story = explain(path);
        assert_eq!((story.status, story.location.as_deref()), (Some(308), Some(location)));
        assert_eq!(story.target, None);
    }
}

#[test]
fn it_takes_no_part() {
    let mut bench = shop();
    let request = get("shop.example.com", "/");
    let before: Vec<_> = (0..10).map(|_| bench.pool(&request).map(str::to_owned)).collect();
    let mut bench = shop();
    let after: Vec<_> = (0..10)
        .map(|_| {
            explain(&bench.table, &request);
            bench.pool(&request).map(str::to_owned)
        })
        .collect();
    assert_eq!(before, after);
    let in_flight =
        |(endpoint, _): &(Arc<crate::upstream::endpoint::Endpoint>, u32)| endpoint.occupancy.in_flight();
    assert_eq!(bench.table.pools[0].endpoints.iter().map(in_flight).sum::<u64>(), 0);
}

#[test]
fn a_split_whose_pools_all_drain_says_so() {
    let bench = shop();
    for pool in &bench.table.pools {
        for (endpoint, _) in &pool.endpoints {
            endpoint.occupancy.drain();
        }
    }
    for request in [
        get("shop.example.com", "/x"),
        get("a.example.com", "/k").with("cookie", "user=7"),
        get("b", "/strict"),
    ] {
        let story = explain(&bench.table, &request);
        assert_eq!(story.outcome, Outcome::Unavailable, "{story:?}");
        assert!(told(&story, "pool blue drains") || told(&story, "pool green drains"), "{story:?}");
        assert!(!told(&story, "no available endpoint"), "{story:?}");
    }
    // An endpoint that is away for another reason makes it another story.
    bench.table.pools[0].endpoints[0].0.occupancy.undrain();
    bench.set_healthy("blue", false);
    let story = explain(&bench.table, &get("shop.example.com", "/x"));
    assert!(told(&story, "pool blue has no available endpoint"), "{story:?}");
}
