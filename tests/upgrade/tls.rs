//! Listeners with TLS: the successor serves on the same sockets, with certificates that it has read itself, and opens the
//! tickets of its predecessor.

use super::{
    Line,
    authority::{Authority, Kind, listener},
    peer::Trust,
    support::{Setup, Upstream},
};

#[test]
fn a_successor_speaks_tls_on_the_same_sockets_and_resumes_the_sessions_of_before() {
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::ok();
    let line = Line::start(&Setup::new().listener(&listener(&pairs, "")).toml(&[&upstream]));
    let trust = Trust::of(&authority);
    let mut before = trust.connect(line.first.address, "a.example").expect("a handshake");
    assert_eq!(before.get("a.example").0, 200);
    let first = line.serving();
    let successor = line.replace();
    assert_eq!((line.serving(), successor == first), (successor, false));
    // Who was connected is served once more and asked to connect anew.
    let (status, text) = before.get("a.example");
    assert!(status == 200 && text.to_ascii_lowercase().contains("connection: close"), "{text}");
    assert!(before.rest().1, "the end is announced");
    for kind in [rustls::HandshakeKind::Resumed; 2] {
        let mut peer = trust.connect(line.first.address, "a.example").expect("a handshake");
        assert_eq!(peer.get("a.example").0, 200);
        assert_eq!(peer.stream.conn.handshake_kind(), Some(kind));
    }
}
