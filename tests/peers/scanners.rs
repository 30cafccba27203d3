//! testssl.sh and slowhttptest, against a listener with the settings that it has by default.

use std::{fs, process::Command, thread, time::Duration};

use serde_json::Value;

use super::{
    Edge, run, said,
    support::{is_long, wait_until},
};

/// What testssl.sh finds and is no weakness of the listener: its name, and why.
const EXPLAINED: [(&str, &str); 3] = [
    // Every suite that is spoken encrypts with authentication and has forward secrecy. Which of them is fast depends on the
    // client's processor, which it knows (the same choice as in Mozilla's recommended configurations).
    ("cipher_order", "NOT a cipher order configured"),
    // Of the certificate, which the test's authority has issued.
    ("cert_revocation", "Neither CRL nor OCSP URI provided"),
    // Of the application, whose answers are passed on as they are.
    ("security_headers", "--"),
];

/// Severities that are no finding, or a low one.
const HARMLESS: [&str; 4] = ["OK", "INFO", "LOW", "WARN"];

#[test]
fn testssl_finds_nothing_above_low() {
    let edge = Edge::start();
    let report = edge.authority.path("testssl.json");
    let mut command = Command::new("testssl");
    command
        .args(["--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--jsonfile"])
        .arg(&report);
    command.arg("--add-ca").arg(edge.authority.file());
    // All that it can look for takes minutes; the short form asks for versions alone.
    if !is_long() {
        command.arg("--protocols");
    }
    // Its exit code counts findings of any kind; what it has found stands in the report.
    let output = run(command.arg(edge.url("/")));
    let text = fs::read_to_string(&report).unwrap_or_else(|error| panic!("no report ({error}): {output:?}"));
    let findings: Vec<Value> = serde_json::from_str(&text).expect("testssl.sh writes JSON");
    let of = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let offered = |protocol: &str| {
        let found = findings.iter().find(|finding| finding["id"] == protocol);
        found.map(|finding| of(finding, "finding")).unwrap_or_else(|| panic!("{protocol} is not in {text}"))
    };
    assert_eq!([offered("TLS1_2"), offered("TLS1_3")], ["offered", "offered with final"]);
    assert_eq!(["SSLv3", "TLS1", "TLS1_1"].map(offered), ["not offered"; 3]);
    let bad: Vec<_> = findings
        .iter()
        .map(|finding| (of(finding, "severity"), of(finding, "id"), of(finding, "finding")))
        .filter(|(severity, ..)| !HARMLESS.contains(&severity.as_str()))
        .filter(|(_, id, finding)| !EXPLAINED.contains(&(id, finding)))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    println!("{} findings, none above low", findings.len());
}

#[test]
fn every_mode_of_slowhttptest_is_survived_while_others_are_served() {
    let edge = Edge::start();
    let (connections, seconds) = if is_long() { ("2000", "60") } else { ("300", "4") };
    let before = edge.switchback.memory("VmRSS");
    // Slow heads, slow bodies, answers that are read slowly, and ranges without end.
    for mode in ["-H", "-B", "-X", "-R"] {
        let mut attack = Command::new("slowhttptest");
        attack.args([mode, "-c", connections, "-r", "500", "-i", "2", "-l", seconds, "-p", "5", "-u"]);
        attack.arg(edge.url("/"));
        let attack = thread::spawn(move || said(&run(&mut attack)));
        if mode != "-R" {
            wait_until("the attack is on", || edge.switchback.metric("switchback_connections_open") > 100.0);
        }
        let mut served = 0;
        while served == 0 || !attack.is_finished() {
            let answer = said(&run(curl(&edge).arg(edge.url("/other"))));
            assert_eq!(answer, "/other \n200", "{mode}");
            served += 1;
            // The pace of somebody who looks at pages.
            thread::sleep(Duration::from_millis(50));
        }
        let report = attack.join().expect("slowhttptest ends by itself");
        assert!(!report.contains("service available:   NO"), "{mode}: {report}");
        println!("{mode}: {served} requests of others were served");
    }
    wait_until("nothing of it is left", || edge.switchback.metric("switchback_connections_open") == 0.0);
    let grown = edge.switchback.memory("VmRSS").saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes are left of it");
}

/// curl, which trusts the authority, with the status behind the body.
fn curl(edge: &Edge) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-4", "--max-time", "5", "-w", "\n%{http_code}", "--cacert"])
        .arg(edge.authority.file());
    curl
}
