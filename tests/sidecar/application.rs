//! The app: a process of its own, that can be stopped in order or killed, and started again at the same address.

use std::{
    env,
    io::{self, Read as _},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::support::{Reserved, Upstream, upstream::response, wait_until};

/// Tells the process of this test binary where to serve.
const ADDRESS: &str = "SWITCHBACK_TEST_APP";

/// A running app. It is killed when it is dropped.
pub struct Application(Child);

impl Application {
    /// Starts one on a port that is held for it.
    pub fn start(port: &Reserved) -> Self {
        let child = Command::new(env::current_exe().expect("a test knows its binary"))
            .args(["--exact", "application::serves_when_it_is_told_to", "--nocapture"])
            .env(ADDRESS, port.address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("this binary starts"))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }

    /// Takes nothing new, answers what it has, and ends.
    pub fn stop(&mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("our own child").success());
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The process that the tests of this binary start: it answers each request with its path and body, until its standard
/// input ends. Run as a test it has nothing to say.
#[test]
fn serves_when_it_is_told_to() {
    let Ok(address) = env::var(ADDRESS) else { return };
    let busy = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&busy);
    let upstream = Upstream::start_at(address.parse().expect("an address"), move |exchange| {
        counted.fetch_add(1, Ordering::SeqCst);
        let body = exchange.body().bytes.clone();
        let target = exchange.head.target().to_owned();
        exchange.send(&response(200, &[target.as_bytes(), b" ", &body].concat()));
        counted.fetch_sub(1, Ordering::SeqCst);
    });
    io::stdin().read_to_end(&mut Vec::new()).ok();
    upstream.stop();
    upstream.wait_refusing();
    wait_until("nothing is in flight", || busy.load(Ordering::SeqCst) == 0);
}
