//! Certificates of clients: who is let in, who is told of, and what an edit of authorities and revocations does.

use std::{fs, process::Command};

use rustls::{
    HandshakeKind::{Full, Resumed},
    crypto::aws_lc_rs,
    version::{TLS12, TLS13},
};

use super::{
    authority::{Authority, Kind, listener},
    peer::Trust,
    support::{Setup, Switchback, Upstream, wait_until},
};

/// A listener that asks for certificates of an authority.
fn keys(authority: &Authority, more: &str) -> String {
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    listener(&pairs, &format!("client_ca = {:?}{more}", authority.file()))
}

fn count(switchback: &Switchback, result: &str) -> f64 {
    switchback.metric(&format!("switchback_tls_handshakes_total{{result=\"{result}\"}}"))
}

/// What a client writes who would like to be somebody else.
const FORGED: &str = "Client-Cert: :Zm9yZ2Vk:\r\nclient-cert-chain: :Zm9yZ2Vk:\r\nX-Forwarded-Client-Cert: Subject=\"CN=admin\"\r\n";

#[test]
fn only_who_shows_a_certificate_of_the_authority_that_is_in_date_is_let_in() {
    let (authority, other) = (Authority::new(), Authority::new());
    let upstream = Upstream::ok();
    let switchback = Setup::new().listener(&keys(&authority, "")).start(&upstream);
    for version in [&TLS12, &TLS13] {
        let trust = Trust::speaking(&authority, &[version], aws_lc_rs::default_provider());
        let before = ["no_certificate", "bad_certificate"].map(|result| count(&switchback, result));
        trust.get(switchback.address, "a.example").expect_err("it shows none");
        for wrong in [other.client("stranger", 1, 2100), authority.client("late", 2, 2021)] {
            trust.showing(&wrong).get(switchback.address, "a.example").expect_err("it does not count");
        }
        wait_until("each is counted", || {
            ["no_certificate", "bad_certificate"].map(|result| count(&switchback, result))
                == [before[0] + 1.0, before[1] + 2.0]
        });
        let known = trust.showing(&authority.client("known", 3, 2100));
        let kinds = [0; 3].map(|_| known.get(switchback.address, "a.example").expect("it counts"));
        assert_eq!(kinds, [Full, Resumed, Resumed]);
    }
    assert_eq!(upstream.requests(), 6, "nobody else came through");
}

#[test]
fn upstreams_are_told_who_the_client_is_and_nothing_that_a_client_says_of_itself() {
    let authority = Authority::new();
    let upstream = Upstream::ok();
    let switchback = Setup::new()
        .listener(&format!(
            "{}\ntrusted_proxies = [\"127.0.0.1\"]",
            keys(&authority, "client_auth = \"optional\"")
        ))
        .start(&upstream);
    let trust = Trust::of(&authority);
    let ask = |trust: &Trust| {
        let mut peer = trust.connect(switchback.address, "a.example").expect("a handshake");
        peer.send(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{FORGED}\r\n"));
        assert_eq!(peer.response().expect("a response").0, 200);
        upstream.last().head
    };
    let unknown = ask(&trust);
    for field in ["client-cert", "client-cert-chain", "x-forwarded-client-cert"] {
        assert_eq!(unknown.all(field), [""; 0], "not even a trusted proxy says who asks here");
    }
    let pair = authority.client("deploy", 0x51, 2100);
    let showing = trust.showing(&pair);
    // Told alike after a whole handshake and after a resumed one.
    for _ in 0..2 {
        let known = ask(&showing);
        let told = known.one("client-cert").expect("a certificate");
        let pem = fs::read_to_string(authority.path("deploy.pem")).expect("a readable file");
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(told, format!(":{base64}:"));
        assert_eq!(known.all("client-cert-chain"), [""; 0]);
        let summary = known.one("x-forwarded-client-cert").expect("a summary");
        let (hash, rest) = summary.split_once(';').expect("parts");
        assert_eq!(hash.len(), "Hash=".len() + 64, "{summary}");
        let expected = "Subject=\"CN=deploy,O=clients\\2C and tests\";URI=spiffe://tests.example/deploy";
        assert_eq!(rest, expected);
    }
}

#[test]
fn who_may_say_who_the_client_is_on_a_listener_that_asks_nobody() {
    let upstream = Upstream::ok();
    for (keys, passes) in [("", false), ("trusted_proxies = [\"127.0.0.1\"]", true)] {
        let underscores = "underscores = \"allow\"";
        let switchback = Setup::new().listener(&format!("{keys}\n{underscores}")).start(&upstream);
        let forged = format!("{FORGED}X_Forwarded_Client_Cert: x\r\nClient_Cert: x\r\nCLIENT-CERT: x\r\n");
        let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{forged}\r\n");
        assert_eq!(switchback.client().exchange(&request).status, 200);
        let head = upstream.last().head;
        let told = ["client-cert", "client-cert-chain", "x-forwarded-client-cert"];
        assert!(told.iter().all(|field| head.all(field).is_empty() != passes), "{keys}: {:?}", head.fields);
        for field in ["x_forwarded_client_cert", "client_cert"] {
            assert!(head.all(field).is_empty(), "{keys}: {:?}", head.fields);
        }
    }
    // In trailers nobody says it (RFC 9440 2.2).
    let echo = Upstream::echo();
    let switchback = Setup::new().listener("trusted_proxies = [\"127.0.0.1\"]").start(&echo);
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n0\r\nClient-Cert: x\r\nX-T: y\r\n\r\n";
    switchback.client().exchange(request);
    let shown = format!("{:?}", echo.last());
    assert!(!shown.to_ascii_lowercase().contains("client-cert") && shown.contains("X-T"), "{shown}");
}

#[test]
fn a_new_list_of_revocations_shuts_out_whom_it_names_with_all_their_sessions() {
    let authority = Authority::new();
    authority.revoke("ca.crl", &[7], 2100);
    let upstream = Upstream::ok();
    let list = format!("crl = [{:?}]", authority.path("ca.crl"));
    let switchback = Setup::new().listener(&keys(&authority, &list)).start(&upstream);
    let trust = Trust::of(&authority);
    let revoked = trust.showing(&authority.client("revoked", 7, 2100));
    revoked.get(switchback.address, "a.example").expect_err("it was revoked");
    let later = trust.showing(&authority.client("later", 8, 2100));
    let stays = trust.showing(&authority.client("stays", 9, 2100));
    let mut connected = later.connect(switchback.address, "a.example").expect("a handshake");
    for client in [&later, &stays] {
        client.get(switchback.address, "a.example").expect("it counts");
        assert_eq!(client.get(switchback.address, "a.example").expect("it counts"), Resumed);
    }
    authority.revoke("ca.crl", &[7, 8], 2100);
    wait_until("the list is in force", || {
        switchback.metric("switchback_certificate_reloads_total{listener=\"web\",result=\"applied\"}") >= 1.0
    });
    later.get(switchback.address, "a.example").expect_err("it is revoked, whatever it has kept");
    assert_eq!(stays.get(switchback.address, "a.example").expect("it counts"), Full, "it is judged anew");
    assert_eq!(stays.get(switchback.address, "a.example").expect("it counts"), Resumed);
    assert_eq!(connected.get("a.example").0, 200, "who was connected stays so");
    let next_update = "switchback_crl_next_update_seconds{listener=\"web\",issuer=\"CN=an authority for tests\",place=\"0\"}";
    assert_eq!(switchback.metric(next_update), 4_102_444_800.0);
    // A list that is out of date says nothing of anybody.
    authority.revoke("ca.crl", &[7, 8], 2022);
    wait_until("nobody counts", || stays.get(switchback.address, "a.example").is_err());
    assert!(switchback.stderr().contains("out of date"), "the log tells of it");
    authority.revoke("ca.crl", &[7], 2100);
    wait_until("the list is in force", || later.get(switchback.address, "a.example").is_ok());
    revoked.get(switchback.address, "a.example").expect_err("it stays revoked");
}

#[test]
fn a_bad_file_leaves_the_old_in_force_and_another_authority_lets_its_own_in() {
    let (authority, other) = (Authority::new(), Authority::new());
    let upstream = Upstream::ok();
    authority.revoke("ca.crl", &[], 2100);
    let list = format!("crl = [{:?}]", authority.path("ca.crl"));
    let switchback = Setup::new().listener(&keys(&authority, &list)).start(&upstream);
    let trust = Trust::of(&authority);
    let own = trust.showing(&authority.client("own", 1, 2100));
    let stranger = trust.showing(&other.client("stranger", 1, 2100));
    own.get(switchback.address, "a.example").expect("it counts");
    let good = ["ca.pem", "ca.crl"]
        .map(|name| (name, fs::read_to_string(authority.path(name)).expect("a readable file")));
    let error = || switchback.json("GET", "/v1/certificates", "")["clients"][0]["error"].clone();
    for (name, text) in &good {
        authority.write(name, "half of a fi");
        wait_until("the API tells of it", || error().as_str().is_some_and(|error| error.contains(name)));
        assert_eq!(switchback.metric("switchback_certificates_refused"), 1.0);
        own.get(switchback.address, "a.example").expect("the old stays");
        authority.write(name, text);
        wait_until("it is good again", || error().is_null());
    }
    // Both files change together: what one of them says alone is not in force for long.
    let both = [("ca.pem", "ca.pem"), ("ca.crl", "ca.crl")];
    other.revoke("ca.crl", &[], 2100);
    for (from, to) in both {
        authority.write(to, &fs::read_to_string(other.path(from)).expect("a readable file"));
    }
    wait_until("the other one's clients count", || stranger.get(switchback.address, "a.example").is_ok());
    own.get(switchback.address, "a.example").expect_err("its session is of an authority of before");
}

#[test]
fn curl_shows_its_certificate_and_the_access_log_tells_of_it_where_it_is_asked_to() {
    let authority = Authority::new();
    let log = authority.path("access.log");
    let upstream = Upstream::ok();
    let tables = format!(
        "[access_log]\npath = {log:?}\nformat = '{{status}} {{tls_version}} {{tls_cipher}} {{sni}} \"{{client_subject}}\" {{client_names}} {{client_fingerprint}}'"
    );
    let switchback = Setup::new().listener(&keys(&authority, "")).tables(&tables).start(&upstream);
    authority.client("curl", 5, 2100);
    let port = switchback.address.port();
    let curl = |with: &[&str]| {
        let output = Command::new("curl")
            .args([
                "-sS",
                "--http1.1",
                "--resolve",
                &format!("a.example:{port}:127.0.0.1"),
                "-w",
                "%{http_code}",
            ])
            .arg("--cacert")
            .arg(authority.file())
            .args(["-o", "/dev/null", &format!("https://a.example:{port}/")])
            .args(with)
            .current_dir(&authority.folder)
            .output()
            .expect("curl is installed by tests/install");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(curl(&["--cert", "curl.pem", "--key", "curl.key"]), "200");
    assert_eq!(curl(&[]), "000");
    wait_until("the line is written", || fs::read_to_string(&log).is_ok_and(|text| text.ends_with('\n')));
    let text = fs::read_to_string(&log).expect("a readable file");
    let start = "200 TLSv1.3 TLS_AES_256_GCM_SHA384 a.example \"CN=curl,O=clients\\\\2C and tests\" URI:spiffe://tests.example/curl ";
    assert!(text.starts_with(start) && text.len() == start.len() + 65, "{text}");
}

#[test]
fn what_is_wrong_with_what_is_asked_of_clients_is_said_with_its_place_and_a_remedy() {
    let authority = Authority::new();
    authority.write("empty.pem", "no PEM at all\n");
    authority.revoke("old.crl", &[], 2022);
    let pairs = [authority.issue("site", &["a.example"], Kind::Ecdsa)];
    let path = |name: &str| format!("{:?}", authority.path(name));
    for (keys, is_good, words) in [
        (format!("client_ca = {}", path("absent.pem")), false, "can't be read"),
        (format!("client_ca = {}", path("empty.pem")), false, "holds no certificate"),
        (format!("client_ca = {}, crl = [{}]", path("ca.pem"), path("empty.pem")), false, "no list"),
        (format!("client_ca = {}, crl = [{}]", path("ca.pem"), path("old.crl")), true, "is out of date"),
        ("client_auth = \"optional\"".to_owned(), false, "without \"client_ca\""),
        (format!("ticket_keys = {}", path("absent.keys")), true, ""),
        ("hsts = { preload = true }".to_owned(), false, "include_subdomains"),
    ] {
        let file = authority.path("switchback.toml");
        let text = Setup::new().listener(&listener(&pairs, &keys)).toml(&[]);
        fs::write(&file, text).expect("a writable folder");
        let output = Command::new(env!("CARGO_BIN_EXE_switchback"))
            .args(["check", "-c"])
            .arg(&file)
            .output()
            .expect("the binary that cargo built");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let said = said.concat();
        assert_eq!(output.status.success(), is_good, "{keys}: {said}");
        assert!(said.contains(words), "{keys}: {said}");
    }
}
