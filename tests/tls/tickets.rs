//! Keys of session tickets that a fleet shares by a file.

use std::{fs, process::Command};

use rustls::{
    HandshakeKind::{self, Full, Resumed},
    crypto::aws_lc_rs,
    version::{TLS12, TLS13},
};

use super::{
    authority::{Authority, Kind, listener},
    peer::Trust,
    support::{Setup, Switchback, Upstream, wait_until},
};

fn key() -> String {
    let output = Command::new("openssl").args(["rand", "-hex", "32"]).output();
    let text = output.expect("openssl is installed by tests/install").stdout;
    String::from_utf8(text).expect("hex").trim().to_owned()
}

fn kind(trust: &Trust, switchback: &Switchback) -> HandshakeKind {
    trust.get(switchback.address, "a.example").expect("a response")
}

#[test]
fn instances_with_one_file_of_keys_resume_each_others_sessions_and_others_do_not() {
    let authority = Authority::new();
    authority.write("tickets.keys", &key());
    authority.write("other.keys", &key());
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::ok();
    let start = |file: &str| {
        let keys = format!("ticket_keys = {:?}", authority.path(file));
        Setup::new().listener(&listener(&pairs, &keys)).start(&upstream)
    };
    let (one, two, other) = (start("tickets.keys"), start("tickets.keys"), start("other.keys"));
    for version in [&TLS12, &TLS13] {
        let trust = Trust::speaking(&authority, &[version], aws_lc_rs::default_provider());
        let kinds = [&one, &two, &one, &two, &other].map(|instance| kind(&trust, instance));
        assert_eq!(kinds, [Full, Resumed, Resumed, Resumed, Full], "{version:?}");
    }
    for instance in [&one, &two, &other] {
        let text = [instance.stderr(), instance.metrics(), instance.admin("GET", "/v1/config", "").text()];
        let secret = fs::read_to_string(authority.path("tickets.keys")).expect("a readable file");
        assert!(!text.concat().contains(&secret), "nothing shows a key");
    }
}

#[test]
fn keys_change_one_by_one_and_a_bad_file_changes_nothing() {
    let authority = Authority::new();
    let (old, new) = (key(), key());
    authority.write("tickets.keys", &old);
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::ok();
    let keys = format!("ticket_keys = {:?}", authority.path("tickets.keys"));
    let switchback = Setup::new().listener(&listener(&pairs, &keys)).start(&upstream);
    let trust = Trust::of(&authority);
    assert_eq!([0; 2].map(|_| kind(&trust, &switchback)), [Full, Resumed]);
    let applied =
        || switchback.metric("switchback_certificate_reloads_total{listener=\"web\",result=\"applied\"}");
    authority.write("tickets.keys", &format!("{new}\n{old}\n"));
    wait_until("both are in force", || applied() == 1.0);
    assert_eq!([0; 2].map(|_| kind(&trust, &switchback)), [Resumed; 2], "the old one still opens");
    authority.write("tickets.keys", &new);
    wait_until("the new one alone is", || applied() == 2.0);
    assert_eq!(kind(&trust, &switchback), Resumed, "it has sealed since");
    authority.write("tickets.keys", "too short");
    wait_until("it is refused", || switchback.metric("switchback_certificates_refused") == 1.0);
    assert_eq!(kind(&trust, &switchback), Resumed);
    assert!(!switchback.stderr().contains("too short"), "nothing of the file is shown");
    // A pair is not held up by it.
    authority.issue("site", &["a.example"], Kind::Rsa);
    wait_until("the new pair is in force", || applied() == 3.0);
}
