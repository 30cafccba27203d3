//! A sidecar is replaced as any other instance: its options are its successor's.

use std::process::Command;

use crate::{
    application::Application,
    asked, get, is_ready, sidecar,
    support::{Reserved, wait_until},
};

#[test]
fn a_successor_serves_the_same_app_on_the_same_sockets() {
    let port = Reserved::any();
    let _app = Application::start(&port);
    let mut switchback = sidecar(port.address, "--pre-stop-delay 0s --drain-deadline 5s");
    wait_until("it is ready", || is_ready(&switchback));
    let mut client = switchback.client();
    assert_eq!(client.exchange(get("/before")).text(), "/before ");
    let answer = switchback.json("POST", "/v1/upgrade", "{}");
    let successor = Successor(answer["pid"].as_u64().expect("a process"));
    assert_ne!(successor.0, u64::from(switchback.pid()));
    let last = client.exchange(get("/last"));
    assert!(last.status == 200 && last.closes(), "the old one asks its client to go: {last:?}");
    assert_eq!(switchback.wait().code(), Some(0));
    assert_eq!(switchback.client().exchange(get("/after")).text(), "/after ");
    assert_eq!(asked(&switchback, "/readyz").status, 200);
}

/// The process that took the place of the test's own child.
struct Successor(u64);

impl Drop for Successor {
    fn drop(&mut self) {
        Command::new("sh").args(["-c", "kill -s KILL \"$0\"", &self.0.to_string()]).status().ok();
    }
}
