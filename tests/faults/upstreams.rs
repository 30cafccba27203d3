//! Every fault that an endpoint can have: what its clients get, what is counted of it, and that nobody else notices.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    counted, get,
    support::{
        Client, Reserved, Setup, Switchback, Upstream, pattern, upstream::response, wait_for, wait_until,
    },
    with_body,
};

/// How long the faulty routes wait: for silence, for a connection, and in all.
const TIMES: &str = "first_byte_timeout = \"500ms\"\nstream_idle_timeout = \"500ms\"\ntimeout = \"2s\"";

/// What a client of the faulty endpoint is to see.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    /// An answer of Switchback's own, whose detail holds a text.
    Status(u16, &'static str),
    /// A response that begins and does not end.
    Cut,
}

/// What is to be counted for one request to the faulty endpoint.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    connect_failures: u64,
    attempt_failures: u64,
    retries: u64,
    timeout: Option<&'static str>,
}

/// A listening socket that never accepts, its queue full, so that the kernel answers no further connection.
struct Blackhole {
    address: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<socket2::Socket>,
}

impl Blackhole {
    fn new() -> Self {
        let socket = || {
            let stream = socket2::Type::STREAM;
            socket2::Socket::new(socket2::Domain::IPV4, stream, None).expect("a socket")
        };
        let listener = socket();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("an address").into()).expect("a free port");
        listener.listen(0).expect("a bound socket");
        let address = listener.local_addr().expect("bound").as_socket().expect("of IPv4");
        let mut queued = Vec::new();
        // The queue is full once a connection does not come about.
        loop {
            let client = socket();
            let connected = client.connect_timeout(&address.into(), Duration::from_millis(200));
            queued.push(client);
            if connected.is_err() {
                return Self { address, _listener: listener, _queued: queued };
            }
            assert!(queued.len() < 64, "the queue never fills");
        }
    }
}

/// Switchback before a sound pool at `/good` and a faulty endpoint at everything else.
fn start(faulty: SocketAddr, good: &Upstream) -> Switchback {
    let nobody = Upstream::ok();
    let config = Setup::new()
        .pool("connect_timeout = \"200ms\"")
        .route(TIMES)
        .tables(&format!(
            "[pool.good]\nendpoints = [\"{}\"]\n[[route]]\nname = \"good\"\npath = \"/good\"\npool = \"good\"\n",
            good.address
        ))
        .toml(&[&nobody]);
    Switchback::start(&config.replace(&nobody.address.to_string(), &faulty.to_string()))
}

fn descriptors(switchback: &Switchback) -> usize {
    fs::read_dir(format!("/proc/{}/fd", switchback.pid())).expect("a live process").count()
}

/// The open descriptors, once they have stopped changing: idle connections count until they expire.
fn settled(switchback: &Switchback) -> usize {
    let mut last = descriptors(switchback);
    wait_for("the descriptors settle", || {
        thread::sleep(Duration::from_millis(100));
        let now = descriptors(switchback);
        (std::mem::replace(&mut last, now) == now).then_some(now)
    })
}

/// Sends one request to the faulty endpoint and says what came of it.
fn seen(switchback: &Switchback, request: &[u8]) -> Seen {
    let mut client = Client::connect(switchback.address);
    // A large body may not be taken whole: the answer comes before.
    client.wire.stream().set_nonblocking(false).expect("a live socket");
    let mut sending = client.wire.stream().try_clone().expect("another handle");
    let request = request.to_vec();
    let sender = thread::spawn(move || {
        std::io::Write::write_all(&mut sending, &request).ok();
    });
    let answer = client.any_response("GET");
    let _ = TcpStream::shutdown(client.wire.stream(), std::net::Shutdown::Both);
    sender.join().expect("the sender does not panic");
    match answer.broken {
        Some(_) => Seen::Cut,
        None => {
            let text = answer.text();
            let known = ["connect_timeout", "first_byte_timeout", "timeout: the request", "malformed"];
            let known = known.iter().find(|known| text.contains(**known)).copied();
            Seen::Status(answer.status, known.unwrap_or_default())
        }
    }
}

/// What a fault does to its own requests and to nobody else's.
fn check(name: &str, faulty: SocketAddr, request: &[u8], expected: Seen, counts: Counts) {
    const FAULTY: usize = 3;
    let good = Upstream::ok();
    let switchback = start(faulty, &good);
    let mut sibling = switchback.client();
    assert_eq!(sibling.exchange(get("/good", "")).status, 200);
    let idle = settled(&switchback);
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let faulty: Vec<_> = (0..FAULTY).map(|_| scope.spawn(|| seen(&switchback, request))).collect();
        // The sibling is served for as long as the faulty requests last, and at least a hundred times.
        let siblings = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) || served.load(Ordering::SeqCst) < 100 {
                assert_eq!(sibling.exchange(get("/good", "")).whole().text(), "ok", "{name}: a sibling");
                served.fetch_add(1, Ordering::SeqCst);
            }
        });
        let seen: Vec<_> = faulty.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::SeqCst);
        siblings.join().expect("no sibling fails");
        for one in seen {
            assert_eq!(one.expect("no panic"), expected, "{name}");
        }
    });
    let each = FAULTY as u64;
    let endpoint = [format!("endpoint=\"{faulty}\"")];
    let labels = [endpoint[0].as_str()];
    let count = |metric: &str| counted(&switchback, &format!("switchback_endpoint_{metric}"), &labels);
    assert_eq!(count("connect_failures_total"), each * counts.connect_failures, "{name}");
    assert_eq!(count("attempt_failures_total"), each * counts.attempt_failures, "{name}");
    assert_eq!(count("retries_total"), each * counts.retries, "{name}");
    let timeouts = counted(&switchback, "switchback_route_timeouts_total", &["route=\"all\""]);
    let kind = counts.timeout.map(|kind| format!("kind=\"{kind}\""));
    let of_kind = kind
        .map_or(0, |kind| counted(&switchback, "switchback_route_timeouts_total", &["route=\"all\"", &kind]));
    assert_eq!(timeouts, of_kind, "{name}: only {:?}", counts.timeout);
    assert!(counts.timeout.is_none() || of_kind >= each, "{name}: {of_kind}");
    assert_eq!(counted(&switchback, "switchback_route_retries_total", &["route=\"good\""]), 0, "{name}");
    for gauge in ["route_requests_in_flight", "pool_requests_in_flight", "endpoint_requests_in_flight"] {
        wait_until("the gauges are back", || switchback.metric(&format!("switchback_{gauge}")) == 0.0);
    }
    wait_until(&format!("{name}: the descriptors are back at {idle}"), || descriptors(&switchback) <= idle);
}

#[test]
fn refused() {
    let counts = Counts { connect_failures: 3, retries: 2, ..Counts::default() };
    check("refused", Reserved::any().address, get("/", "").as_bytes(), Seen::Status(502, ""), counts);
}

#[test]
fn blackholed() {
    let hole = Blackhole::new();
    // Three attempts of 200 ms fit into the route's time.
    let counts = Counts { connect_failures: 3, retries: 2, timeout: Some("connect"), ..Counts::default() };
    let expected = Seen::Status(504, "connect_timeout");
    check("blackholed", hole.address, &with_body("POST", "/", "", b"unsent"), expected, counts);
}

/// A pool of what never takes a connection, with more keys, and then these endpoints.
fn start_blackholed(hole: &Blackhole, pool: &str, route: &str, others: &[&Upstream]) -> Switchback {
    let nobody = Upstream::ok();
    let endpoints: Vec<_> = [&nobody].into_iter().chain(others.iter().copied()).collect();
    let config = Setup::new().pool(pool).route(route).toml(&endpoints);
    Switchback::start(&config.replace(&nobody.address.to_string(), &hole.address.to_string()))
}

#[test]
fn an_attempts_own_time_ends_its_connecting_for_another_attempt() {
    let (hole, good) = (Blackhole::new(), Upstream::ok());
    let pool = "balance = \"round_robin\"\nconnect_timeout = \"10s\"";
    let switchback = start_blackholed(&hole, pool, "retries = { per_try_timeout = \"200ms\" }", &[&good]);
    let mut client = switchback.client();
    (0..4).for_each(|_| assert_eq!(client.exchange(get("/", "")).whole().text(), "ok"));
    let retries = counted(&switchback, "switchback_route_retries_total", &["reason=\"per_try_timeout\""]);
    assert!((1..=4).contains(&retries), "{retries}");
    assert_eq!(counted(&switchback, "switchback_route_retries_total", &[]), retries);
    assert_eq!(counted(&switchback, "switchback_route_timeouts_total", &["kind=\"per_try\""]), retries);
    assert_eq!(counted(&switchback, "switchback_route_timeouts_total", &[]), retries);
    assert_eq!(counted(&switchback, "switchback_endpoint_connect_failures_total", &[]), retries);
}

/// There are ten retries at once, and about as many come in a second: for the others the budget is empty.
#[test]
fn an_attempt_goes_on_to_connect_if_no_other_can_be_made() {
    let hole = Blackhole::new();
    let route = "retries = { attempts = 1, budget = 0, per_try_timeout = \"200ms\" }";
    let switchback = start_blackholed(&hole, "connect_timeout = \"1s\"", route, &[]);
    let since = Instant::now();
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let answer = switchback.client().exchange(get("/", "")).whole();
                assert!(since.elapsed() > Duration::from_millis(950), "{:?}", since.elapsed());
                assert!(answer.status == 504 && answer.text().contains("connect_timeout"), "{answer:?}");
            });
        }
    });
    let retries = counted(&switchback, "switchback_route_retries_total", &["reason=\"per_try_timeout\""]);
    assert!((10..20).contains(&retries), "{retries}");
    assert_eq!(counted(&switchback, "switchback_route_timeouts_total", &["kind=\"per_try\""]), retries);
}

/// Checks an upstream whose failure is final at its first attempt.
fn check_once(
    name: &str,
    upstream: &Upstream,
    request: &[u8],
    expected: Seen,
    timeout: Option<&'static str>,
) {
    let counts = Counts { attempt_failures: 1, timeout, ..Counts::default() };
    check(name, upstream.address, request, expected, counts);
    assert_eq!(upstream.requests(), 3, "{name}: each of three requests came once");
    wait_until(&format!("{name}: no connection is left"), || upstream.open() == 0);
}

#[test]
fn slow() {
    let upstream = Upstream::start(|exchange| {
        exchange.wire().fill().ok();
        exchange.close();
    });
    let expected = Seen::Status(504, "first_byte_timeout");
    check_once("slow", &upstream, get("/", "").as_bytes(), expected, Some("first_byte"));
}

#[test]
fn cut_in_every_way() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\n";
    for (name, start, is_reset) in [
        ("reset mid-body", "Content-Length: 10\r\n\r\nhello", true),
        ("half-closed mid-body", "Content-Length: 10\r\n\r\nhello", false),
        ("half-closed in a chunk", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", false),
        ("half-closed between chunks", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
        ("reset between chunks", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true),
    ] {
        let upstream = Upstream::start(move |exchange| {
            exchange.send(format!("{HEAD}{start}").as_bytes());
            // What was sent arrives before the reset does.
            thread::sleep(Duration::from_millis(50));
            if is_reset { exchange.reset() } else { exchange.close() }
        });
        check_once(name, &upstream, get("/", "").as_bytes(), Seen::Cut, None);
    }
}

#[test]
fn a_broken_chunk_behind_a_sound_one() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        // In one read with the head, it would be the whole answer that is refused.
        thread::sleep(Duration::from_millis(100));
        exchange.send(b"xyz\r\n");
        exchange.wire().fill().ok();
        exchange.close();
    });
    check_once("a broken chunk", &upstream, get("/", "").as_bytes(), Seen::Cut, None);
}

#[test]
fn silent_mid_body() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        exchange.wire().fill().ok();
        exchange.close();
    });
    check_once("silent mid-body", &upstream, get("/", "").as_bytes(), Seen::Cut, Some("stream_idle"));
}

#[test]
fn no_answer_that_can_be_read() {
    let oversized = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(80 << 10)).into_bytes();
    for (name, bytes) in [
        ("garbage", pattern(2_000, 5)),
        ("another protocol", b"220 mail.example ESMTP\r\n".to_vec()),
        ("oversized head", oversized),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
    ] {
        let upstream = Upstream::start(move |exchange| {
            exchange.send(&bytes);
            exchange.close();
        });
        check_once(name, &upstream, get("/", "").as_bytes(), Seen::Status(502, "malformed"), None);
    }
}

#[test]
fn closed_without_an_answer() {
    for is_reset in [false, true] {
        let upstream = Upstream::start(move |exchange| {
            exchange.body();
            if is_reset { exchange.reset() } else { exchange.close() }
        });
        let counts = Counts { attempt_failures: 3, retries: 2, ..Counts::default() };
        check("closed", upstream.address, get("/", "").as_bytes(), Seen::Status(502, ""), counts);
        assert_eq!(upstream.requests(), 9, "three requests, three attempts each");
        let upstream = Upstream::start(|exchange| exchange.close());
        check_once("a POST", &upstream, &with_body("POST", "/", "", b"x"), Seen::Status(502, ""), None);
    }
}

#[test]
fn a_request_that_is_not_read() {
    // More than the sockets between them hold, so that it is never sent whole and no first byte is due.
    let upstream = Upstream::start(|exchange| {
        exchange.read_raw(1);
        while exchange.wire().ahead().is_empty() && exchange.wire().fill().is_ok() {}
        thread::sleep(Duration::from_secs(3));
        exchange.reset();
    });
    let request = with_body("POST", "/", "", &pattern(32 << 20, 6));
    let expected = Seen::Status(504, "timeout: the request");
    let counts = Counts { attempt_failures: 1, timeout: Some("request"), ..Counts::default() };
    check("a request that is not read", upstream.address, &request, expected, counts);
}

#[test]
fn an_answer_of_any_status_is_no_fault_of_ours() {
    let upstream = Upstream::answering(response(503, b"busy"));
    let good = Upstream::ok();
    let switchback = start(upstream.address, &good);
    let answer = switchback.client().exchange(get("/", "")).whole();
    assert_eq!((answer.status, answer.text().as_str()), (503, "busy"));
    assert_eq!(counted(&switchback, "switchback_endpoint_attempt_failures_total", &[]), 0);
}
