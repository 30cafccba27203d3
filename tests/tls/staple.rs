//! OCSP responses that clients are shown, made and judged by openssl.

use std::{
    fs,
    process::{Command, Stdio},
};

use super::{
    authority::{Authority, Kind, listener},
    support::{Setup, Switchback, Upstream, wait_until},
};

fn openssl(authority: &Authority, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(&authority.folder)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed by tests/install");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    said.concat()
}

/// Has the authority answer about `site.pem`, into `site.ocsp`.
fn respond(authority: &Authority, is_good: bool) {
    let serial = openssl(authority, &["x509", "-noout", "-serial", "-in", "site.pem"]);
    let serial = serial.trim().strip_prefix("serial=").expect("a serial number");
    let (kind, revoked) = if is_good { ("V", "") } else { ("R", "210101000000Z") };
    let line = format!("{kind}\t491231235959Z\t{revoked}\t{serial}\tunknown\t/CN=site\n");
    fs::write(authority.path("index.txt"), line).expect("a writable folder");
    let asked = ["ocsp", "-issuer", "ca.pem", "-cert", "site.pem", "-no_nonce", "-reqout", "request.der"];
    openssl(authority, &asked);
    let of_authority =
        ["ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey", "ca.key"];
    let answer = ["-reqin", "request.der", "-ndays", "7", "-respout", "next.ocsp"];
    let said = openssl(authority, &[&of_authority[..], &answer].concat());
    fs::rename(authority.path("next.ocsp"), authority.path("site.ocsp")).expect(&said);
}

fn shown(authority: &Authority, switchback: &Switchback) -> String {
    let address = switchback.address.to_string();
    let ask = ["s_client", "-status", "-servername", "a.example", "-CAfile", "ca.pem", "-connect", &address];
    openssl(authority, &ask)
}

#[test]
fn a_good_response_is_shown_and_a_bad_one_is_told_and_not_shown() {
    let authority = Authority::new();
    authority.issue("site", &["a.example"], Kind::Ecdsa);
    respond(&authority, true);
    let path = |name: &str| authority.path(name);
    let pair = format!(
        "{{ cert = {:?}, key = {:?}, ocsp = {:?} }}",
        path("site.pem"),
        path("site.key"),
        path("site.ocsp")
    );
    let upstream = Upstream::ok();
    let switchback = Setup::new().listener(&listener(&[pair], "")).start(&upstream);
    let (good, none) = ("OCSP Response Status: successful", "OCSP response: no response sent");
    let said = shown(&authority, &switchback);
    assert!(said.contains(good) && said.contains("Cert Status: good"), "{said}");
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    let told = || switchback.json("GET", "/v1/certificates", "")["certificates"][0]["ocsp"].clone();
    assert!(told()["until"].is_string() && told()["error"].is_null(), "{}", told());

    respond(&authority, false);
    wait_until("it is told", || told()["error"].as_str().is_some_and(|error| error.contains("revoked")));
    assert!(shown(&authority, &switchback).contains(none));
    assert!(switchback.stderr().contains("is not shown to clients"), "the log tells of it");
    fs::write(authority.path("site.ocsp"), "no response").expect("a writable folder");
    wait_until("it is told", || told()["error"].as_str().is_some_and(|error| error.contains("no OCSP")));
    // The pair itself goes on to change, and the response of before is about another certificate.
    respond(&authority, true);
    wait_until("it is shown again", || told()["error"].is_null());
    authority.issue("site", &["a.example"], Kind::Ecdsa);
    wait_until("it is told", || told()["error"].as_str().is_some_and(|error| error.contains("another")));
    assert!(shown(&authority, &switchback).contains(none));
    respond(&authority, true);
    wait_until("it is shown again", || shown(&authority, &switchback).contains(good));
}
