//! In the steady state a request allocates nothing: counted over the whole process, both sides of the proxy included.
//!
//! One test alone in its binary, because every allocation of the process counts.

use std::{
    alloc::System,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use switchback::{app::Instance, config};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REQUEST: &[u8] =
    b"GET /shop/item?id=7 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n";
const POST: &[u8] = b"POST /shop/cart HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\nhello";
/// It begins a session, so its response brings a pin.
const BEGINNING: &[u8] = b"GET /stay HTTP/1.1\r\nHost: shop.example\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

/// Requests before the count begins: connections, buffers and series are made by then.
const WARM_UP: usize = 2_000;
/// Rounds that are counted, and the requests of each. The quietest round is judged: what a request allocates, each round has.
const ROUNDS: usize = 10;
const COUNTED: usize = 2_000;
/// What the rest of the process may allocate meanwhile, by the clock and not by the request (the runtimes' timers): one for
/// twenty requests, where a single kind of request with one allocation would make five.
const ELSEWHERE: usize = COUNTED / 20;

#[test]
fn a_request_allocates_nothing() {
    let plain = upstream(RESPONSE);
    let chunked = upstream(CHUNKED);
    let text = format!(
        r#"
workers = 1
[[listener]]
name = "web"
listen = "127.0.0.1:0"
[pool.blue]
endpoints = ["{plain}"]
[pool.green]
endpoints = ["{chunked}"]
[split.shop]
weights = {{ blue = 9, green = 1 }}
[split.stay]
weights = {{ blue = 1, green = 1 }}
sticky = {{ cookie = "sb", ttl = "1h" }}
[[route]]
name = "stay"
hosts = ["shop.example"]
path = "/stay"
split = "stay"
[[route]]
name = "shop"
hosts = ["shop.example"]
path = "/shop"
split = "shop"
"#
    );
    let (config, _) = config::parse("test", &text).map_err(|errors| errors.render()).expect("a good file");
    let instance = Instance::start(config, None).expect("it starts");
    let mut client = TcpStream::connect(instance.addresses[0]).expect("it listens");
    client.set_nodelay(true).expect("a socket option");
    let mut buffer = [0; 4096];
    let pinned = pinned(&mut client, &mut buffer);
    let mut round = |count: usize| {
        for number in 0..count {
            let request = [POST, &pinned, BEGINNING, REQUEST][number % 4];
            client.write_all(request).expect("it reads");
            read_response(&mut client, &mut buffer);
        }
    };
    round(WARM_UP);
    let made = (0..ROUNDS).map(|_| {
        let before = ALLOCATOR.stats();
        round(COUNTED);
        let made = ALLOCATOR.stats() - before;
        made.allocations + made.reallocations
    });
    let made: Vec<usize> = made.collect();
    println!("allocations in each round of {COUNTED} requests: {made:?}");
    assert!(made.iter().min().is_some_and(|quietest| *quietest <= ELSEWHERE), "{made:?}");
    instance.end();
}

/// A request of a session that is pinned.
fn pinned(client: &mut TcpStream, buffer: &mut [u8]) -> Vec<u8> {
    client.write_all(BEGINNING).expect("it reads");
    let length = read_response(client, buffer);
    let response = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let (_, cookie) = response.split_once("Set-Cookie: ").expect("a session begins");
    let (cookie, _) = cookie.split_once(';').expect("it has attributes");
    format!("GET /stay HTTP/1.1\r\nHost: shop.example\r\nCookie: a=b; {cookie}\r\n\r\n").into_bytes()
}

/// Reads until the end that both kinds of response have in common with no other part of them.
fn read_response(client: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let mut length = 0;
    loop {
        length += client.read(&mut buffer[length..]).expect("it answers");
        let read = &buffer[..length];
        if read.ends_with(b"\r\n\r\nhello") || read.ends_with(b"hello\r\n0\r\n\r\n") {
            return length;
        }
        assert!(length < buffer.len(), "no end: {}", String::from_utf8_lossy(read));
    }
}

/// An upstream that answers each request with the same bytes and allocates nothing while it does.
fn upstream(response: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                let mut length = 0;
                while let Ok(read @ 1..) = stream.read(&mut buffer[length..]) {
                    length += read;
                    let request = &buffer[..length];
                    if request.ends_with(b"\r\n\r\n") || request.ends_with(b"\r\n\r\nhello") {
                        length = 0;
                        if stream.write_all(response).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}
