//! The running binary is replaced: no connection is refused, reset or cut, nothing that was acknowledged is lost, and a
//! successor that fails changes nothing.
//!
//! The CI form is short; `SWITCHBACK_LONG=1` runs the long one (50 replacements under load).

#[path = "../support/mod.rs"]
mod support;

#[path = "../tls/authority.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod authority;
#[path = "../tls/peer.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod peer;

mod activation;
mod failing;
mod followed;
mod killed;
mod known;
mod load;
mod moved;
mod tls;
mod traces;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;
use support::{Response, Switchback};

/// An instance and its successors. Those that are left are killed when this is dropped.
struct Line {
    first: Switchback,
    /// Where the state is kept, if it is.
    database: Option<PathBuf>,
}

impl Line {
    fn start(config: &str) -> Self {
        Self { first: Switchback::start(config), database: None }
    }

    /// The same, with its state kept in a database of its own.
    fn keeping(config: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("switchback-upgrade-{}-{number}.db", std::process::id());
        let database = std::env::temp_dir().join(name);
        let first = Switchback::start(&format!("state = {{ path = {database:?} }}\n{config}"));
        Self { first, database: Some(database) }
    }

    /// Runs `switchback upgrade --json` with these arguments.
    fn upgrade(&self, arguments: &[&str]) -> Output {
        self.upgrading(arguments).output().expect("the binary that cargo built")
    }

    fn upgrading(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchback"));
        let admin = format!("http://{}", self.first.admin);
        command.args(["upgrade", "--json", "--admin", &admin]).args(arguments);
        command
    }

    /// Replaces the process that serves; answers the number of its successor.
    fn replace(&self) -> u32 {
        let output = self.upgrade(&[]);
        assert!(output.status.success(), "{output:?}\n{}", self.first.stderr());
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let pid = answer["pid"].as_u64().expect("the number of a process");
        u32::try_from(pid).expect("a small number")
    }

    fn status(&self) -> Value {
        json(&self.first.admin("GET", "/v1/status", ""))
    }

    /// The process that answers.
    fn serving(&self) -> u32 {
        u32::try_from(self.status()["process"]["pid"].as_u64().expect("a number")).expect("a small number")
    }

    /// All processes that run this test's own file, by the kernel's account.
    fn processes(&self) -> Vec<u32> {
        running(&self.first.file())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for pid in self.processes().into_iter().filter(|pid| *pid != self.first.pid()) {
            kill(pid);
        }
        for suffix in ["", "-wal", "-shm", ".lock", ".copy"] {
            let file = self.database.as_ref().map(|database| format!("{}{suffix}", database.display()));
            file.map(fs::remove_file);
        }
    }
}

/// The processes that have a file of the test's own among their arguments.
fn running(file: &Path) -> Vec<u32> {
    let wanted = file.to_str().expect("a path in UTF-8").as_bytes().to_vec();
    let entries = fs::read_dir("/proc").expect("procfs").map_while(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == wanted)
    })
    .collect()
}

/// Kills a process of the test's own.
fn kill(pid: u32) {
    // It may have ended meanwhile.
    let _ = Command::new("sh").args(["-c", "kill -s KILL \"$0\" 2>/dev/null", &pid.to_string()]).status();
}

fn json(response: &Response) -> Value {
    serde_json::from_slice(&response.body.bytes).expect("JSON")
}

/// Puts a weight of `green`, and answers the status.
fn weigh(switchback: &Switchback, green: u64) -> Response {
    let body = format!("{{\"blue\": 1000000, \"green\": {green}}}");
    switchback.admin("PUT", "/v1/splits/main/weights", &body)
}

fn green(status: &Value) -> u64 {
    status["splits"][0]["weights"]["green"].as_u64().expect("a weight")
}
