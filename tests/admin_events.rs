//! `GET /v1/events`: no revision is missed and none comes twice, over reconnects and restarts; and what a clumsy or
//! greedy reader gets.

mod admin_support;
mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use admin_support::Instance;
use serde_json::{Value, json};
use support::{Switchback, Upstream, config::blue_green};

/// The streams that there may be at once, as docs/admin-api.md says.
const MAX_STREAMS: usize = 100;

/// An event as a browser would see it, and the position that it would come back with.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    kind: String,
    data: Value,
}

/// A reader of the stream.
struct Reader {
    lines: BufReader<TcpStream>,
    head: String,
    /// What a browser would send as `Last-Event-ID`.
    position: Option<u64>,
}

impl Reader {
    fn open(address: SocketAddr, query: &str, fields: &str) -> Self {
        Self::on(TcpStream::connect(address).expect("it accepts"), address, query, fields)
    }

    fn on(mut stream: TcpStream, address: SocketAddr, query: &str, fields: &str) -> Self {
        stream.set_read_timeout(Some(support::PATIENCE)).expect("a timeout can be set");
        let head = format!("GET /v1/events{query} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n");
        stream.write_all(head.as_bytes()).expect("it reads");
        let mut reader = Self { lines: BufReader::new(stream), head: String::new(), position: None };
        while !reader.head.ends_with("\r\n\r\n") {
            let read = reader.lines.read_line(&mut reader.head).expect("a head");
            assert_ne!(read, 0, "it ended within its head: {:?}", reader.head);
        }
        reader
    }

    fn follow(address: SocketAddr) -> Self {
        Self::open(address, "", "").opened()
    }

    fn after(address: SocketAddr, revision: u64) -> Self {
        Self::open(address, "", &format!("Last-Event-ID: {revision}\r\n")).opened()
    }

    /// Reads on until the stream says that it is there.
    fn opened(mut self) -> Self {
        assert!(self.head.starts_with("HTTP/1.1 200"), "{}", self.head);
        assert!(self.head.to_ascii_lowercase().contains("content-type: text/event-stream"), "{}", self.head);
        let first = self.block().expect("the stream begins");
        assert!(first.contains("retry: "), "{first:?}");
        self
    }

    /// The next lines up to an empty one, without the marks of chunks; `None` at the end.
    fn block(&mut self) -> Option<String> {
        let mut block = String::new();
        loop {
            let mut size = String::new();
            if self.lines.read_line(&mut size).ok()? == 0 {
                return None;
            }
            let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk");
            if size == 0 {
                return None;
            }
            let mut chunk = vec![0; size + 2];
            self.lines.read_exact(&mut chunk).ok()?;
            block.push_str(std::str::from_utf8(&chunk[..size]).expect("UTF-8"));
            if block.ends_with("\n\n") {
                break;
            }
        }
        for line in block.lines() {
            if let Some(id) = line.strip_prefix("id: ") {
                self.position = Some(id.parse().expect("a number"));
            }
        }
        Some(block)
    }

    fn next(&mut self) -> Option<Event> {
        let begun = Instant::now();
        loop {
            let block = self.block()?;
            // The comments of a silent stream come well within a read's own patience.
            assert!(begun.elapsed() < support::PATIENCE, "no event came");
            let field =
                |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let Some((kind, data)) = field("event: ").zip(field("data: ")) {
                return Some(Event { kind, data: serde_json::from_str(&data).expect("JSON") });
            }
        }
    }

    /// The next revision, past what else happens.
    fn revision(&mut self) -> u64 {
        loop {
            let event = self.next().expect("the stream goes on");
            if event.kind == "revision" {
                let number = event.data["revision"].as_u64().expect("a number");
                assert_eq!(self.position, Some(number));
                return number;
            }
        }
    }
}

fn put(instance: &Instance, green: u64) {
    let answer =
        instance.call("PUT", "/v1/splits/shop/weights", Some(&format!(r#"{{"blue": 1, "green": {green}}}"#)));
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn readers_see_every_revision_once_in_order_however_often_they_come_back() {
    const REVISIONS: u64 = 150;
    let instance = Instance::start();
    let address = instance.address();
    thread::scope(|scope| {
        let follow = |stays: u64| {
            move || {
                // One that stays reads all on one connection; the others come back again and again.
                let mut reader = Reader::open(address, "?after=0", "").opened();
                let mut seen = Vec::new();
                while seen.last() != Some(&REVISIONS) {
                    seen.push(reader.revision());
                    if (seen.len() as u64).is_multiple_of(stays) {
                        reader = Reader::after(address, reader.position.expect("it has read one"));
                    }
                }
                seen
            }
        };
        let readers: Vec<_> =
            [u64::MAX, 1, 7, 60].into_iter().map(|stays| scope.spawn(follow(stays))).collect();
        (1..=REVISIONS).for_each(|green| put(&instance, green));
        for reader in readers {
            assert_eq!(reader.join().expect("no reader panics"), (1..=REVISIONS).collect::<Vec<_>>());
        }
    });
}

#[test]
fn who_only_listens_hears_what_comes_and_can_come_back_from_there() {
    let instance = Instance::start();
    put(&instance, 2);
    let mut reader = Reader::follow(instance.address());
    assert_eq!(reader.position, Some(1), "he could come back before anything happened");
    put(&instance, 3);
    let event = reader.next().expect("an event");
    assert_eq!(
        (event.kind.as_str(), &event.data["text"]),
        ("revision", &json!(["split shop: green 2 -> 3"]))
    );
    assert_eq!(event.data["who"], json!("127.0.0.1"));
    let drained = "/v1/pools/blue/endpoints/127.0.0.1:9001/drain";
    assert_eq!(instance.call("POST", drained, None).status, 200);
    let mut kinds = std::collections::BTreeSet::new();
    while kinds.len() < 3 {
        kinds.insert(reader.next().expect("an event").kind);
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["drained", "endpoint", "revision"]);
    assert_eq!(reader.position, Some(3), "what is not kept has no id");
}

#[test]
fn a_position_that_this_history_does_not_have_is_said_to_be_a_gap() {
    let instance = Instance::start();
    put(&instance, 2);
    let mut reader = Reader::after(instance.address(), 900);
    let gap = reader.next().expect("an event");
    assert_eq!((gap.kind.as_str(), gap.data), ("gap", json!({"after": 900, "from": 1})));
    put(&instance, 3);
    assert_eq!(reader.revision(), 2);
    for (query, fields) in
        [("?after=x", ""), ("?before=1", ""), ("", "Last-Event-ID: x\r\n"), ("", "Last-Event-ID: -1\r\n")]
    {
        let reader = Reader::open(instance.address(), query, fields);
        assert!(reader.head.starts_with("HTTP/1.1 400"), "{query} {fields}: {}", reader.head);
    }
}

#[test]
fn streams_are_bounded_and_one_that_ends_makes_room() {
    let instance = Instance::start();
    let mut readers: Vec<_> = (0..MAX_STREAMS).map(|_| Reader::follow(instance.address())).collect();
    let late = Reader::open(instance.address(), "", "");
    assert!(late.head.starts_with("HTTP/1.1 503"), "{}", late.head);
    assert!(late.head.to_ascii_lowercase().contains("retry-after: "), "{}", late.head);
    assert_eq!(instance.get("/v1/status").status, 200, "other calls come in");
    let is_open = |count: usize| {
        instance.get("/metrics").body.contains(&format!("\nswitchback_admin_event_streams_open {count}\n"))
    };
    assert!(is_open(MAX_STREAMS));
    readers.pop();
    support::wait_until("it is counted out", || is_open(MAX_STREAMS - 1));
    support::wait_until("a place is free", || {
        Reader::open(instance.address(), "", "").head.starts_with("HTTP/1.1 200")
    });
    put(&instance, 2);
    for reader in &mut readers {
        assert_eq!(reader.revision(), 1);
    }
}

#[test]
fn a_reader_that_takes_nothing_is_closed_and_has_lost_nothing_when_it_comes_back() {
    // With 4 KB each, more than the 4 MB that the kernel itself keeps for a connection.
    const REVISIONS: u64 = 1_500;
    let instance = Instance::start();
    // A small buffer on the reader's side: what it does not take stays with the server.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    socket.connect(&instance.address().into()).expect("it accepts");
    let deaf = Reader::on(socket.into(), instance.address(), "?after=0", "").opened();
    let reason = "\u{1d11e}".repeat(1_000);
    for green in 1..=REVISIONS {
        let body = format!(r#"{{"blue": 1, "green": {green}, "reason": "{reason}"}}"#);
        let answer = instance.call("PUT", "/v1/splits/shop/weights", Some(&body));
        assert_eq!(answer.status, 200, "nobody waits for a reader: {answer:?}");
    }
    // With the deaf one, all places are taken.
    let _others: Vec<_> = (1..MAX_STREAMS).map(|_| Reader::follow(instance.address())).collect();
    support::wait_until("the deaf reader's place is free", || {
        Reader::open(instance.address(), "", "").head.starts_with("HTTP/1.1 200")
    });
    let mut back = Reader::after(instance.address(), deaf.position.unwrap_or(0));
    (1..=REVISIONS).for_each(|number| assert_eq!(back.revision(), number));
}

#[test]
fn streams_give_way_to_calls_when_all_connections_are_taken() {
    let instance = Instance::start();
    let mut readers: Vec<_> = (0..MAX_STREAMS).map(|_| Reader::follow(instance.address())).collect();
    let idle: Vec<_> =
        (0..300).map(|_| TcpStream::connect(instance.address()).expect("it accepts")).collect();
    assert_eq!(instance.get("/v1/status").status, 200);
    assert!(readers.iter_mut().any(|reader| reader.next().is_none()), "a stream holds no place for good");
    drop(idle);
}

#[test]
fn a_stop_ends_every_stream_in_order() {
    let instance = Instance::start();
    let mut reader = Reader::follow(instance.address());
    let began = Instant::now();
    instance.plane.stop();
    assert_eq!(reader.next(), None);
    assert!(began.elapsed() < Duration::from_secs(2), "it was not waited for: {:?}", began.elapsed());
}

#[test]
fn a_reader_goes_on_over_restarts_and_kills_of_the_process() {
    let folder = std::env::temp_dir().join(format!("switchback-events-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder of our own");
    let (blue, green) = (Upstream::ok(), Upstream::ok());
    let file = blue_green(1, (1, 1), "", &blue, &green);
    let file = format!("state = {{ path = {:?} }}\n{file}", folder.join("switchback.db"));
    let mut position = 0;
    let mut expected = 0;
    for round in 1..=3 {
        let mut switchback = Switchback::start(&file);
        // Some are made before the reader is back, and some while it reads.
        for weight in 1..=5 {
            switchback.weigh(round * 10 + weight, 1);
        }
        let mut reader = Reader::after(switchback.admin, position);
        for weight in 6..=10 {
            switchback.weigh(round * 10 + weight, 1);
        }
        for _ in 0..10 {
            expected += 1;
            assert_eq!(reader.revision(), expected, "in round {round}");
        }
        position = reader.position.expect("it has read some");
        switchback.signal(if round == 1 { "TERM" } else { "KILL" });
        switchback.wait();
    }
    fs::remove_dir_all(folder).expect("our own folder");
}
