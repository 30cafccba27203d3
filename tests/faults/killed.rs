//! Applications that are killed (`kill -9`) and started again under a constant rate, with no drain and no warning.
//!
//! They are processes of their own: this test's program, which serves when it is started with a certain variable.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    counted,
    support::{Client, PATIENCE, Reserved, Setup, Switchback, Upstream, is_long, seeded},
};

/// Set, to the address it listens on, for the process that is to serve.
const SERVE: &str = "SWITCHBACK_TEST_SERVE";
/// What it says when it does.
const LISTENING: &str = "it listens";
const ENDPOINTS: usize = 4;
const CLIENTS: u64 = 8;

/// How often each POST was processed, by its number; told by the processes before they answer.
type Processed = Arc<Mutex<HashMap<u64, u32>>>;

/// An application in a process of its own. It is killed when it is dropped.
struct Application {
    /// Where it listens; it stays its own while it is dead.
    port: Rc<Reserved>,
    child: Child,
    reading: Option<thread::JoinHandle<()>>,
}

impl Application {
    fn start(processed: &Processed) -> Self {
        Self::start_on(Rc::new(Reserved::any()), processed)
    }

    fn start_on(port: Rc<Reserved>, processed: &Processed) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "killed::an_application_is_a_process_that_can_be_killed", "--nocapture"])
            .env(SERVE, port.address.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let (listening, heard) = mpsc::channel();
        let processed = Arc::clone(processed);
        let reading = thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                // The test framework's own words come before, on the same line perhaps.
                if line.ends_with(LISTENING) {
                    listening.send(()).ok();
                } else if let Some(id) = line.strip_prefix("processed ") {
                    let id = id.parse().expect("a number");
                    *processed.lock().expect("no panic holds it").entry(id).or_default() += 1;
                }
            }
        });
        heard.recv_timeout(PATIENCE).expect("the application listens");
        Self { port, child, reading: Some(reading) }
    }

    /// Starts it again where it was.
    fn restart(&mut self, processed: &Processed) {
        *self = Self::start_on(Rc::clone(&self.port), processed);
    }

    /// Kills it; what it had told by then has been read when this returns.
    fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(reading) = self.reading.take() {
            reading.join().expect("the reader does not panic");
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Serves until it is killed.
fn serve_forever(address: &str) -> ! {
    let listener = TcpListener::bind(address).expect("its port is held for it");
    println!("{LISTENING}");
    loop {
        if let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || serve(stream));
        }
    }
}

/// Answers each request with its target, after a moment in which it is being processed.
fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).ok();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let Some(head) = memchr::memmem::find(&bytes, b"\r\n\r\n") else {
            match stream.read(&mut buffer) {
                Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
                _ => return,
            }
            continue;
        };
        let request = String::from_utf8_lossy(&bytes[..head]).into_owned();
        bytes.drain(..head + 4);
        let target = request.split(' ').nth(1).unwrap_or_default();
        thread::sleep(Duration::from_millis(1));
        if let (true, Ok(id)) = (request.starts_with("POST"), target[1..].parse::<u64>()) {
            // One write, so that a kill leaves no half of a line.
            std::io::stdout().write_all(format!("processed {id}\n").as_bytes()).ok();
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn an_application_is_a_process_that_can_be_killed() {
    if let Ok(address) = std::env::var(SERVE) {
        serve_forever(&address);
    }
    let processed = Processed::default();
    let mut application = Application::start(&processed);
    let address = application.port.address;
    let mut client = Client::connect(address);
    assert_eq!(client.exchange("POST /7 HTTP/1.1\r\nContent-Length: 0\r\n\r\n").whole().text(), "/7");
    application.kill();
    assert_eq!(processed.lock().expect("no panic holds it").get(&7), Some(&1));
    assert!(TcpStream::connect(address).is_err(), "it is dead");
    application.restart(&processed);
    assert!(TcpStream::connect(address).is_ok(), "it comes back where it was");
}

/// What the clients saw.
#[derive(Default)]
struct Saw {
    sent: u64,
    failed_gets: Vec<String>,
    answered_posts: Vec<u64>,
    failed_posts: Vec<(u64, String)>,
}

/// Sends requests at a constant rate until told to stop, every fourth a POST.
fn one_client(address: SocketAddr, number: u64, stop: &AtomicBool, ids: &AtomicU64) -> Saw {
    const PACE: Duration = Duration::from_millis(10);
    let mut saw = Saw::default();
    let mut client = Client::connect(address);
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let id = ids.fetch_add(1, Ordering::Relaxed);
        let is_post = (id + number).is_multiple_of(4);
        let (method, body) = if is_post { ("POST", "Content-Length: 0\r\n") } else { ("GET", "") };
        client.send(format!("{method} /{id} HTTP/1.1\r\nHost: a.example\r\n{body}\r\n"));
        let answer = client.try_response(method);
        let is_well = answer.as_ref().is_ok_and(|answer| {
            answer.status == 200 && answer.broken.is_none() && answer.text() == format!("/{id}")
        });
        saw.sent += 1;
        match (is_post, is_well) {
            (true, true) => saw.answered_posts.push(id),
            (true, false) => saw.failed_posts.push((id, format!("{answer:?}"))),
            (false, true) => {}
            (false, false) => saw.failed_gets.push(format!("{id}: {answer:?}")),
        }
        // Every tenth request comes on a connection of its own.
        if !is_well || saw.sent % 10 == 0 || answer.is_ok_and(|answer| answer.closes()) {
            client = Client::connect(address);
        }
        thread::sleep((PACE * saw.sent as u32).saturating_sub(began.elapsed()));
    }
    saw
}

/// Kills one after the other and starts each again where it was; answers how many were killed.
fn kill_in_turn(applications: &mut [Application], processed: &Processed, rng: &mut fastrand::Rng) -> usize {
    let over = Instant::now() + Duration::from_secs(if is_long() { 60 } else { 5 });
    let mut killed = 0;
    while Instant::now() < over {
        thread::sleep(Duration::from_millis(rng.u64(200..500)));
        let application = &mut applications[killed % ENDPOINTS];
        application.kill();
        thread::sleep(Duration::from_millis(rng.u64(..200)));
        application.restart(processed);
        killed += 1;
    }
    killed
}

#[test]
fn killed_without_a_drain_no_get_fails_and_no_post_is_doubled() {
    let mut rng = seeded("killed");
    let processed = Processed::default();
    let mut applications: Vec<_> = (0..ENDPOINTS).map(|_| Application::start(&processed)).collect();
    let nobody = Upstream::ok();
    let addresses: Vec<_> = applications.iter().map(|one| one.port.address.to_string()).collect();
    let config = Setup::new().global("workers = 2").toml(&[&nobody]);
    let switchback =
        Switchback::start(&config.replace(&nobody.address.to_string(), &addresses.join("\", \"")));

    let (stop, ids) = (AtomicBool::new(false), AtomicU64::new(0));
    let (killed, saw) = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (address, stop, ids) = (switchback.address, &stop, &ids);
                scope.spawn(move || one_client(address, number, stop, ids))
            })
            .collect();
        let killed = kill_in_turn(&mut applications, &processed, &mut rng);
        stop.store(true, Ordering::Relaxed);
        let saw: Vec<_> =
            clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect();
        (killed, saw)
    });
    drop(applications);

    let sent: u64 = saw.iter().map(|saw| saw.sent).sum();
    let failed: Vec<_> = saw.iter().flat_map(|saw| &saw.failed_gets).collect();
    assert!(failed.is_empty(), "{} of {sent} requests: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    let processed = processed.lock().expect("no panic holds it");
    let doubled: Vec<_> = processed.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "POSTs that were processed twice: {doubled:?}");
    assert!(saw.iter().flat_map(|saw| &saw.answered_posts).all(|id| processed.get(id) == Some(&1)));
    let failed: Vec<_> = saw.iter().flat_map(|saw| &saw.failed_posts).collect();
    assert!(failed.iter().all(|(_, answer)| answer.contains("status: 502")), "{:?}", failed.first());
    let attempts = counted(&switchback, "switchback_endpoint_attempt_failures_total", &[]);
    let retries = counted(&switchback, "switchback_route_retries_total", &[]);
    println!("{killed} killed under {sent} requests: {} POSTs failed, {retries} retries", failed.len());
    assert!(retries > 0, "nothing was killed that mattered");
    // Each failed POST is an attempt that had been sent and was not answered: it may have been processed.
    assert!(failed.len() as u64 <= attempts, "{} of {attempts}", failed.len());
    assert!(failed.len() <= killed * CLIENTS as usize);
}
