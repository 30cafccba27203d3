//! The application: a process of its own, and the journal of what each has served, which outlives its kill.

use std::{
    collections::HashMap,
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    rc::Rc,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use crate::support::Reserved;

/// Tells the process of this test binary to serve: `ADDRESS JOURNAL SEED`.
const ROLE: &str = "SWITCHBACK_TEST_APPLICATION";
/// What it prints once it listens.
const LISTENING: &str = "the application listens";
/// What it is asked by probes, without the slash.
pub const HEALTH: &str = "healthz";
/// The longest that it takes for an answer.
const SLOWEST: Duration = Duration::from_millis(20);

/// A running application. It is killed when it is dropped.
pub struct Application {
    /// Where it listens; the next version listens there, too, and nobody else in between.
    port: Rc<Reserved>,
    child: Child,
    journal: PathBuf,
}

/// The folder with a file for each process: a line for each request, written before it is answered.
pub struct Journal(PathBuf);

impl Application {
    /// Starts one on a port of its own.
    pub fn start(journal: &Journal, seed: u64) -> Self {
        Self::start_on(Rc::new(Reserved::any()), journal, seed)
    }

    fn start_on(port: Rc<Reserved>, journal: &Journal, seed: u64) -> Self {
        let journal = journal.file();
        let mut child = Command::new(env::current_exe().expect("a test knows its binary"))
            .args(["--exact", "application::serves_when_it_is_told_to", "--nocapture"])
            .env(ROLE, format!("{} {} {seed}", port.address, journal.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let listens = lines.map_while(Result::ok).any(|line| line.ends_with(LISTENING));
        assert!(listens, "it says when it listens");
        Self { port, child, journal }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// Kills it as nothing can be refused, and starts the next version in its place.
    pub fn replace(&mut self, journal: &Journal, seed: u64) {
        self.kill();
        *self = Self::start_on(Rc::clone(&self.port), journal, seed);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Journal {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("switchback-rolling-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        let count = fs::read_dir(&self.0).expect("our own folder").count();
        let file = self.0.join(count.to_string());
        File::create(&file).expect("a writable folder");
        file
    }

    /// How many requests a process has served.
    pub fn served(&self, application: &Application) -> usize {
        lines(&application.journal).len()
    }

    /// How often each request came to any process.
    pub fn counts(&self) -> HashMap<String, u32> {
        let mut counts = HashMap::new();
        for file in fs::read_dir(&self.0).expect("our own folder") {
            for id in lines(&file.expect("an entry").path()) {
                *counts.entry(id).or_default() += 1;
            }
        }
        counts
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).expect("a journal is text").lines().map(str::to_owned).collect()
}

/// The process that the tests of this binary start. Run as a test it has nothing to say.
#[test]
fn serves_when_it_is_told_to() {
    let Ok(role) = env::var(ROLE) else { return };
    let mut parts = role.split(' ');
    let mut next = || parts.next().expect("three parts");
    let (address, journal, seed) = (next(), next(), next().parse().expect("a number"));
    let listener = TcpListener::bind(address).expect("its port is held for it");
    let file = File::options().append(true).open(journal).expect("the test has made it");
    let mut rng = fastrand::Rng::with_seed(seed);
    println!("\n{LISTENING}");
    for stream in listener.incoming().flatten() {
        let (file, rng) = (file.try_clone().expect("a descriptor"), rng.fork());
        // A connection that ends ends its thread.
        thread::spawn(move || serve(stream, file, rng));
    }
}

/// Serves one connection.
fn serve(mut stream: TcpStream, mut journal: File, mut rng: fastrand::Rng) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut start = String::new();
        reader.read_line(&mut start).ok().filter(|read| *read > 0)?;
        let mut length = 0;
        loop {
            let mut field = String::new();
            reader.read_line(&mut field).ok().filter(|read| *read > 0)?;
            let field = field.trim_end().to_ascii_lowercase();
            if field.is_empty() {
                break;
            }
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let id = start.split(' ').nth(1)?.trim_start_matches('/').to_owned();
        // Probes are no part of the load.
        if id != HEALTH {
            // One write, so that a kill leaves a whole line or none.
            journal.write_all(format!("{id}\n").as_bytes()).ok()?;
            thread::sleep(SLOWEST.mul_f64(rng.f64()));
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{id}", id.len());
        stream.write_all(answer.as_bytes()).ok()?;
    }
}
