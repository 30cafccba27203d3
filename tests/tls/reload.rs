//! Certificates on disk: what is refused at a start, and what an edit does to a process that serves.
//!
//! The CI form reloads 20 times under load; `SWITCHBACK_LONG=1` does so 50 times.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;

use super::{
    authority::{Authority, Kind, listener},
    peer::Trust,
    support::{Setup, Switchback, Upstream, is_long, wait_until},
};

/// What `check` says of a file: whether it is good, and everything that it writes.
fn check(authority: &Authority, text: &str) -> (bool, String) {
    let file = authority.path("switchback.toml");
    fs::write(&file, text).expect("a writable folder");
    let output = Command::new(env!("CARGO_BIN_EXE_switchback"))
        .args(["check", "-c"])
        .arg(&file)
        .output()
        .expect("the binary that cargo built");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.success(), said.concat())
}

#[test]
fn what_is_wrong_with_a_pair_is_said_with_its_place_and_a_remedy() {
    let authority = Authority::new();
    let good = authority.issue("good", &["a.example"], Kind::Ecdsa);
    authority.issue("other", &["b.example"], Kind::Rsa);
    authority.write("empty.pem", "no PEM at all\n");
    authority.write("empty.key", "no PEM at all\n");
    authority.write(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGj\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    authority.write("broken.pem", "-----BEGIN CERTIFICATE-----\nMIGj\n-----END CERTIFICATE-----\n");
    // As a variable of the environment leaves them: without ends of lines; one with no dash at its end, too.
    let key = fs::read_to_string(authority.path("good.key")).expect("a readable file");
    let secret = key.lines().nth(1).expect("a line of base64");
    let flat = key.replace('\n', " ");
    authority.write("flat.key", &flat);
    authority.write("flat.pem", &flat);
    authority.write("dashless.key", &format!("-----BEGIN PRIVATE KEY {secret}\n"));
    let text = |pair: &str| Setup::new().listener(&listener(&[good.clone(), pair.to_owned()], "")).toml(&[]);
    for (certificate, key, words) in [
        ("absent", "good", "absent.pem can't be read"),
        ("good", "absent", "absent.key can't be read"),
        ("empty", "good", "there is no certificate in"),
        ("broken", "good", "holds no certificate that can be used"),
        ("good", "empty", "there is no private key in"),
        ("good", "locked", "is encrypted"),
        ("good", "other", "is not that of the certificate"),
        ("good", "flat", "its line ends are lost"),
        ("flat", "good", "its line ends are lost"),
        ("good", "dashless", "is not whole"),
    ] {
        let (is_good, said) = check(&authority, &text(&authority.named(certificate, key)));
        assert!(!is_good && said.contains(words), "{certificate} {key}: {said}");
        assert!(said.contains("help:") && said.contains("switchback.toml:"), "{said}");
        assert!(said.contains("listener web: ") && said.contains("^^^"), "the place is shown: {said}");
        assert!(!said.contains("MIGj"), "nothing of a file's content is shown: {said}");
        let bytes = format!("{:?}", &secret.as_bytes()[..8]);
        assert!(!said.contains(secret) && !said.contains(bytes.trim_matches(['[', ']'])), "{said}");
    }
    let (is_good, said) = check(&authority, &text(&authority.named("other", "other")));
    assert!(is_good && !said.contains("warning"), "{said}");
}

#[test]
fn what_will_surprise_is_a_warning() {
    let authority = Authority::new();
    let pairs = [
        authority.issue_until("old", &["a.example"], Kind::Ecdsa, 2021),
        authority.issue("open", &["b.example"], Kind::Ecdsa),
        authority.issue("nameless", &[], Kind::Ecdsa),
    ];
    fs::set_permissions(authority.path("open.key"), fs::Permissions::from_mode(0o644)).expect("our own file");
    let (is_good, said) = check(&authority, &Setup::new().listener(&listener(&pairs, "")).toml(&[]));
    assert!(is_good, "{said}");
    for words in ["has expired", "chmod 600", "has no DNS name"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
}

/// The certificate that is shown for a name, in a handshake that resumes no session.
fn shown(trust: &Trust, switchback: &Switchback) -> CertificateDer<'static> {
    let trust = trust.with(|config| config.resumption = rustls::client::Resumption::disabled());
    trust.connect(switchback.address, "a.example").expect("a handshake").certificate()
}

fn on_disk(authority: &Authority, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(authority.path(&format!("{name}.pem"))).expect("a certificate")
}

#[test]
fn a_new_pair_is_in_force_and_a_bad_one_leaves_the_old_and_is_told() {
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::ok();
    let switchback = Setup::new().listener(&listener(&pairs, "")).start(&upstream);
    let trust = Trust::of(&authority);
    let mut before = trust.connect(switchback.address, "a.example").expect("a handshake");
    let first = on_disk(&authority, "site");
    assert_eq!(before.certificate(), first);

    authority.issue("site", &["a.example"], Kind::Rsa);
    let second = on_disk(&authority, "site");
    wait_until("the new pair is in force", || shown(&trust, &switchback) == second);
    assert_eq!(before.get("a.example").0, 200, "who was connected stays so");

    let key = fs::read_to_string(authority.path("site.key")).expect("a readable file");
    authority.write("site.key", "half of a k");
    let error = || switchback.json("GET", "/v1/certificates", "")["certificates"][0]["error"].clone();
    wait_until("the API tells of it", || error().as_str().is_some_and(|error| error.contains("private key")));
    assert_eq!(switchback.metric("switchback_certificates_refused"), 1.0);
    assert!(
        switchback.metric("switchback_certificate_reloads_total{listener=\"web\",result=\"refused\"}") >= 1.0
    );
    assert!(switchback.stderr().contains("the old ones stay"), "the log tells of it");
    assert_eq!(shown(&trust, &switchback), second);
    // An edit of the file in the meantime says so, too, and changes nothing.
    let refused = switchback.admin("POST", "/v1/config/reload", "");
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("/listener/0/tls/certificates/0/key"), "{}", refused.text());

    authority.write("site.key", &key);
    wait_until("it is good again", || error().is_null());
    assert_eq!(switchback.metric("switchback_certificates_refused"), 0.0);
    authority.issue("site", &["a.example"], Kind::Ecdsa);
    switchback.signal("HUP");
    wait_until("the third is in force", || shown(&trust, &switchback) == on_disk(&authority, "site"));
}

#[test]
fn the_api_lists_what_is_in_force_and_nothing_of_a_key() {
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example", "*.b.example"], Kind::Ecdsa)];
    let upstream = Upstream::ok();
    let switchback = Setup::new().listener(&listener(&pairs, "")).start(&upstream);
    let listed = switchback.json("GET", "/v1/certificates", "");
    let one = &listed["certificates"][0];
    assert_eq!(one["listener"], json!("web"));
    assert_eq!(one["names"], json!(["a.example", "*.b.example"]));
    assert_eq!(one["not_after"], json!("2100-01-01T00:00:00.000Z"));
    assert_eq!(one["issuer"], json!("CN=an authority for tests"));
    assert_eq!(one["cert"], json!(authority.path("site.pem")));
    assert_eq!(one["fingerprint"].as_str().map(str::len), Some(64));
    let key = fs::read_to_string(authority.path("site.key")).expect("a readable file");
    let secret = key.lines().nth(1).expect("a line of base64");
    let exported = switchback.admin("GET", "/v1/config/export", "").text();
    for text in [listed.to_string(), switchback.metrics(), exported, switchback.stderr()] {
        assert!(!text.contains(secret) && !text.contains("PRIVATE KEY"), "{text}");
    }
    let expiry = "switchback_certificate_not_after_seconds{listener=\"web\",name=\"a.example\",place=\"0\"}";
    assert_eq!(switchback.metric(expiry), 4_102_444_800.0);
}

#[test]
fn what_is_applied_names_no_other_files_and_an_edit_may_turn_tls_on_and_off() {
    let authority = Authority::new();
    let (one, other) = (
        authority.issue("one", &["a.example"], Kind::Ecdsa),
        authority.issue("other", &["a.example"], Kind::Ecdsa),
    );
    let upstream = Upstream::ok();
    let with = |pairs: &[String]| Setup::new().listener(&listener(pairs, "")).toml(&[&upstream]);
    let switchback = Switchback::start(&with(std::slice::from_ref(&one)));
    let refused = switchback.put_file(&with(&[one.clone(), other.clone()]));
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("/listener/0/tls/certificates/1"), "{}", refused.text());

    let trust = Trust::of(&authority);
    switchback.write(&with(&[other, one]));
    wait_until("the edit is in force", || shown(&trust, &switchback) == on_disk(&authority, "other"));
    switchback.write(&Setup::new().toml(&[&upstream]));
    wait_until("it speaks plain HTTP", || trust.connect(switchback.address, "a.example").is_err());
    assert_eq!(switchback.client().exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").status, 200);
}

#[test]
fn no_request_fails_over_many_reloads_with_bad_ones_between() {
    let reloads = if is_long() { 50 } else { 20 };
    let authority = Authority::new();
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let upstream = Upstream::ok();
    let setup = Setup::new().global("workers = 2").listener(&listener(&pairs, ""));
    let switchback = setup.start(&upstream);
    let trust = Trust::of(&authority);
    let (ended, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = [true, false]
        .into_iter()
        .map(|keeps| {
            let (ended, served, trust) = (Arc::clone(&ended), Arc::clone(&served), trust.clone());
            let address = switchback.address;
            thread::spawn(move || {
                let mut peer = trust.connect(address, "a.example").expect("a handshake");
                while !ended.load(Ordering::Relaxed) {
                    if !keeps {
                        peer = trust.connect(address, "a.example").expect("a handshake");
                    }
                    assert_eq!(peer.get("a.example").0, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for number in 0..reloads {
        if number % 5 == 4 {
            authority.write("site.pem", "no certificate");
            wait_until("the bad one is refused", || {
                switchback.metric("switchback_certificates_refused") == 1.0
            });
        }
        authority.issue("site", &["a.example"], Kind::Ecdsa);
        let next = on_disk(&authority, "site");
        wait_until("the next one is in force", || shown(&trust, &switchback) == next);
    }
    ended.store(true, Ordering::Relaxed);
    load.into_iter().for_each(|thread| thread.join().expect("no request failed"));
    assert!(served.load(Ordering::Relaxed) > reloads, "there was no load");
}
