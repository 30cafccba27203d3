//! What was acknowledged survives: a process that is killed, a disk that is full or fails, a file that is damaged.
//!
//! The faults are real ones: `SIGKILL`, and system calls that fail as strace has the kernel fail them.

#[path = "../support/mod.rs"]
mod support;

mod damage;
mod disk;
mod kills;
mod restart;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;
use support::{Response, Switchback, Upstream};

static MADE: AtomicU32 = AtomicU32::new(0);

/// A folder that outlives the processes that keep their state in it.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("switchback-state-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        Self(folder)
    }

    fn database(&self) -> PathBuf {
        self.0.join("switchback.db")
    }

    /// A file with a split `main` over `blue` and `green`, whose state is kept here.
    fn file(&self, blue: &Upstream, green: &Upstream) -> String {
        let file = support::config::blue_green(1, (1_000_000, 0), "", blue, green);
        format!("state = {{ path = {:?} }}\n{file}", self.database())
    }

    fn start(&self, blue: &Upstream, green: &Upstream) -> Switchback {
        Switchback::start(&self.file(blue, green))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn json(response: &Response) -> Value {
    serde_json::from_slice(&response.body.bytes).expect("JSON")
}

/// The revision of the whole state, and the weight of `green`.
fn in_force(switchback: &Switchback) -> (u64, u64) {
    let status = json(&switchback.admin("GET", "/v1/status", ""));
    let green = status["splits"][0]["weights"]["green"].as_u64().expect("a weight");
    (status["revision"].as_u64().expect("a number"), green)
}

/// Asks for a weight of `green`, and answers the status; `None` if no answer came.
fn weigh(switchback: &Switchback, green: u64) -> Option<u16> {
    let body = format!("{{\"blue\": 1000000, \"green\": {green}}}");
    let mut stream = TcpStream::connect(switchback.admin).ok()?;
    stream.set_read_timeout(Some(support::PATIENCE)).ok()?;
    let head = format!(
        "PUT /v1/splits/main/weights HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        switchback.admin,
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).ok()?;
    let mut answer = String::new();
    // A process that is killed resets the connection, perhaps within its answer.
    let ended = stream.read_to_string(&mut answer).is_ok();
    let status = answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    (ended && answer.ends_with('}')).then_some(status)
}

/// System calls of a process that fail, for as long as this lives.
struct Fault(std::process::Child);

impl Fault {
    /// Has every one of these calls of a process fail: `("fdatasync,fsync", "EIO")`.
    fn inject(switchback: &Switchback, calls: &str, error: &str) -> Self {
        let log = std::env::temp_dir().join(format!("switchback-strace-{}", switchback.pid()));
        let child = Command::new("strace")
            .args(["-f", "-p", &switchback.pid().to_string(), "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:error={error}"), "-o"])
            .arg(&log)
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("strace is installed");
        let traced = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", switchback.pid())).expect("it runs");
            tasks.map_while(Result::ok).all(|task| {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
            })
        };
        support::wait_until("every thread is traced", traced);
        fs::remove_file(log).ok();
        Self(child)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // An interrupted strace lets go of what it traces; a killed one does, too, but not of what it has stopped.
        let pid = self.0.id().to_string();
        Command::new("sh").args(["-c", "kill -s INT \"$0\"", &pid]).status().expect("a shell");
        self.0.wait().ok();
    }
}
