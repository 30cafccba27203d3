//! Rows 12, 13: the request line and the path.

use crate::{
    row::{HOST, Row, assert_problem},
    support::{Setup, Upstream},
};

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

#[test]
fn row_12_targets_that_are_no_path() {
    let row = Row::new();
    for target in
        ["*", "a.example:80", "a.example", "x", "#", "/#", "/a#b", "?a", "*/", "/a?b#c", "mailto:a", ""]
    {
        row.refuses(&[400], get(target));
    }
    row.refuses(&[400], format!("OPTIONS a.example:80 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    row.refuses(&[400], format!("POST * HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n"));
    row.finish();
}

#[test]
fn row_12_options_with_an_asterisk_is_valid() {
    let row = Row::new();
    let message = row.forwards(format!("OPTIONS * HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(message.head.start, "OPTIONS * HTTP/1.1");
    // RFC 9112 3.2.4: an absolute target without a path is the same question, but one with a path or a query is not.
    for (target, forwarded) in [("", "*"), ("/", "/"), ("?a=b", "/?a=b")] {
        let message = row.forwards(format!("OPTIONS http://{HOST}{target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!(message.head.start, format!("OPTIONS {forwarded} HTTP/1.1"), "{target:?}");
    }
    row.finish();
}

#[test]
fn row_12_http_0_9_and_unknown_versions() {
    let row = Row::new();
    for line in ["GET /", "GET", "GET / ", "HTTP/1.1", "GET HTTP/1.1"] {
        row.refuses(&[400], format!("{line}\r\n\r\n"));
        row.refuses(&[400], format!("{line}\r\nHost: {HOST}\r\n\r\n"));
    }
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/9.9"] {
        row.refuses(&[505], format!("GET / {version}\r\nHost: {HOST}\r\n\r\n"));
    }
    for version in [
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/1.11",
        "HTTP/01.1",
        "HTTP/1.01",
        "http/1.1",
        "Http/1.1",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1.1x",
        "HTTP/1,1",
        "HTTP/11",
        "HTTQ/1.1",
        "HTTP1.1",
        "HTTP /1.1",
        "HTTP/ 1.1",
        "HTTP/1.1 HTTP/1.1",
        "HTTP/-1.1",
        "HTTPS/1.1",
        "ICY/1.1",
        "HTTP/1.\u{b9}",
    ] {
        row.refuses(&[400, 505], format!("GET / {version}\r\nHost: {HOST}\r\n\r\n"));
    }
    row.finish();
}

#[test]
fn row_12_the_preface_of_http2_where_that_is_not_spoken() {
    let row = Row::with(Setup::new().listener("http2 = false"), Upstream::ok());
    row.refuses(&[400, 505], "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    row.finish();
}

#[test]
fn row_12_connect_and_trace_are_not_allowed() {
    let row = Row::new();
    for request in [
        "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ] {
        let mut client = row.client();
        let response = client.exchange(request);
        assert_problem(&response, &[405], request);
        assert!(response.head.one("allow").is_some(), "a 405 needs Allow (RFC 9110 15.5.6): {response:?}");
    }
    let upstream = row.finish();
    assert_eq!(upstream.total(), 0);
}

#[test]
fn row_13_the_path_is_normalised_once_and_forwarded_so() {
    let row = Row::new();
    for (sent, forwarded) in [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a/../b", "/b"),
        ("/a/b/../../c", "/c"),
        ("/a/./b", "/a/b"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/a/..", "/"),
        ("/.", "/"),
        ("/./", "/"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/%2e./b", "/b"),
        ("/a/%2e/b", "/a/b"),
        ("/a/%2e", "/a/"),
        ("/a/b/%2e%2e", "/a/"),
        ("//", "//"),
        ("//a", "//a"),
        ("/a//b", "/a//b"),
        ("/a///b/", "/a///b/"),
        ("/a//../b", "/a/b"),
        ("/%41%7a%30%2d%2e%5f%7e", "/Az0-._~"),
        ("/%7Euser", "/~user"),
        ("/...", "/..."),
        ("/a/...b", "/a/...b"),
        ("/.a", "/.a"),
        ("/a.", "/a."),
        ("/a/..b", "/a/..b"),
        ("/a/..;x", "/a/..;x"),
        ("/a;x=/../y", "/y"),
        ("/a?b=/../c", "/a?b=/../c"),
        ("/a/../b?x=%2e%2e", "/b?x=%2e%2e"),
        ("/?", "/?"),
        ("/a??b", "/a??b"),
        ("/!$&'()*+,;=:@", "/!$&'()*+,;=:@"),
        ("/%252e%252e/x", "/%252e%252e/x"),
    ] {
        assert_eq!(row.forwards(get(sent)).head.target(), forwarded, "of {sent}");
    }
    row.finish();
}

#[test]
fn row_13_an_escaped_slash_stays_escaped_and_never_splits_a_segment() {
    let row = Row::new();
    for (sent, forwarded) in [
        ("/a%2fb", "/a%2fb"),
        ("/a%2F..", "/a%2f.."),
        ("/x/..%2f..%2fetc", "/x/..%2f..%2fetc"),
        ("/%2f/../a", "/a"),
    ] {
        assert!(row.forwards(get(sent)).head.target().eq_ignore_ascii_case(forwarded), "of {sent}");
    }
    for escaped in ["/%20", "/%c3%a9", "/%3f", "/%23", "/%25", "/%3b", "/a%3Ab"] {
        assert!(row.forwards(get(escaped)).head.target().eq_ignore_ascii_case(escaped), "of {escaped}");
    }
    row.finish();
}

#[test]
fn row_13_paths_that_climb_or_lie_are_refused() {
    let row = Row::new();
    for target in [
        "/..",
        "/../",
        "/../a",
        "/a/../..",
        "/a/../../b",
        "/%2e%2e",
        "/%2e%2e/a",
        "/.%2e/a",
        "/a/%2e%2e/%2e%2e/b",
        "/./..",
        "/%00",
        "/a%00b",
        "/a/%00/../b",
        "\\",
        "/\\",
        "/a\\b",
        "/a\\..\\b",
        "/%",
        "/%2",
        "/%zz",
        "/%2g",
        "/%g2",
        "/a%",
        "/a%4",
        "/%u0041",
        "/% 41",
        "/%-1",
        "/%+1",
        "/a/%2e%2",
        "/%%41",
    ] {
        row.refuses(&[400], get(target));
    }
    for raw in [&b"/\xc3\xa9"[..], b"/\xff", b"/a\x80b"] {
        let request = [b"GET ", raw, b" HTTP/1.1\r\nHost: a.example\r\n\r\n"].concat();
        row.refuses(&[400], request);
    }
    row.finish();
}

#[test]
fn row_13_what_is_routed_is_what_is_forwarded() {
    let open = Upstream::ok();
    let secret = Upstream::ok();
    let setup = Setup::new().tables(&format!(
        "[pool.secret]\nendpoints = [\"{}\"]\n[[route]]\nname = \"secret\"\npath = \"/admin\"\npool = \"secret\"\n",
        secret.address
    ));
    let switchback = setup.start(&open);
    for (target, is_secret, forwarded) in [
        ("/admin", true, "/admin"),
        ("/admin/x", true, "/admin/x"),
        ("/x/../admin/y", true, "/admin/y"),
        ("/x/%2e%2e/admin", true, "/admin"),
        ("/%61dmin", true, "/admin"),
        ("/./admin", true, "/admin"),
        ("/admin/../x", false, "/x"),
        ("/admin/%2e%2e/x", false, "/x"),
        ("/adminx", false, "/adminx"),
        ("/admin%2fx", false, "/admin%2fx"),
        ("/x%2f..%2fadmin", false, "/x%2f..%2fadmin"),
        ("//admin", false, "//admin"),
        ("/Admin", false, "/Admin"),
    ] {
        let (yes, no) = if is_secret { (&secret, &open) } else { (&open, &secret) };
        let before = no.requests();
        assert_eq!(switchback.client().exchange(get(target)).status, 200, "{target}");
        assert_eq!(no.requests(), before, "{target} went the wrong way");
        assert!(yes.last().head.target().eq_ignore_ascii_case(forwarded), "{target}: {:?}", yes.last().head);
    }
}

#[test]
fn row_13_merge_slashes_is_the_routes_choice() {
    let row = Row::with(Setup::new().route("merge_slashes = true"), Upstream::ok());
    for (sent, forwarded) in [("//", "/"), ("//a///b", "/a/b"), ("/a?x=//y", "/a?x=//y")] {
        assert_eq!(row.forwards(get(sent)).head.target(), forwarded, "of {sent}");
    }
    row.finish();
}
