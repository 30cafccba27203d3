//! Clients of the admin API that are slow, idle, deaf or too many: each costs a bounded time, and others are served.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use switchback::{
    admin::{
        access::Access,
        router::Admin,
        server::{Limits, serve},
        socket::{Bound, Socket},
        streams::Streams,
        tag::Tags,
    },
    config,
    control::{controller::Controller, lifecycle::Lifecycle},
    health::board::Health,
    tls::{Book, Secret},
};
use tokio::sync::watch;

const FILE: &str = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:8080\"\n[pool.blue]\nendpoints = []\n\
                    [[route]]\nname = \"all\"\npool = \"blue\"\n";
const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LAST_REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// An admin API with limits that a test can reach.
struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(limits: Limits) -> Self {
        let (config, _) = config::parse("test.toml", FILE).expect("the sample is good");
        let socket = Socket::tcp(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let Ok(Bound::Tcp(address)) = socket.bound() else { panic!("it has an address") };
        let (controller, control, _live) = Controller::new(Arc::new(config), Arc::default());
        let admin = Admin {
            control,
            lifecycle: Lifecycle::default(),
            file: None,
            health: Health::new(&[], Instant::now()),
            certificates: Book::new(Secret::random(std::time::SystemTime::now()).expect("randomness")),
            own_tls: None,
            access: Access::default(),
            tags: Tags::new(false),
            streams: Streams::default(),
            started: Instant::now(),
            version: "test",
            succession: Default::default(),
        };
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::spawn(controller.run());
                serve(socket, Arc::new(admin), limits, stopped).await.expect("it serves");
            });
        });
        Self { address, stop, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the kernel accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let ended = self.thread.take().expect("it is joined once").join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// Reads until the server ends the connection; fails if it does not.
fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the connection was not ended: {error}"),
        }
    }
    String::from_utf8(bytes).expect("answers are UTF-8")
}

#[test]
fn a_slow_head_and_an_idle_connection_are_ended() {
    let server = Server::start(Limits { head_timeout: Duration::from_millis(50), ..Limits::default() });
    for sent in [&b""[..], b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow"] {
        let mut stream = server.connect();
        stream.write_all(sent).expect("it reads");
        assert!(!read_to_end(&mut stream).contains(" 200 "), "{sent:?}");
    }
    let mut kept = server.connect();
    kept.write_all(REQUEST).expect("it reads");
    assert!(
        read_to_end(&mut kept).starts_with("HTTP/1.1 200 "),
        "answered, and ended when no request followed"
    );
}

#[test]
fn a_client_that_does_not_read_its_answers_is_ended_and_makes_room() {
    let limits = Limits { connections: 1, write_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(limits);
    let mut deaf = server.connect();
    deaf.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    // Requests without end, until the server has had enough: their answers fill every buffer on the way.
    let ended = loop {
        match deaf.write_all(REQUEST) {
            Ok(()) => {}
            Err(error) => break error.kind(),
        }
    };
    assert!(matches!(ended, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{ended:?}");
    let mut next = server.connect();
    next.write_all(LAST_REQUEST).expect("it reads");
    assert!(read_to_end(&mut next).starts_with("HTTP/1.1 200 "));
}

#[test]
fn at_the_cap_the_connection_that_has_been_silent_longest_gives_way() {
    let server = Server::start(Limits { connections: 2, ..Limits::default() });
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(REQUEST).expect("it reads");
            let mut first = [0; 12];
            stream.read_exact(&mut first).expect("it is served");
            stream
        })
        .collect();
    let mut next = server.connect();
    next.write_all(LAST_REQUEST).expect("it reads");
    assert!(read_to_end(&mut next).starts_with("HTTP/1.1 200 "));
    let [mut first, mut second] = <[TcpStream; 2]>::try_from(held).expect("there are two");
    read_to_end(&mut first);
    second.write_all(LAST_REQUEST).expect("it reads");
    assert!(read_to_end(&mut second).contains("\"alive\":true"), "the other one is still served");
}

#[test]
fn slow_and_silent_clients_by_the_hundred_keep_no_probe_out() {
    let server = Server::start(Limits { connections: 64, ..Limits::default() });
    let half = b"PUT /v1/splits/shop/weights HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{";
    let _held: Vec<_> = (0..200)
        .map(|number| {
            let mut stream = server.connect();
            let sent = [&b""[..], b"GET /livez HT", REQUEST, half][number % 4];
            // One of those before may have given way already.
            let _ = stream.write_all(sent);
            let mut probe = server.connect();
            probe.write_all(LAST_REQUEST).expect("it reads");
            assert!(read_to_end(&mut probe).starts_with("HTTP/1.1 200 "), "after {number}");
            stream
        })
        .collect();
}

#[test]
fn a_stop_ends_idle_connections_at_once() {
    let server = Server::start(Limits::default());
    let mut idle = server.connect();
    idle.write_all(REQUEST).expect("it reads");
    let mut first = [0; 12];
    idle.read_exact(&mut first).expect("it is served");
    let begun = Instant::now();
    server.stop.send_replace(true);
    read_to_end(&mut idle);
    drop(idle);
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}
