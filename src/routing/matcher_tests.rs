//! The matcher against the precedence's plain words, and against a scan of all routes.

use std::cmp::Reverse;

use proptest::prelude::*;

use super::{predicates, request_view::RequestView, testing::*};
use crate::config::{Action, HostPattern, PathPattern, Route, RouteMatch};

/// A table in which every route goes to pool "blue".
fn table(routes: Vec<Route>) -> Bench {
    let mut config = config(&[("blue", &[1])]);
    config.routes = routes.into_iter().map(Into::into).collect();
    Bench::new(config)
}

fn found<'a>(bench: &'a Bench, request: &Request) -> Option<&'a str> {
    bench.table.find(request).map(|route| bench.table.routes[route].settings.name.as_str())
}

fn to_blue(of: &str, matches: RouteMatch) -> Route {
    route(of, matches, Action::Pool(name("blue")))
}

fn with_header(mut matches: RouteMatch, header: &str, value: &str) -> RouteMatch {
    matches.headers.push((header.into(), value.into()));
    matches
}

fn with_method(mut matches: RouteMatch, method: &str) -> RouteMatch {
    matches.methods.push(method.into());
    matches
}

fn with_query(mut matches: RouteMatch, parameter: &str, value: &str) -> RouteMatch {
    matches.query.push((parameter.into(), value.into()));
    matches
}

#[test]
fn the_more_specific_host_is_tried_first_and_falls_back() {
    let bench = table(vec![
        to_blue("any", matches(&[], "/")),
        to_blue("wide", matches(&["*.example.com"], "/")),
        to_blue("narrow", matches(&["*.shop.example.com"], "/cart")),
        to_blue("own", matches(&["eu.shop.example.com"], "/cart/pay")),
    ]);
    for (host, path, expected) in [
        ("eu.shop.example.com", "/cart/pay", "own"),
        ("eu.shop.example.com", "/cart", "narrow"),
        ("eu.shop.example.com", "/", "wide"),
        ("a.b.example.com", "/cart/pay", "wide"),
        ("shop.example.com", "/cart", "wide"),
        ("example.com", "/cart", "any"),
        ("xexample.com", "/", "any"),
        (".example.com", "/", "any"),
        ("", "/", "any"),
        ("[::1]", "/", "any"),
    ] {
        assert_eq!(found(&bench, &get(host, path)), Some(expected), "{host} {path}");
    }
}

#[test]
fn within_a_host_the_path_decides_then_method_fields_query_and_order() {
    let plain = || matches(&["a"], "/x");
    let bench = table(vec![
        to_blue("prefix", plain()),
        to_blue("later", plain()),
        to_blue("query", with_query(plain(), "v", "2")),
        to_blue("field", with_header(plain(), "canary", "true")),
        to_blue("fields", with_header(with_header(plain(), "canary", "true"), "beta", "1")),
        to_blue("method", with_method(plain(), "POST")),
        to_blue("exact", matches(&["a"], "=/x")),
    ]);
    let request = |path| get("a", path);
    let canary = request("/x/y").with("canary", "true");
    let post = |mut request: Request| {
        request.method = "POST".into();
        request
    };
    let v2 = |mut request: Request| {
        request.query = Some("a&v=2".into());
        request
    };
    assert_eq!(found(&bench, &request("/x")), Some("exact"));
    assert_eq!(found(&bench, &canary), Some("field"));
    assert_eq!(found(&bench, &v2(canary.clone())), Some("field"));
    assert_eq!(found(&bench, &canary.clone().with("beta", "1")), Some("fields"));
    assert_eq!(found(&bench, &post(canary.with("beta", "1"))), Some("method"));
    assert_eq!(found(&bench, &v2(request("/x/y"))), Some("query"));
    assert_eq!(found(&bench, &request("/x/y")), Some("prefix"));
    assert_eq!(found(&bench, &request("/y")), None);
    assert_eq!(found(&bench, &request("/x/y").with("canary", "false").with("canary", "true")), Some("field"));
}

/// The example of docs/routing.md.
#[test]
fn the_published_example_holds() {
    let shop = || matches(&["shop.example.com"], "/");
    let bench = table(vec![
        to_blue("A", matches(&[], "/")),
        to_blue("B", matches(&["*.example.com"], "/api")),
        to_blue("C", shop()),
        to_blue("D", with_header(shop(), "canary", "true")),
        to_blue("E", matches(&["shop.example.com"], "=/cart/pay")),
    ]);
    for (request, expected) in [
        (get("shop.example.com", "/"), "C"),
        (get("shop.example.com", "/").with("canary", "true"), "D"),
        (get("shop.example.com", "/cart/pay").with("canary", "true"), "E"),
        (get("shop.example.com", "/api/x"), "C"),
        (get("eu.example.com", "/api/x"), "B"),
        (get("eu.example.com", "/apix"), "A"),
        (get("example.com", "/api"), "A"),
    ] {
        assert_eq!(found(&bench, &request), Some(expected), "{request:?}");
    }
}

#[test]
fn a_route_that_merges_slashes_reads_them_as_one_and_others_dont() {
    let mut merging = to_blue("merging", matches(&[], "/a/b"));
    merging.merge_slashes = true;
    let bench =
        table(vec![to_blue("all", matches(&[], "/")), merging, to_blue("double", matches(&[], "//a"))]);
    assert_eq!(found(&bench, &get("h", "/a//b")), Some("merging"));
    assert_eq!(found(&bench, &get("h", "//a/b")), Some("merging"));
    assert_eq!(found(&bench, &get("h", "//a/c")), Some("double"));
    assert_eq!(found(&bench, &get("h", "/a/b/c")), Some("merging"));
    assert_eq!(found(&bench, &get("h", "/b//c")), Some("all"));
}

/// What the matcher must find, by looking at every route.
fn by_scan(routes: &[Route], request: &Request) -> Option<usize> {
    let candidates = routes.iter().enumerate().filter_map(|(index, route)| {
        let matches = &route.matches;
        let host = matches.hosts.iter().filter_map(|pattern| match pattern {
            HostPattern::Exact(host) => (**host == request.host).then_some((2, host.len())),
            HostPattern::Wildcard(suffix) => {
                let label_more = request.host.len() > suffix.len();
                (label_more && request.host.ends_with(&**suffix)).then_some((1, suffix.len()))
            }
        });
        let host = if matches.hosts.is_empty() { Some((0, 0)) } else { host.max() }?;
        let path = match route.merge_slashes {
            true => request.path.replace("///", "/").replace("//", "/"),
            false => request.path.clone(),
        };
        let path = match &matches.path {
            PathPattern::Exact(text) => (**text == path).then_some((1, text.len())),
            PathPattern::Prefix(text) => {
                let rest = path.strip_prefix(&**text)?;
                (text.is_empty() || rest.is_empty() || rest.starts_with('/')).then_some((0, text.len()))
            }
        }?;
        let method = matches.methods.iter().any(|method| method.as_bytes() == request.method());
        let all = (matches.methods.is_empty() || method) && predicates::hold(matches, request);
        let counts = (!matches.methods.is_empty(), matches.headers.len(), matches.query.len());
        all.then_some(((host, path, counts, Reverse(index)), index))
    });
    candidates.max().map(|(_, index)| index)
}

fn some_match() -> impl Strategy<Value = RouteMatch> {
    let hosts = ["a.b.c", "x.b.c", "*.b.c", "*.c", "b.c"];
    let paths = ["/", "/a", "=/a", "/a/b", "=/a/b", "/ab", "=/", "/a//b", "//a"];
    let pairs = |names: &'static [&'static str]| {
        prop::sample::subsequence(names, 0..=names.len()).prop_flat_map(|names| {
            let values = prop::collection::vec("[12]", names.len());
            values.prop_map(move |values| {
                names
                    .iter()
                    .zip(values)
                    .map(|(name, value)| ((*name).into(), value.into()))
                    .collect::<Vec<_>>()
            })
        })
    };
    (
        prop::sample::subsequence(hosts.to_vec(), 0..3),
        prop::sample::select(paths.to_vec()),
        prop::sample::subsequence(vec!["GET", "POST"], 0..=2),
        pairs(&["h", "i"]),
        pairs(&["q", "r"]),
    )
        .prop_map(|(hosts, path, methods, headers, query)| RouteMatch {
            methods: methods.into_iter().map(Into::into).collect(),
            headers,
            query,
            ..matches(&hosts, path)
        })
}

fn some_request() -> impl Strategy<Value = Request> {
    (
        prop::sample::select(vec!["a.b.c", "x.b.c", "y.b.c", "b.c", "z.y.b.c", "c", "other", ""]),
        prop::sample::select(vec![
            "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/a//b", "//a", "//a//b/", "*",
        ]),
        prop::sample::select(vec!["GET", "POST", "PUT"]),
        prop::collection::vec(("[hi]", "[12]"), 0..3),
        prop::option::of("([qr]=[12]&){0,3}"),
    )
        .prop_map(|(host, path, method, headers, query)| Request {
            method: method.into(),
            headers,
            query,
            ..get(host, path)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_matcher_finds_what_a_scan_finds(
        routes in prop::collection::vec((some_match(), any::<bool>()), 0..24),
        requests in prop::collection::vec(some_request(), 16),
    ) {
        let routes: Vec<Route> = routes.into_iter().enumerate().map(|(index, (matches, merge_slashes))| Route {
            merge_slashes,
            ..to_blue(&format!("r{index}"), matches)
        }).collect();
        let bench = table(routes.clone());
        for request in requests {
            prop_assert_eq!(bench.table.find(&request), by_scan(&routes, &request), "{:?}", request);
        }
    }
}
