//! The second address: livez, readyz and metrics for everybody, and nothing else.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use super::{Answer, Ask, Folder, Guarded, SECOND, connect};

fn guarded() -> (Guarded, SocketAddr) {
    let guarded = Guarded::start(Folder::new());
    let address = guarded.switchback.health.expect("this file names one");
    (guarded, address)
}

fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(Ipv4Addr::LOCALHOST, address);
    // It may be answered before all of it is read.
    let _ = stream.write_all(request.as_bytes());
    Answer::read(stream)
}

#[test]
fn probes_and_scrapers_are_served_by_any_name_and_nothing_else_is_there() {
    let (guarded, address) = guarded();
    let line = |method: &str, path: &str, more: &str| {
        ask(
            address,
            &format!("{method} {path} HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n{more}\r\n"),
        )
    };
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = line("GET", path, "");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        assert_eq!(line("HEAD", path, "").status, 200);
        assert_eq!(line("POST", path, "").status, 405);
        assert_eq!(line("GET", path, "Content-Length: 5\r\n").status, 413, "no body is taken");
        assert_eq!(line("GET", path, "Transfer-Encoding: chunked\r\n").status, 413);
    }
    assert!(line("GET", "/metrics", "").body.contains("switchback_build_info"));
    for path in ["/v1/status", "/v1/splits/main/weights", "/openapi.json", "/", "/livez/../v1/status"] {
        assert_eq!(line("GET", path, "").status, 404, "{path}");
        assert_eq!(line("PUT", path, "").status, 404, "{path}");
    }
    assert_eq!(guarded.get("/v1/status", None).status, 401, "the admin API asks for a token as before");
}

#[test]
fn slow_idle_and_many_clients_keep_no_probe_out() {
    let (_guarded, address) = guarded();
    let begun = Instant::now();
    let mut slow = connect(Ipv4Addr::LOCALHOST, address);
    slow.write_all(b"GET /livez HT").expect("it reads");
    let _held: Vec<_> = (0..150)
        .map(|number| {
            let mut stream = connect(Ipv4Addr::LOCALHOST, address);
            let sent = [&b""[..], b"GET /me", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"][number % 3];
            let _ = stream.write_all(sent);
            let probe = ask(address, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            assert_eq!(probe.status, 200, "after {number}");
            stream
        })
        .collect();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(begun.elapsed() < 15 * SECOND, "the slow head was ended: {:?}", begun.elapsed());
    let large = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(200_000));
    assert_eq!(ask(address, &large).status, 431);
}

#[test]
fn no_endpoint_can_be_the_address_itself() {
    let folder = Folder::new();
    let token = folder.make("operator", "ops", &[]);
    let guarded = Guarded::start(folder);
    let address = guarded.switchback.health.expect("this file names one");
    let path = format!("/v1/pools/blue/endpoints/{address}");
    let answer = guarded.ask("PUT", &path, Ask { token: Some(&token), ..Ask::default() });
    assert_eq!((answer.status, answer.problem().as_str()), (422, "invalid-address"), "{answer:?}");
}
