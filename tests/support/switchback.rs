//! The real binary, started with a configuration of the test's own and ended by its own process id.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use super::{Client, PATIENCE, Response, wait_for};

/// A running Switchback. It is killed when it is dropped.
pub struct Switchback {
    child: Child,
    /// Where listener `web` (the first) is bound.
    pub address: SocketAddr,
    /// Where each listener is bound, by name.
    pub listeners: Vec<(String, SocketAddr)>,
    /// Where the admin API is bound.
    pub admin: SocketAddr,
    /// Where probes and scrapers are served, if the file says so.
    pub health: Option<SocketAddr>,
    stderr: Arc<Mutex<String>>,
    folder: PathBuf,
    file: PathBuf,
}

static STARTED: AtomicU32 = AtomicU32::new(0);

impl Switchback {
    /// Starts it and waits until it is ready.
    pub fn start(config: &str) -> Self {
        Self::run(config, "exec \"$0\" run -c \"$1\"")
    }

    /// Starts it with a limit of open files, as a service manager would.
    pub fn start_limited(config: &str, descriptors: u32) -> Self {
        Self::run(config, &format!("ulimit -n {descriptors} && exec \"$0\" run -c \"$1\""))
    }

    /// Starts it from a file that is there. It stays when it is dropped.
    pub fn start_from(file: &Path) -> Self {
        Self::run_file(new_folder(), file.to_owned(), "exec \"$0\" run -c \"$1\"")
    }

    /// Kills it and starts it again from the same file, as that is now.
    pub fn restart(mut self) -> Self {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
        let (folder, file) = (std::mem::take(&mut self.folder), self.file.clone());
        drop(self);
        Self::run_file(folder, file, "exec \"$0\" run -c \"$1\"")
    }

    /// Starts it by a line for the shell, in which `$0` is the program and `$1` the file.
    pub fn run(config: &str, line: &str) -> Self {
        let folder = new_folder();
        let file = folder.join("switchback.toml");
        fs::write(&file, config).expect("a writable folder");
        Self::run_file(folder, file, line)
    }

    fn run_file(folder: PathBuf, file: PathBuf, line: &str) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", line, env!("CARGO_BIN_EXE_switchback")])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary that cargo built");
        let stderr = collected(child.stderr.take().expect("piped"));
        let lines = lines_of(child.stdout.take().expect("piped"));
        let mut starting = Starting { listeners: Vec::new(), admin: None, health: None };
        let deadline = Instant::now() + PATIENCE;
        while starting.admin.is_none() {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => starting.read(&line),
                Err(_) => {
                    child.kill().ok();
                    let status = child.wait();
                    thread::sleep(std::time::Duration::from_millis(50));
                    let said = stderr.lock().expect("no panic holds it").clone();
                    let config = fs::read_to_string(&file).unwrap_or_default();
                    panic!("not ready ({status:?}); it said: {said}\nthe configuration was: {config}");
                }
            }
        }
        let address = starting.listeners.first().expect("listeners are announced before the admin API").1;
        let admin = starting.admin.expect("the loop ends with it");
        let health = starting.health;
        Self { child, address, listeners: starting.listeners, admin, health, stderr, folder, file }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where a listener is bound.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(candidate, _)| candidate == name);
        found.unwrap_or_else(|| panic!("no listener {name}")).1
    }

    /// Calls the admin API on a connection of its own.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> Response {
        let mut client = Client::connect(self.admin);
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.admin,
            body.len()
        ));
        client.response(method).whole()
    }

    /// Calls the admin API on a connection of its own; the answer is a success, and JSON.
    pub fn json(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let response = self.admin(method, path, body);
        assert_eq!(response.status, 200, "{method} {path}: {}", response.text());
        serde_json::from_str(&response.text()).expect("the admin API answers JSON")
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.file.clone()
    }

    /// Replaces the configuration file, in one step.
    pub fn write(&self, text: &str) {
        let beside = self.file.with_extension("next");
        fs::write(&beside, text).expect("a writable folder");
        fs::rename(&beside, &self.file).expect("a file beside it");
    }

    /// Applies a file through the admin API.
    pub fn put_file(&self, text: &str) -> Response {
        self.send_file("PUT", "/v1/config", text)
    }

    /// Sends a file to a call.
    pub fn post_file(&self, path: &str, text: &str) -> Response {
        self.send_file("POST", path, text)
    }

    fn send_file(&self, method: &str, path: &str, text: &str) -> Response {
        let mut client = Client::connect(self.admin);
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/toml\r\n\
             Content-Length: {}\r\n\r\n{text}",
            self.admin,
            text.len()
        ));
        client.response(method).whole()
    }

    /// Sets the weights of split `main`.
    pub fn weigh(&self, blue: u32, green: u32) {
        let body = format!("{{\"blue\": {blue}, \"green\": {green}}}");
        let response = self.admin("PUT", "/v1/splits/main/weights", &body);
        assert_eq!(response.status, 200, "weights were refused: {}", response.text());
    }

    /// The metrics, as text.
    pub fn metrics(&self) -> String {
        let response = self.admin("GET", "/metrics", "");
        assert_eq!(response.status, 200, "no metrics: {}", response.text());
        response.text()
    }

    /// The sum of all series of a metric.
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics();
        let series = metrics.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            if !rest.starts_with(['{', ' ']) {
                return None;
            }
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        });
        let values: Vec<_> = series.collect();
        assert!(!values.is_empty(), "no metric {name} in\n{metrics}");
        values.iter().sum()
    }

    /// Memory of the process from the kernel's accounting, in bytes: `VmRSS` or `VmHWM`.
    pub fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a live process");
        let line = status.lines().find(|line| line.starts_with(field)).expect("a field of the kernel's");
        let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        kilobytes.expect("a number of kB") * 1024
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", signal, &self.pid().to_string()])
            .status()
            .expect("a shell");
        assert!(sent.success(), "the signal was not sent: {sent}");
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("Switchback has ended", || self.child.try_wait().expect("our own child"))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    /// What it has said.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no panic holds it").clone()
    }
}

impl Drop for Switchback {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if !self.folder.as_os_str().is_empty() {
            fs::remove_dir_all(&self.folder).ok();
        }
        if thread::panicking() {
            eprintln!("--- what Switchback said:\n{}---", self.stderr());
        } else {
            let said = self.stderr();
            assert!(!said.contains("panicked at"), "Switchback panicked:\n{said}");
        }
    }
}

fn new_folder() -> PathBuf {
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("switchback-test-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder of our own");
    folder
}

struct Starting {
    listeners: Vec<(String, SocketAddr)>,
    admin: Option<SocketAddr>,
    health: Option<SocketAddr>,
}

impl Starting {
    /// Reads `listening listener=NAME address=ADDRESS`, or `admin` or `health` in the place of a listener.
    fn read(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("listening ") else { return };
        let Some((who, address)) = rest.split_once(" address=") else { return };
        let address = address.trim().parse().expect("tests use TCP addresses");
        match who.strip_prefix("listener=") {
            Some(name) => self.listeners.push((name.to_owned(), address)),
            None if who == "health" => self.health = Some(address),
            None => self.admin = Some(address),
        }
    }
}

fn lines_of(stdout: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens once it is ready; reading goes on so that it never blocks.
            sender.send(line).ok();
        }
    });
    receiver
}

fn collected(stderr: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let collecting = Arc::clone(&text);
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut text = collecting.lock().expect("no panic holds it");
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}
