//! Applications that are processes of their own, killed and started again.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use crate::{
    fast, get,
    support::{Reserved, Setup, Switchback, Upstream, upstream::OK, wait_until},
    wait_state,
};

/// What tells the process below where to listen.
const ADDRESS: &str = "SWITCHBACK_TEST_UPSTREAM";

/// An application in a process. It is killed when it is dropped.
struct Process(Child);

impl Process {
    fn start(address: SocketAddr) -> Self {
        let this = std::env::current_exe().expect("a test runs from a file");
        let child = Command::new(this)
            .args(["processes::the_application", "--exact", "--nocapture"])
            .env(ADDRESS, address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("this binary starts"))
    }

    fn kill(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("our own child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The process that the tests of this file start. Run as a test it has nothing to say.
#[test]
fn the_application() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let _upstream = Upstream::start_at(address.parse().expect("an address"), |exchange| exchange.send(OK));
    // Until its parent has gone.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
}

#[test]
fn a_killed_process_is_seen_and_a_restarted_one_serves_again() {
    let ports = [Reserved::any(), Reserved::any()];
    let addresses = ports.each_ref().map(|port| port.address);
    let mut processes = addresses.map(Process::start);
    let beside = Upstream::ok();
    let retries = "retries = { attempts = 2, budget = 1.0 }"; // of the few requests here most meet a dead endpoint
    let config = Setup::new().route(retries).pool(&fast(r#"http = "/healthz""#)).toml(&[&beside]);
    let listed = addresses.map(|address| address.to_string()).join("\", \"");
    let switchback = Switchback::start(&config.replace(&beside.address.to_string(), &listed));
    addresses.iter().for_each(|address| wait_state(&switchback, *address, "available"));
    let mut client = switchback.client();
    for round in 0..3 {
        for (process, address) in processes.iter_mut().zip(addresses) {
            process.kill();
            let mut requests = 0;
            wait_until("its death is seen", || {
                requests += 1;
                assert_eq!(
                    client.exchange(get("/")).whole().status,
                    200,
                    "round {round}, request {requests}"
                );
                crate::state(&switchback, address) == "unhealthy"
            });
            *process = Process::start(address);
            wait_state(&switchback, address, "available");
        }
    }
}
