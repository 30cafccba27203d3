//! Rows 10, 11: whose request it is.

use crate::{
    row::{HOST, Row, assert_ours},
    support::{Setup, Upstream},
};

#[test]
fn row_10_a_host_that_is_missing_doubled_or_malformed() {
    let row = Row::new();
    row.refuses(&[400], "GET / HTTP/1.1\r\n\r\n");
    row.refuses(&[400], "GET / HTTP/1.1\r\nX: y\r\n\r\n");
    row.refuses(&[400], "GET http://a.example/ HTTP/1.1\r\n\r\n");
    for hosts in [
        "Host: a.example\r\nHost: a.example\r\n",
        "Host: a.example\r\nhost: b.example\r\n",
        "HOST: a.example\r\nX: y\r\nHost:\r\n",
    ] {
        row.refuses(&[400], format!("GET / HTTP/1.1\r\n{hosts}\r\n"));
    }
    for host in [
        "user@a.example",
        "user:pass@a.example",
        "@a.example",
        "a.example/",
        "a.example/path",
        "a.example,b.example",
        "a.example, a.example",
        "a.example:x",
        "a.example:99999",
        "a.example:65536",
        "a.example:-1",
        "a.example:+80",
        "a.example:80:80",
        "a.example: 80",
        "a example",
        "a.example b",
        "[::1",
        "::1",
        "[::1]x",
        "[g::1]",
        "[]",
        "[::1]:x",
        "a\\b",
        "a?b",
        "a#b",
        "a%zz",
        "a%",
        "<a>",
        "a\"b",
        "a|b",
        "a^b",
        "{a}",
        ":80",
        "http://a.example",
    ] {
        row.refuses(&[400], format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    row.finish();
}

#[test]
fn row_10_a_good_host_is_forwarded_as_it_was_sent() {
    let row = Row::new();
    for host in
        ["a.example", "A.Example", "a.example:8080", "[::1]", "[::1]:80", "127.0.0.1:1", "a-b.c", "localhost"]
    {
        let message = row.forwards(format!("GET / HTTP/1.1\r\nhOst: {host}\r\n\r\n"));
        assert_eq!(message.head.one("host"), Some(host));
    }
    for host in ["", "a.example:", "a.example.", "a_b.example", "a..b"] {
        if let Some(message) = row.refuses_or_forwards(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")) {
            assert_eq!(message.head.one("host"), Some(host));
        }
    }
    row.finish();
}

#[test]
fn row_10_http_1_0_without_a_host_gets_the_default_one_or_400() {
    let row = Row::new();
    row.refuses(&[400], "GET / HTTP/1.0\r\n\r\n");
    let message = row.forwards("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n");
    assert_eq!(message.head.one("host"), Some(HOST));
    row.finish();

    let row = Row::with(Setup::new().listener("default_host = \"default.example\""), Upstream::ok());
    let message = row.forwards("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(message.head.one("host"), Some("default.example"));
    assert_ours(&message.head, "127.0.0.1");
    row.refuses(&[400], "GET / HTTP/1.1\r\n\r\n");
    row.finish();
}

#[test]
fn row_11_an_absolute_form_that_differs_from_host() {
    let row = Row::new();
    for target in [
        "http://b.example/",
        "http://b.example",
        "http://a.example.b.example/",
        "http://a.example:81/",
        "http://user@a.example/",
        "http://a.example@b.example/",
        "http:///x",
        "http://",
        "http:/x",
        "http:a.example",
        "ftp://a.example/",
        "//a.example/x y",
        "http://a.example,b.example/",
        "http://a.example#f",
        "http://a.example/#f",
        "http://a.example\\/",
        "://a.example/",
    ] {
        row.refuses(&[400], format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
    }
    row.finish();
}

#[test]
fn row_11_an_absolute_form_that_agrees_is_forwarded_as_origin_form() {
    let row = Row::new();
    for (target, forwarded) in [
        ("http://a.example/x?y=z", "/x?y=z"),
        ("http://a.example/", "/"),
        ("http://a.example", "/"),
        ("http://a.example?q", "/?q"),
        ("http://a.example/b/../c", "/c"),
    ] {
        let message = row.forwards(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        assert_eq!(message.head.target(), forwarded);
        assert_eq!(message.head.one("host"), Some(HOST));
    }
    for target in ["HTTP://a.example/", "http://A.EXAMPLE/", "http://a.example:80/", "https://a.example/"] {
        if let Some(message) =
            row.refuses_or_forwards(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"))
        {
            assert_eq!(message.head.target(), "/");
            assert_eq!(message.head.one("host"), Some(HOST));
        }
    }
    row.finish();
}
