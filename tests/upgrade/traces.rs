//! What a successor that does not come to serve leaves behind: nothing. Neither of the state that it has loaded, nor of the
//! history, nor of the sockets and files of the process that serves.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use crate::{
    Line, green, json, kill, running,
    support::{Setup, Upstream, config::blue_green, wait_until},
};

/// A port that is taken, and a listener for it.
fn taken() -> (TcpListener, String) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    (taken, format!("\n[[listener]]\nname = \"other\"\nlisten = \"{address}\"\n"))
}

#[test]
fn what_a_failed_successor_has_loaded_is_in_force_nowhere_and_in_no_history() {
    let upstream = Upstream::ok();
    let line = Line::keeping(&blue_green(1, (95, 5), "", &upstream, &upstream));
    line.first.weigh(30, 70);
    let known = || {
        let revisions = json(&line.first.admin("GET", "/v1/revisions", ""));
        let drift = json(&line.first.admin("GET", "/v1/drift", ""));
        (line.status()["splits"].clone(), revisions, drift)
    };
    let before = known();
    let good = fs::read_to_string(line.first.file()).expect("the test's file");
    let (taken, listener) = taken();
    let edited = good.replace("blue = 95, green = 5", "blue = 50, green = 50");
    assert_ne!(edited, good, "the weights are declared as this test thinks");
    let log = line.first.file().with_file_name("access.log");
    let logged = format!("\n[access_log]\npath = {log:?}\n");
    let edited = edited.replace("workers = 1", "workers = 2") + &listener + &logged;
    // A process can't take this file over while it runs; a successor can.
    line.first.write(&edited);
    let failed = line.upgrade(&[]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert_eq!(known(), before);
    assert!(!log.exists(), "an access log was left behind");
    drop(taken);
    line.replace();
    assert!(log.exists(), "it is in force now");
    assert_eq!(green(&line.status()), 50, "what the file says by now comes with the process that serves");
    let newest = json(&line.first.admin("GET", "/v1/revisions?limit=1", ""));
    let before = before.1["revisions"][0]["revision"].as_u64().expect("a number");
    assert_eq!(newest["revisions"][0]["revision"], before + 1, "{newest}");
}

#[test]
fn a_reload_that_is_refused_leaves_no_access_log_behind() {
    let upstream = Upstream::ok();
    let line = Line::start(&Setup::new().toml(&[&upstream]));
    let good = fs::read_to_string(line.first.file()).expect("the test's file");
    let log = line.first.file().with_file_name("access.log");
    let edited = format!("{good}\n[access_log]\npath = {log:?}\n");
    let (taken, listener) = taken();
    fs::write(line.first.file(), edited.clone() + &listener).expect("a writable folder");
    let refused = line.first.admin("POST", "/v1/config/reload", "");
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(!log.exists(), "it was made for a file that is not in force");
    drop(taken);
    let loaded = line.first.admin("POST", "/v1/config/reload", "");
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    assert!(log.exists(), "it is in force");
}

/// An instance and its successors, with the admin API on a unix socket. Those that are left are killed with this.
struct OnSocket {
    folder: PathBuf,
    first: Child,
}

impl OnSocket {
    fn start(upstream: &Upstream) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("switchback-traces-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        let admin = format!("listen = \"unix:{}\"", folder.join("admin").display());
        let config = Setup::new().toml(&[upstream]).replacen("listen = \"127.0.0.1:0\"", &admin, 1);
        fs::write(folder.join("switchback.toml"), config).expect("a writable folder");
        let first = Command::new(env!("CARGO_BIN_EXE_switchback"))
            .args(["run", "-c"])
            .arg(folder.join("switchback.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary that cargo built");
        let this = Self { folder, first };
        wait_until("it answers", || this.call(&["status"]).status.success());
        this
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("admin")
    }

    fn file(&self) -> PathBuf {
        self.folder.join("switchback.toml")
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchback"));
        command.args(arguments).args(["--admin", &format!("unix:{}", self.socket().display())]);
        command.output().expect("the binary that cargo built")
    }

    /// The process that answers at the socket, if one does.
    fn serving(&self) -> Option<u64> {
        let status: Value = serde_json::from_slice(&self.call(&["status", "--json"]).stdout).ok()?;
        status["process"]["pid"].as_u64()
    }

    fn signal(pid: u64, signal: &str) {
        let sent =
            Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid.to_string()]).status();
        assert!(sent.expect("a shell").success());
    }
}

impl Drop for OnSocket {
    fn drop(&mut self) {
        running(&self.file()).into_iter().for_each(kill);
        self.first.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

#[test]
fn the_admin_socket_is_left_to_the_process_that_serves() {
    let upstream = Upstream::ok();
    let instance = OnSocket::start(&upstream);
    let good = fs::read_to_string(instance.file()).expect("the test's file");
    let (taken, listener) = taken();
    fs::write(instance.file(), good.clone() + &listener).expect("a writable folder");
    let first = instance.serving();
    let failed = instance.call(&["upgrade"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(instance.socket().exists(), "a failed successor has removed it");
    assert_eq!(instance.serving(), first);
    drop(taken);
    // One that is gone is no reason for a successor to fail. Nobody can call for it, but a signal arrives.
    fs::remove_file(instance.socket()).expect("it is there");
    OnSocket::signal(first.expect("it serves"), "USR2");
    wait_until("a successor has made it anew", || instance.serving().is_some_and(|pid| Some(pid) != first));
    wait_until("the first has ended", || running(&instance.file()).len() == 1);
    let second = instance.serving();
    let replaced = instance.call(&["upgrade"]);
    assert!(replaced.status.success(), "{replaced:?}");
    wait_until("the second has ended", || running(&instance.file()).len() == 1);
    let third = instance.serving().expect("it serves");
    assert_ne!(Some(third), second);
    OnSocket::signal(third, "TERM");
    wait_until("the last has ended", || running(&instance.file()).is_empty());
    assert!(!instance.socket().exists(), "it belonged to the last one");
}
