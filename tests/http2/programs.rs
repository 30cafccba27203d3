//! curl and h2load, with and without TLS.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
    thread,
};

use super::{
    authority::{Authority, Kind, listener},
    support::{
        Setup, Switchback, Upstream, config::blue_green, pattern, successors::Successors, upstream::response,
    },
};

fn curl(arguments: &[&str]) -> Output {
    Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output().expect("curl")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_speaks_http2_with_prior_knowledge_and_http1_on_the_same_port() {
    let upstream = Upstream::echo();
    let switchback = Setup::new().start(&upstream);
    let url = format!("http://{}/", switchback.address);
    let version = "\n%{http_version} %{response_code}";
    for (how, expected) in [("--http2-prior-knowledge", "hi\n2 200"), ("--http1.1", "hi\n1.1 200")] {
        assert_eq!(said(&curl(&[how, "-w", version, "--data-binary", "hi", &url])), expected);
    }
    // An upgrade from HTTP/1.1 is no way to HTTP/2 (RFC 9113 has dropped it): the request is answered as it is.
    assert_eq!(said(&curl(&["--http2", "-w", version, "--data-binary", "hi", &url])), "hi\n1.1 200");
    assert!(upstream.last().head.all("upgrade").is_empty());
}

#[test]
fn curl_sends_a_large_body_and_gets_it_back() {
    let upstream = Upstream::echo();
    let switchback = Setup::new().start(&upstream);
    let body = pattern(8 << 20, 11);
    let mut child = Command::new("curl")
        .args(["-sS", "--max-time", "60", "--http2-prior-knowledge", "-H", "Expect:", "--data-binary", "@-"])
        .arg(format!("http://{}/", switchback.address))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl");
    let mut stdin = child.stdin.take().expect("piped");
    let sent = body.clone();
    let writer = thread::spawn(move || stdin.write_all(&sent));
    let output = child.wait_with_output().expect("our own child");
    writer.join().expect("no panic").expect("curl reads it all");
    assert!(output.status.success() && output.stdout == body, "{} bytes", output.stdout.len());
    upstream.assert_canonical();
}

/// A listener with TLS and a certificate for each of two hosts.
fn over_tls(authority: &Authority, keys: &str, upstream: &Upstream) -> Switchback {
    let pairs = ["a.example", "b.example"].map(|name| authority.issue(name, &[name], Kind::Ecdsa));
    Setup::new().listener(&format!("{}\n{keys}", listener(&pairs, ""))).start(upstream)
}

fn curl_tls(authority: &Authority, switchback: &Switchback, more: &[&str]) -> String {
    let port = switchback.address.port();
    let resolve = ["a.example", "b.example"].map(|name| format!("{name}:{port}:127.0.0.1"));
    let root = authority.file().display().to_string();
    let known = ["--cacert", &root, "--resolve", &resolve[0], "--resolve", &resolve[1]];
    said(&curl(&[&known[..], &["-w", "\n%{http_version} %{response_code}"], more].concat()))
}

#[test]
fn http2_is_agreed_on_in_the_handshake() {
    let (authority, upstream) = (Authority::new(), Upstream::ok());
    let switchback = over_tls(&authority, "", &upstream);
    let url = format!("https://a.example:{}/", switchback.address.port());
    assert_eq!(curl_tls(&authority, &switchback, &["--http2", &url]), "ok\n2 200");
    assert_eq!(upstream.last().head.all("x-forwarded-proto"), ["https"]);
    assert_eq!(curl_tls(&authority, &switchback, &["--http1.1", &url]), "ok\n1.1 200");
    // Who agreed on HTTP/1.1, or on nothing, speaks it.
    assert_eq!(curl_tls(&authority, &switchback, &["--http2", "--no-alpn", &url]), "ok\n1.1 200");
}

#[test]
fn a_listener_without_http2_speaks_http1_to_everybody() {
    let (authority, upstream) = (Authority::new(), Upstream::ok());
    let switchback = over_tls(&authority, "http2 = false", &upstream);
    let url = format!("https://a.example:{}/", switchback.address.port());
    assert_eq!(curl_tls(&authority, &switchback, &["--http2", &url]), "ok\n1.1 200");
    let plain = Setup::new().listener("http2 = false").start(&upstream);
    let response = plain.client().exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(response.status >= 400, "{response:?}");
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn row_31_a_host_of_another_certificate_is_misdirected() {
    let (authority, upstream) = (Authority::new(), Upstream::ok());
    let switchback = over_tls(&authority, "", &upstream);
    let url = format!("https://a.example:{}/", switchback.address.port());
    let answer = curl_tls(&authority, &switchback, &["--http2", "-H", "Host: b.example", &url]);
    assert!(answer.ends_with("\n2 421"), "{answer}");
    let answer = curl_tls(&authority, &switchback, &["--http2", "-H", "Host: c.example", &url]);
    assert!(answer.ends_with("\n2 200"), "a host of no certificate is the route's matter: {answer}");
    assert_eq!(upstream.requests(), 1);
}

/// Runs h2load while something else happens; answers what it counted.
fn h2load(arguments: &[&str], mut meanwhile: impl FnMut()) -> String {
    let mut child = Command::new("h2load")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("h2load");
    while child.try_wait().expect("our own child").is_none() {
        meanwhile();
    }
    said(&child.wait_with_output().expect("our own child"))
}

#[test]
fn weights_change_under_h2load_and_no_request_fails() {
    let upstream = |name: &'static [u8]| Upstream::answering(response(200, name));
    let (blue, green) = (upstream(b"blue"), upstream(b"green"));
    let switchback = Switchback::start(&blue_green(2, (100, 0), "", &blue, &green));
    let url = format!("http://{}/", switchback.address);
    let mut changes = 0u32;
    let counted = h2load(&["-n", "12000", "-c", "4", "-m", "16", &url], || {
        let (blue, green) = [(100, 0), (0, 100), (50, 50), (90, 10)][changes as usize % 4];
        switchback.weigh(blue, green);
        changes += 1;
    });
    assert!(counted.contains("12000 succeeded, 0 failed, 0 errored, 0 timeout"), "{counted}");
    assert!(counted.contains("12000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{counted}");
    assert!(changes > 20, "only {changes} changes");
    assert!(blue.requests() > 0 && green.requests() > 0);
    assert_eq!(switchback.metric("switchback_http2_streams_total"), 12_000.0);
    println!("{changes} changes");
}

#[test]
fn h2load_over_tls_loses_nothing_that_it_has_sent_when_the_binary_is_replaced() {
    let authority = Authority::new();
    let upstream = Upstream::answering(response(200, b"ok"));
    let switchback = over_tls(&authority, "", &upstream);
    let url = format!("https://127.0.0.1:{}/", switchback.address.port());
    let mut successors = Successors::default();
    let mut is_replaced = false;
    // It opens no other connection after a GOAWAY, and counts the requests as errors that it then can't begin.
    let counted = h2load(&["-n", "20000", "-c", "4", "-m", "8", &url], || {
        if !is_replaced && upstream.requests() > 50 {
            successors.replace(&switchback);
            is_replaced = true;
        }
        thread::sleep(std::time::Duration::from_millis(5));
    });
    assert!(is_replaced && counted.contains(" 0 3xx, 0 4xx, 0 5xx"), "{counted}");
    let answered = counted.split(" done, ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a count");
    assert_eq!(answered.parse(), Ok(upstream.requests()), "{counted}");
    // The successor serves the next.
    let counted = h2load(&["-n", "500", "-c", "4", "-m", "8", &url], || {
        thread::sleep(std::time::Duration::from_millis(5));
    });
    assert!(counted.contains("500 succeeded, 0 failed"), "{counted}");
    assert!(switchback.metric("switchback_http2_streams_total") >= 500.0);
}

#[test]
fn h2load_over_tls_with_bodies() {
    let authority = Authority::new();
    let upstream = Upstream::answering(response(200, &[7; 100_000]));
    let switchback = over_tls(&authority, "", &upstream);
    let url = format!("https://127.0.0.1:{}/", switchback.address.port());
    let counted = h2load(&["-n", "600", "-c", "3", "-m", "20", &url], || {
        thread::sleep(std::time::Duration::from_millis(5));
    });
    assert!(counted.contains("600 succeeded, 0 failed, 0 errored, 0 timeout"), "{counted}");
    assert!(counted.contains("Application protocol: h2"), "{counted}");
}
