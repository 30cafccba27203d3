//! SIGTERM: readiness fails first, listeners close after a delay, and what is in flight ends.

use std::{
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    counted::Arrivals,
    support::{
        Broken, Client, PATIENCE, Setup, Switchback, Upstream, Wire, config::blue_green, upstream::OK,
        wait_until,
    },
};

const SHUTDOWN: &str = "[shutdown]\ndelay = \"1s\"\ndeadline = \"5s\"\n";

#[test]
fn sigterm_under_load_fails_no_request() {
    let arrivals = Arrivals::default();
    let (blue, green) = (arrivals.upstream("blue"), arrivals.upstream("green"));
    let config = blue_green(2, (50, 50), "", &blue, &green) + SHUTDOWN;
    let mut switchback = Switchback::start(&config);
    let address = switchback.address;
    let sent = AtomicU64::new(0);
    let termed = AtomicBool::new(false);
    let answered = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let (sent, termed) = (&sent, &termed);
                scope.spawn(move || until_refused(address, number, sent, termed))
            })
            .collect();
        wait_until("the load runs", || sent.load(Ordering::Relaxed) > 200);
        termed.store(true, Ordering::SeqCst);
        switchback.signal("TERM");
        clients.into_iter().flat_map(|client| client.join().expect("no request failed")).collect::<Vec<_>>()
    });
    let status = switchback.wait();
    assert_eq!(status.code(), Some(0), "{status}: {}", switchback.stderr());
    assert_eq!(answered.len() as u64, sent.load(Ordering::Relaxed));
    arrivals.assert_exactly(&answered);
}

/// Sends on until Switchback takes no more: a client of even number ends with the connection that says `close`, as
/// one behind a balancer that looks at readiness does; one of odd number opens new connections until none is taken.
fn until_refused(address: SocketAddr, number: usize, sent: &AtomicU64, termed: &AtomicBool) -> Vec<String> {
    let mut answered = Vec::new();
    let mut client = Client::connect(address);
    let mut is_new = true;
    for request in 0.. {
        let target = format!("/{number}/{request}");
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        let answer = match client.try_response("GET") {
            Ok(answer) => answer,
            // The kernel takes connections for a listener before the listener does, and resets those that it never
            // took. That is a refusal; the accounting tells that nothing of it came to an upstream.
            // Where the send has met the reset, the read that follows meets the end alone.
            Err(Broken::Reset | Broken::Eof) if is_new && termed.load(Ordering::SeqCst) => return answered,
            Err(end) => panic!("{target}: cut by the shutdown: {end:?}"),
        };
        sent.fetch_add(1, Ordering::Relaxed);
        assert_eq!((answer.status, &answer.broken), (200, &None), "{target}: {answer:?}");
        assert!(answer.text().ends_with(&format!(" {target} ")), "{target}: {answer:?}");
        answered.push(target);
        is_new = answer.closes();
        if is_new {
            client.expect_end("after `Connection: close`");
            if number.is_multiple_of(2) {
                assert!(termed.load(Ordering::SeqCst), "closed before SIGTERM");
                return answered;
            }
            match TcpStream::connect(address) {
                Ok(stream) => client = Client { wire: Wire::new(stream, PATIENCE) },
                Err(error) => {
                    assert!(termed.load(Ordering::SeqCst), "refused before SIGTERM: {error}");
                    return answered;
                }
            }
        }
    }
    unreachable!("the loop returns")
}

#[test]
fn readiness_fails_first_and_the_listeners_stay_open_for_the_delay() {
    let upstream = Upstream::ok();
    let mut switchback = Setup::new().tables(SHUTDOWN).start(&upstream);
    assert_eq!(switchback.admin("GET", "/readyz", "").status, 200);
    let mut open = switchback.client();
    open.expect_alive("before SIGTERM");
    let since = Instant::now();
    switchback.signal("TERM");
    wait_until("readiness fails", || switchback.admin("GET", "/readyz", "").status == 503);
    assert!(since.elapsed() < Duration::from_millis(800), "readiness failed after {:?}", since.elapsed());
    assert_eq!(switchback.admin("GET", "/livez", "").status, 200);
    switchback.client().expect_alive("a new connection within the delay");
    wait_until("the listener is closed", || TcpStream::connect(switchback.address).is_err());
    assert!(since.elapsed() >= Duration::from_millis(900), "closed after {:?}", since.elapsed());
    assert_eq!(switchback.wait().code(), Some(0));
}

#[test]
fn what_is_in_flight_ends_and_its_connection_says_close() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::start(move |exchange| {
        exchange.body();
        wait.lock().expect("one exchange").recv().expect("the test says when");
        exchange.send(OK);
    });
    let mut switchback =
        Setup::new().tables("[shutdown]\ndelay = \"0s\"\ndeadline = \"10s\"\n").start(&upstream);
    let mut client = switchback.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n");
    wait_until("the request is in flight", || upstream.requests() == 1);
    switchback.signal("TERM");
    wait_until("the listener is closed", || TcpStream::connect(switchback.address).is_err());
    assert!(switchback.is_running(), "it left a request behind");
    go.send(()).unwrap();
    let answer = client.response("GET").whole();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert!(answer.closes(), "{answer:?}");
    client.expect_end("the last answer");
    assert_eq!(switchback.wait().code(), Some(0));
}

#[test]
fn an_idle_connection_does_not_hold_the_end_up() {
    let upstream = Upstream::ok();
    let mut switchback =
        Setup::new().tables("[shutdown]\ndelay = \"0s\"\ndeadline = \"30s\"\n").start(&upstream);
    let mut idle = switchback.client();
    idle.expect_alive("before SIGTERM");
    let since = Instant::now();
    switchback.signal("TERM");
    idle.expect_end("an idle connection at the end");
    assert_eq!(switchback.wait().code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(10), "it took {:?}", since.elapsed());
}

#[test]
fn the_deadline_ends_what_does_not_end_by_itself() {
    let upstream = Upstream::start(|exchange| {
        exchange.wire().fill().ok();
        exchange.close();
    });
    let mut switchback =
        Setup::new().tables("[shutdown]\ndelay = \"0s\"\ndeadline = \"500ms\"\n").start(&upstream);
    let mut client = switchback.client();
    client.send("GET /never HTTP/1.1\r\nHost: a.example\r\n\r\n");
    wait_until("the request is in flight", || upstream.requests() == 1);
    let since = Instant::now();
    switchback.signal("TERM");
    switchback.wait();
    assert!(
        (Duration::from_millis(450)..Duration::from_secs(5)).contains(&since.elapsed()),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn an_access_log_that_nobody_reads_does_not_hold_the_end_up() {
    let pipe = Pipe::new("end");
    let upstream = Upstream::ok();
    let mut switchback = pipe.stalls(&upstream, "1s");
    let since = Instant::now();
    switchback.signal("TERM");
    assert_eq!(switchback.wait().code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(5), "it took {:?}", since.elapsed());
    let said = switchback.stderr();
    assert!(said.contains("the access log's reader has stalled") && said.contains("lines="), "{said}");
}

#[test]
fn sigint_ends_a_stop_at_once() {
    let pipe = Pipe::new("sigint");
    let upstream = Upstream::start(|exchange| {
        exchange.wire().fill().ok();
        exchange.close();
    });
    let mut switchback = pipe.stalls(&upstream, "60s");
    let mut client = switchback.client();
    client.send("GET /never HTTP/1.1\r\nHost: a.example\r\n\r\n");
    wait_until("the request is in flight", || upstream.requests() == 1);
    switchback.signal("TERM");
    wait_until("readiness fails", || switchback.admin("GET", "/readyz", "").status == 503);
    let since = Instant::now();
    switchback.signal("INT");
    switchback.wait();
    assert!(since.elapsed() < Duration::from_secs(5), "it took {:?}", since.elapsed());
}

/// A pipe in a folder of its own, that is held open and never read.
struct Pipe {
    path: std::path::PathBuf,
    _held: std::fs::File,
}

impl Pipe {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("switchback-stalled-{name}-{}", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo is there");
        assert!(made.success(), "{made}");
        let held = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("our own pipe");
        Self { path, _held: held }
    }

    /// A Switchback that logs into the pipe and has filled it.
    fn stalls(&self, upstream: &Upstream, deadline: &str) -> Switchback {
        let switchback = Setup::new()
            .tables(
                "[pool.none]\nendpoints = []\n[[route]]\nname = \"none\"\npath = \"/none\"\npool = \"none\"",
            )
            .tables(&format!("[access_log]\npath = {:?}", self.path))
            .tables(&format!("[shutdown]\ndelay = \"0s\"\ndeadline = {deadline:?}"))
            .start(upstream);
        let mut client = switchback.client();
        let target = format!("/none/{}", "x".repeat(1000));
        for _ in 0..300 {
            let answer = client.exchange(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
            assert_eq!(answer.status, 503, "requests go on while the log stalls");
        }
        switchback
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}
