//! How browsers are brought to HTTPS and kept there.

use std::{io::Write as _, net::TcpStream, process::Command};

use super::{
    authority::{Authority, Kind, listener},
    peer::Trust,
    support::{Setup, Upstream},
};

#[test]
fn plain_requests_are_sent_to_https_unless_a_trusted_proxy_says_that_they_came_so() {
    let upstream = Upstream::ok();
    for (port, shown) in [(443, ""), (8443, ":8443")] {
        let keys = format!("redirect_to_https = {port}\ntrusted_proxies = [\"127.0.0.1\"]");
        let switchback = Setup::new().listener(&keys).start(&upstream);
        for (host, path) in [("a.example", "/x?y=1"), ("A.example:8080", "/"), ("[::1]:8080", "/a//b")] {
            let request = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\nx");
            let answer = switchback.client().exchange(&request);
            let name = host.strip_suffix(":8080").unwrap_or(host).to_ascii_lowercase();
            let location = format!("https://{name}{shown}{path}");
            assert_eq!((answer.status, answer.head.one("location")), (308, Some(&*location)), "{host}");
            assert_eq!(answer.head.one("strict-transport-security"), None);
        }
        let before = upstream.requests();
        let secure = "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-Proto: https\r\n\r\n";
        assert_eq!(switchback.client().exchange(secure).status, 200);
        assert_eq!(upstream.requests(), before + 1, "it alone is forwarded");
    }
}

#[test]
fn curl_follows_to_https() {
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["localhost"], Kind::Ecdsa)];
    let upstream = Upstream::ok();
    let secure = Setup::new().listener(&listener(&pairs, "")).start(&upstream);
    let plain = format!("redirect_to_https = {}", secure.address.port());
    let plain = Setup::new().listener(&plain).start(&upstream);
    let output = Command::new("curl")
        .args([
            "-sS",
            "-4",
            "-L",
            "--http1.1",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{num_redirects}",
            "--cacert",
        ])
        .arg(authority.file())
        .arg(format!("http://localhost:{}/", plain.address.port()))
        .output()
        .expect("curl is installed by tests/install");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200 1");
}

#[test]
fn browsers_are_told_once_over_tls_alone_and_the_route_may_say_otherwise() {
    const NAME: &str = "strict-transport-security";
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=1\r\nContent-Length: 2\r\n\r\nok",
    );
    let told = |keys: &str, edits: &str, host: &str| {
        let tables = format!(
            "[[route]]\nname = \"edited\"\nhosts = [\"edited.example\"]\npool = \"app\"\nresponse_headers = {edits}"
        );
        let switchback = Setup::new().listener(&listener(&pairs, keys)).tables(&tables).start(&upstream);
        let mut peer = Trust::of(&authority).connect(switchback.address, "a.example").expect("a handshake");
        let told = |text: String| -> Vec<String> {
            let lines = text.lines().map(str::to_ascii_lowercase);
            lines.filter_map(|line| Some(line.strip_prefix(NAME)?.strip_prefix(": ")?.to_owned())).collect()
        };
        let forwarded = told(peer.get(host).1);
        peer.send(format!("GET /%00 HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let own = told(peer.response().expect("a response").1);
        // A plain request to this port is answered in the clear.
        let mut plain = TcpStream::connect(switchback.address).expect("it accepts");
        plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it takes bytes");
        let text = std::io::read_to_string(plain).expect("an answer");
        assert!(text.contains("400 ") && told(text.clone()).is_empty(), "{text}");
        (forwarded, own)
    };
    let of = |text: &str| vec![text.to_owned()];
    assert_eq!(told("", "{}", "a.example"), (of("max-age=1"), vec![]), "the upstream's own");
    let year = "max-age=31536000";
    assert_eq!(told("hsts = {}", "{}", "a.example"), (of(year), of(year)));
    let whole = "max-age=63072000; includesubdomains; preload";
    let keys = "hsts = { max_age = \"17520h\", include_subdomains = true, preload = true }";
    assert_eq!(told(keys, "{}", "a.example"), (of(whole), of(whole)));
    let edits = "{ set = { Strict-Transport-Security = \"max-age=5\" } }";
    assert_eq!(told("hsts = {}", edits, "edited.example").0, of("max-age=5"));
}
