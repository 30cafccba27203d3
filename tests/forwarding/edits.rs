//! What a route changes: headers, prefix, redirect; and what is said of the client.

use crate::{
    get,
    support::{Setup, Upstream, message::all},
};

#[test]
fn headers_are_set_added_and_removed_in_both_directions() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nServer: app\r\nX-Keep: 1\r\nX-Set: old\r\nX-Add: one\r\nContent-Length: 2\r\n\r\nok",
    );
    let switchback = Setup::new()
        .route("request_headers = { set = { X-Set = \"new\" }, add = { X-Add = \"two\" }, remove = [\"Cookie\"] }")
        .route("response_headers = { set = { X-Set = \"new\" }, add = { X-Add = \"two\" }, remove = [\"Server\"] }")
        .start(&upstream);
    let fields = "Cookie: a=b\r\nX-Keep: 1\r\nx-set: old\r\nX-SET: older\r\nX-Add: one\r\ncookie: c=d\r\n";
    let answer = switchback.client().exchange(get("/", fields)).whole();
    for head in [&answer.head, &upstream.last().head] {
        assert_eq!(head.all("x-set"), ["new"], "{head:?}");
        assert_eq!(head.all("x-add"), ["one", "two"], "{head:?}");
        assert_eq!(head.one("x-keep"), Some("1"));
        assert!(head.all("cookie").is_empty() && head.all("server").is_empty(), "{head:?}");
    }
}

#[test]
fn an_underscore_does_not_hide_a_field_from_an_edit() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nX_User: app\r\nX_Gone: app\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok",
    );
    let switchback = Setup::new()
        .listener("underscores = \"allow\"")
        .route("request_headers = { set = { X-User = \"me\", X_Other = \"me\" }, remove = [\"X-Gone\"] }")
        .route("response_headers = { set = { X-User = \"me\" }, remove = [\"X-Gone\"] }")
        .start(&upstream);
    let fields = "X_User: forged\r\nx_uSER: forged\r\nX-Other: forged\r\nX_Gone: forged\r\nX_Kept: 1\r\n";
    let answer = switchback.client().exchange(get("/", fields)).whole();
    let head = upstream.last().head;
    for head in [&answer.head, &head] {
        assert_eq!((head.all("x-user"), head.all("x_user").len()), (vec!["me"], 0), "{head:?}");
        assert!(head.all("x_gone").is_empty(), "{head:?}");
    }
    assert_eq!((head.all("x_other"), head.all("x-other").len()), (vec!["me"], 0), "{head:?}");
    assert_eq!((head.one("x_kept"), answer.head.one("x-kept")), (Some("1"), Some("1")));
}

#[test]
fn a_trailer_goes_the_way_of_the_field_of_its_name() {
    let trailers = "x-user: t\r\nX-GONE: t\r\nX-Hop: t\r\nContentLength: 9\r\nX-Sum: 1\r\n";
    let answer = format!(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n"
    );
    let upstream = Upstream::start(move |exchange| {
        exchange.body();
        exchange.send(answer.as_bytes());
    });
    let edits = "{ set = { X-User = \"me\" }, remove = [\"X-Gone\"] }";
    let switchback = Setup::new()
        .route(&format!("request_headers = {edits}\nresponse_headers = {edits}"))
        .start(&upstream);
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\nConnection: TE, X-Hop\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailers}\r\n"
    );
    let answer = switchback.client().exchange(request).whole();
    let passed = [("X-Sum".to_owned(), "1".to_owned())];
    assert_eq!((answer.text().as_str(), &answer.body.trailers[..]), ("ok", &passed[..]));
    assert_eq!(upstream.last().body.trailers, passed);
    assert_eq!(upstream.last().head.all("x-user"), ["me"]);
}

#[test]
fn a_prefix_is_rewritten_by_whole_segments() {
    let upstream = Upstream::ok();
    let switchback = Setup::new()
        .tables("[[route]]\nname = \"api\"\npath = \"/api\"\npool = \"app\"\nrewrite = { prefix = \"/v2\" }")
        .tables("[[route]]\nname = \"bare\"\npath = \"/bare\"\npool = \"app\"\nrewrite = { prefix = \"/\" }")
        .start(&upstream);
    for (sent, forwarded) in [
        ("/api", "/v2"),
        ("/api/", "/v2/"),
        ("/api/x/y?z=/api", "/v2/x/y?z=/api"),
        ("/x/../api/y", "/v2/y"),
        ("/apix", "/apix"),
        ("/bare", "/"),
        ("/bare/", "/"),
        ("/bare/x", "/x"),
        ("/bare?q=1", "/?q=1"),
    ] {
        assert_eq!(switchback.client().exchange(get(sent, "")).status, 200, "{sent}");
        assert_eq!(upstream.last().head.target(), forwarded, "of {sent}");
    }
}

#[test]
fn a_redirect_is_answered_by_switchback_itself() {
    let upstream = Upstream::ok();
    let switchback = Setup::new()
        .tables("[[route]]\nname = \"tls\"\npath = \"/tls\"\nredirect = { status = 308, scheme = \"https\" }")
        .tables("[[route]]\nname = \"host\"\npath = \"/host\"\nredirect = { status = 302, host = \"b.example:8443\" }")
        .tables("[[route]]\nname = \"path\"\npath = \"/old\"\nredirect = { status = 301, path = \"/new\" }")
        .start(&upstream);
    let mut client = switchback.client();
    for (target, status, location) in [
        ("/tls/x?y=z", 308, "https://a.example/tls/x?y=z"),
        ("/host/x", 302, "http://b.example:8443/host/x"),
        ("/old/x?y", 301, "http://a.example/new"),
    ] {
        let answer = client.exchange(get(target, "")).whole();
        assert_eq!((answer.status, answer.head.one("location")), (status, Some(location)), "{target}");
    }
    let answer = client.exchange("HEAD /tls HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!((answer.status, answer.head.one("location")), (308, Some("https://a.example/tls")));
    assert_eq!(upstream.total(), 0);
}

#[test]
fn a_redirect_behind_a_trusted_proxy_keeps_the_scheme_that_the_client_used() {
    let upstream = Upstream::ok();
    let old = "[[route]]\nname = \"old\"\npath = \"/old\"\nredirect = { path = \"/new\" }";
    let start = |listener: &str| Setup::new().listener(listener).tables(old).start(&upstream);
    let trusting = start("trusted_proxies = [\"127.0.0.1\"]");
    let plain = start("");
    for (switchback, fields, location) in [
        (&trusting, "X-Forwarded-Proto: https\r\n", "https://a.example/new"),
        (&trusting, "X-Forwarded-Proto: HTTPS\r\n", "https://a.example/new"),
        (&trusting, "X-Forwarded-Proto: http\r\n", "http://a.example/new"),
        (&trusting, "X-Forwarded-Proto: javascript\r\n", "http://a.example/new"),
        (&trusting, "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n", "http://a.example/new"),
        (&trusting, "", "http://a.example/new"),
        (&plain, "X-Forwarded-Proto: https\r\n", "http://a.example/new"),
    ] {
        let answer = switchback.client().exchange(get("/old", fields)).whole();
        assert_eq!(answer.head.one("location"), Some(location), "{fields:?}");
    }
}

#[test]
fn a_field_that_is_set_stands_once() {
    let upstream = Upstream::ok();
    let switchback = Setup::new()
        .route("request_id = true")
        .route("request_headers = { set = { X-Request-Id = \"fixed\" } }")
        .route("response_headers = { set = { X-Request-Id = \"fixed\", Date = \"never\" } }")
        .tables("[pool.none]\nendpoints = []\n[[route]]\nname = \"none\"\npath = \"/none\"\npool = \"none\"\nrequest_id = true\nresponse_headers = { set = { X-Request-Id = \"fixed\", Date = \"never\" } }")
        .start(&upstream);
    for (target, status) in [("/", 200), ("/none", 503)] {
        let answer = switchback.client().exchange(get(target, "X-Request-Id: forged\r\n")).whole();
        assert_eq!(answer.status, status);
        assert_eq!(
            (answer.head.all("x-request-id"), answer.head.all("date")),
            (vec!["fixed"], vec!["never"])
        );
    }
    assert_eq!(upstream.last().head.all("x-request-id"), ["fixed"]);
}

#[test]
fn forwarded_is_written_where_it_is_asked_for() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().route("forwarded = true").start(&upstream);
    switchback.client().exchange(get("/", "Forwarded: for=6.6.6.6\r\n"));
    let head = upstream.last().head;
    let forwarded = head.one("forwarded").expect("it was asked for").to_ascii_lowercase();
    let mut parts: Vec<_> = forwarded.split(';').map(str::trim).collect();
    parts.sort_unstable();
    assert!(parts.contains(&"for=127.0.0.1") && parts.contains(&"proto=http"), "{forwarded}");
    assert!(
        parts.iter().any(|part| part.trim_matches('"').starts_with("host=") && part.contains("a.example")),
        "{forwarded}"
    );
    assert!(!forwarded.contains("6.6.6.6"), "{forwarded}");

    let switchback =
        Setup::new().route("forwarded = true").listener("trusted_proxies = [\"127.0.0.1\"]").start(&upstream);
    switchback.client().exchange(get("/", "Forwarded: for=6.6.6.6;proto=https\r\n"));
    let head = upstream.last().head;
    let hops = head.list("forwarded");
    assert_eq!(hops.len(), 2, "{hops:?}");
    assert!(hops[0].contains("for=6.6.6.6") && hops[1].contains("for=127.0.0.1"), "{hops:?}");
}

#[test]
fn a_request_id_is_made_and_kept_only_from_a_trusted_peer() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().route("request_id = true").start(&upstream);
    let mut seen = std::collections::BTreeSet::new();
    let mut client = switchback.client();
    for _ in 0..20 {
        let answer = client.exchange(get("/", "X-Request-Id: forged\r\n")).whole();
        let head = upstream.last().head;
        let id = head.one("x-request-id").expect("it was asked for").to_owned();
        assert_eq!(answer.head.one("x-request-id"), Some(id.as_str()), "the same on both sides");
        assert_ne!(id, "forged");
        assert!(seen.insert(id), "an id came twice");
    }
    let switchback = Setup::new()
        .route("request_id = true")
        .listener("trusted_proxies = [\"127.0.0.1/32\"]")
        .start(&upstream);
    let answer = switchback.client().exchange(get("/", "X-Request-Id: given-1\r\n")).whole();
    assert_eq!(answer.head.one("x-request-id"), Some("given-1"));
    assert_eq!(upstream.last().head.one("x-request-id"), Some("given-1"));
}

#[test]
fn via_is_appended_to_what_is_there() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    switchback.client().exchange(get("/", "Via: 1.0 fred, 1.1 p.example\r\n"));
    let head = upstream.last().head;
    assert_eq!(head.list("via"), ["1.0 fred", "1.1 p.example", "1.1 switchback"]);
    assert!(!all(&head.fields, "via").is_empty());
}

#[test]
fn no_route_is_404_and_no_endpoint_503() {
    let upstream = Upstream::ok();
    let switchback = Setup::new()
        .route("hosts = [\"a.example\"]")
        .tables("[pool.empty]\nendpoints = []\n[[route]]\nname = \"empty\"\nhosts = [\"a.example\"]\npath = \"/empty\"\npool = \"empty\"")
        .start(&upstream);
    let mut client = switchback.client();
    let answer = client.exchange("GET / HTTP/1.1\r\nHost: b.example\r\n\r\n").whole();
    assert_eq!((answer.status, answer.head.one("content-type")), (404, Some("application/problem+json")));
    let answer = client.exchange(get("/empty", "")).whole();
    assert_eq!((answer.status, answer.head.one("content-type")), (503, Some("application/problem+json")));
    let retry_after = answer.head.one("retry-after").expect("a 503 says when to come again");
    assert!(retry_after.parse::<u32>().is_ok_and(|seconds| seconds > 0), "{retry_after}");
    assert_eq!(upstream.total(), 0);
    assert_eq!(client.exchange(get("/", "")).whole().text(), "ok", "and the connection is kept");
}
