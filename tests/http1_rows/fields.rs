//! Rows 5-7, 14-16: field lines.

use crate::{
    row::{HOST, Row, assert_ours, client_fields, get, post},
    support::{Setup, Upstream},
};

#[test]
fn row_05_space_before_the_colon_and_folded_lines() {
    let row = Row::new();
    for fields in [
        "X : y\r\n",
        "X\t: y\r\n",
        "X \t : y\r\n",
        "X: a\r\n b\r\n",
        "X: a\r\n\tb\r\n",
        "X: a\r\n \r\n",
        "X: a\r\n\t\r\n",
        " X: y\r\n",
        "\tX: y\r\n",
        " \r\n",
        "X y: z\r\n",
        "X\r\n",
        "X\r\n : y\r\n",
        "\u{b}X: y\r\n",
        "X\u{b}: y\r\n",
    ] {
        row.refuses(&[400], get(fields));
    }
    for head in [
        "GET / HTTP/1.1\r\n Host: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\n\tHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\n \r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\n X: y\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\n evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\n : x\r\nHost: a.example\r\n\r\n",
    ] {
        row.refuses(&[400], head);
    }
    row.finish();
}

#[test]
fn row_06_control_bytes_in_a_value_and_a_bare_cr_anywhere() {
    let row = Row::new();
    for control in (0..32).chain([127]).filter(|byte| ![b'\t', b'\n'].contains(byte)) {
        let control = char::from(control);
        for value in [format!("{control}b"), format!("a{control}b"), format!("a{control}")] {
            row.refuses(&[400], get(&format!("X: {value}\r\n")));
        }
        row.refuses(&[400], get(&format!("X{control}Y: z\r\n")));
        row.refuses(&[400], format!("GET /a{control}b HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        row.refuses(&[400, 505], format!("GET / HTTP/1.1{control}\r\nHost: {HOST}\r\n\r\n"));
    }
    for head in [
        "\rGET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET\r/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\rHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\n\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\n\r\r\n",
        "GET / HTTP/1.1\r\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\r\n\r\n",
    ] {
        row.refuses(&[400, 505], head);
    }
    row.finish();
}

#[test]
fn row_06_tabs_and_bytes_above_ascii_in_a_value_pass_as_they_are() {
    let row = Row::new();
    let mut request = format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\nX: a\tb ").into_bytes();
    request.extend(0x80..=0xff_u8);
    request.extend_from_slice(b"z\r\nEmpty:\r\nPunctuation: !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\r\n\r\n");
    let message = row.forwards(request);
    let high: String = (0x80..=0xff_u8).map(char::from).collect();
    assert_eq!(message.head.one("x"), Some(format!("a\tb {high}z").as_str()));
    assert_eq!(message.head.one("empty"), Some(""));
    assert_eq!(message.head.one("punctuation"), Some("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"));
    row.finish();
}

#[test]
fn row_07_a_bare_lf_in_the_head() {
    let row = Row::new();
    for head in [
        "GET / HTTP/1.1\nHost: a.example\n\n",
        "GET / HTTP/1.1\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\n\n",
        "GET / HTTP/1.1\r\nHost: a.example\n\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\nX: a\nY: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\nX: a\n b\r\n\r\n",
        "GET /\n HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\n\nX: y\r\n\r\n",
        "GET / HTTP/1.1\n\r\nHost: a.example\r\n\r\n",
    ] {
        row.refuses(&[400], head);
    }
    row.finish();
}

#[test]
fn row_14_what_connection_nominates_is_stripped_but_never_ours_nor_the_framing() {
    let row = Row::new();
    for name in ["Host", "Content-Length", "Transfer-Encoding", "host", "close, HOST", "content-length, X"] {
        row.refuses(&[400], get(&format!("Connection: {name}\r\n")));
        row.refuses(&[400], get(&format!("Connection: keep-alive\r\nConnection: {name}\r\n")));
    }
    row.refuses(&[400], post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"));

    for name in ["X-Forwarded-For", "x-forwarded-for", "X-Forwarded-Proto", "X-Forwarded-Host", "Via"] {
        let message = row.forwards(get(&format!("{name}: forged\r\nConnection: {name}\r\n")));
        assert_ours(&message.head, "127.0.0.1");
        assert!(!message.head.fields.iter().any(|(_, value)| value.contains("forged")), "{:?}", message.head);
    }
    let message = row.forwards(get(
        "Cookie: a=b\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\nConnection: cookie, X-ONE\r\nConnection: ,x-two,\r\n",
    ));
    assert_eq!(client_fields(&message.head), [("Host", HOST), ("X-Three", "3")]);
    row.finish();
}

#[test]
fn row_14_hop_by_hop_fields_are_stripped_and_the_others_keep_their_order_and_case() {
    let row = Row::new();
    let message = row.forwards(get(
        "aCCept: */*\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nX-b: 1\r\nTE: trailers\r\n\
         x-B: 2\r\nConnection: keep-alive, TE\r\nAccept: a\r\nProxy-Authenticate: x\r\n",
    ));
    let fields: Vec<_> = client_fields(&message.head)
        .into_iter()
        .filter(|(name, _)| {
            !["te", "proxy-authenticate", "connection"].contains(&name.to_ascii_lowercase().as_str())
        })
        .collect();
    assert_eq!(fields, [("Host", HOST), ("aCCept", "*/*"), ("X-b", "1"), ("x-B", "2"), ("Accept", "a")]);
    assert!(message.head.list("connection").iter().all(|option| option == "te"), "{:?}", message.head);
    row.finish();
}

#[test]
fn row_15_forged_forwarding_fields_are_overwritten() {
    let row = Row::new();
    let message = row.forwards(get(
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nx-forwarded-proto: https\r\n\
         X-FORWARDED-HOST: evil.example\r\nForwarded: for=6.6.6.6;proto=https\r\nX-Forwarded-Port: 666\r\n\
         X-Forwarded-Prefix: /evil\r\nX-Real-Name: kept\r\n",
    ));
    assert_ours(&message.head, "127.0.0.1");
    assert!(message.head.all("forwarded").is_empty(), "{:?}", message.head);
    assert!(message.head.all("x-forwarded-port").is_empty(), "{:?}", message.head);
    assert!(message.head.all("x-forwarded-prefix").is_empty(), "{:?}", message.head);
    assert_eq!(message.head.one("x-real-name"), Some("kept"));
    row.finish();
}

#[test]
fn row_15_a_trusted_proxy_is_believed_and_appended_to() {
    let setup = Setup::new().listener("trusted_proxies = [\"127.0.0.0/8\"]");
    let row = Row::with(setup, Upstream::ok());
    let mut client = row.client();
    let response = client.exchange(get(
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: outer.example\r\n",
    ));
    assert_eq!(response.status, 200);
    let head = row.upstream.last().head;
    assert_eq!(head.list("x-forwarded-for"), ["6.6.6.6", "127.0.0.1"], "{head:?}");
    assert_eq!(head.list("x-forwarded-proto"), ["https"], "{head:?}");
    assert_eq!(head.list("x-forwarded-host"), ["outer.example"], "{head:?}");
    assert_eq!(head.one("host"), Some(HOST));
    row.finish();
}

#[test]
fn row_16_names_with_an_underscore() {
    let row = Row::new();
    for fields in [
        "X_Y: z\r\n",
        "_: z\r\n",
        "Content_Length: 5\r\n",
        "Transfer_Encoding: chunked\r\n",
        "_X: y\r\n",
        "X_: y\r\n",
    ] {
        row.refuses(&[400], get(fields));
    }
    row.finish();

    let row = Row::with(Setup::new().listener("underscores = \"allow\""), Upstream::ok());
    let message = row.forwards(get("X_Y: z\r\n"));
    assert_eq!(message.head.one("x_y"), Some("z"));
    row.finish();
}
