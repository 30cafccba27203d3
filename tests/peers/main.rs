//! Programs of others as they come: clients that applications are written with, and tools that look for weaknesses.
//!
//! Continuous integration runs what is small to install; `SWITCHBACK_LONG=1` adds the rest (`tests/install long`).

#[path = "../support/mod.rs"]
mod support;

#[path = "../tls/authority.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod authority;

mod clients;
mod conformance;
mod scanners;

use std::process::{Command, Output};

use authority::{Authority, Kind, listener};
use support::{Setup, Switchback, Upstream, upstream::response};

/// A listener with TLS and the settings that it has by default, before an upstream that answers each request.
struct Edge {
    authority: Authority,
    upstream: Upstream,
    switchback: Switchback,
}

impl Edge {
    fn start() -> Self {
        let authority = Authority::new();
        let pair = authority.issue("site", &["localhost"], Kind::Ecdsa);
        let upstream = Upstream::start(|exchange| {
            let body = exchange.body().bytes.clone();
            let text = [exchange.head.target().as_bytes(), b" ", &body].concat();
            exchange.send(&response(200, &text));
        });
        let switchback = Setup::new().listener(&listener(&[pair], "")).start(&upstream);
        Self { authority, upstream, switchback }
    }

    /// Its URL. Programs that resolve `localhost` to `::1` alone find nobody there, and try 127.0.0.1.
    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.switchback.address.port())
    }
}

/// Runs a program to its end; answers what it has written.
fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} (see tests/install): {error}"))
}

fn said(output: &Output) -> String {
    let [out, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{}: {out}\n{errors}", output.status);
    out.into_owned()
}
