//! The keep-alive race: an application closes an idle connection in the very moment in which a request is sent on it.
//!
//! A GET must never fail by it. A POST may, since nobody can know whether it was processed; but it is never sent twice.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    counted,
    support::{Client, Setup, Switchback, Upstream, is_long, seeded},
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An application that closes idle connections at random moments.
struct Closing {
    address: SocketAddr,
    seen: Arc<Seen>,
}

/// What the application has seen.
#[derive(Default)]
struct Seen {
    /// How often each POST came.
    posts: Mutex<HashMap<u64, u32>>,
    /// Connections that it closed with a request on the way.
    raced: AtomicUsize,
}

impl Closing {
    fn start(mut rng: fastrand::Rng) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Seen::default());
        let accepting = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), seen) = (stream, Arc::clone(&accepting)) else { continue };
                let rng = rng.fork();
                thread::spawn(move || serve(stream, rng, &seen));
            }
        });
        Self { address, seen }
    }
}

/// Serves a connection until it is idle for longer than a random time, or a die says that the time was over just before
/// the request came: the request is then left unread, as it is by a process that closes while it arrives.
fn serve(mut stream: TcpStream, mut rng: fastrand::Rng, seen: &Seen) {
    stream.set_nodelay(true).expect("a live socket");
    let mut buffer = [0; 4096];
    // The first request has all the time it needs.
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout above zero");
    while let Ok(1..) = stream.peek(&mut [0]) {
        let mut length = 0;
        while find_end(&buffer[..length]).is_none() {
            match stream.read(&mut buffer[length..]) {
                Ok(read @ 1..) => length += read,
                _ => return,
            }
        }
        if let Some(id) = post_id(&buffer[..length]) {
            *seen.posts.lock().expect("no panic holds it").entry(id).or_default() += 1;
        }
        if stream.write_all(ANSWER).is_err() {
            return;
        }
        let idle = Duration::from_micros(rng.u64(20..20_000));
        stream.set_read_timeout(Some(idle)).expect("a timeout above zero");
        match stream.peek(&mut [0]) {
            Ok(1..) if rng.u8(..) >= 8 => {}
            Ok(1..) => {
                seen.raced.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
            _ => return,
        }
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout above zero");
    }
}

/// Where a request ends: every one is a head alone, or says its two bytes of body.
fn find_end(bytes: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let end = if bytes.starts_with(b"POST") { head + 2 } else { head };
    (bytes.len() >= end).then_some(end)
}

/// The number of a POST.
fn post_id(request: &[u8]) -> Option<u64> {
    let rest = request.strip_prefix(b"POST /")?;
    std::str::from_utf8(&rest[..memchr::memchr(b' ', rest)?]).ok()?.parse().ok()
}

/// What one client saw.
#[derive(Default)]
struct Saw {
    failed_gets: Vec<String>,
    answered_posts: Vec<u64>,
    failed_posts: Vec<(u64, String)>,
}

/// Sends so many requests, every fourth a POST, each with a number of its own.
fn one_client(switchback: &Switchback, first: u64, count: u64, mut rng: fastrand::Rng) -> Saw {
    let mut saw = Saw::default();
    let mut client = Client::connect(switchback.address);
    for id in first..first + count {
        let is_post = id % 4 == 0;
        client.send(match is_post {
            true => format!("POST /{id} HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi"),
            false => format!("GET /{id} HTTP/1.1\r\nHost: a.example\r\n\r\n"),
        });
        let answer = client.try_response(if is_post { "POST" } else { "GET" });
        let is_well = answer.as_ref().is_ok_and(|answer| answer.status == 200 && answer.broken.is_none());
        match (is_post, is_well) {
            (true, true) => saw.answered_posts.push(id),
            (true, false) => saw.failed_posts.push((id, format!("{answer:?}"))),
            (false, true) => {}
            (false, false) => saw.failed_gets.push(format!("{id}: {answer:?}")),
        }
        if answer.is_ok_and(|answer| answer.closes()) || !is_well {
            client = Client::connect(switchback.address);
        }
        if rng.u8(..) < 16 {
            // Now and then the upstream's connections become idle.
            thread::sleep(Duration::from_micros(rng.u64(..10_000)));
        }
    }
    saw
}

#[test]
fn no_get_fails_and_no_post_is_doubled_by_connections_that_close() {
    const CLIENTS: u64 = 8;
    // Three of four requests are GETs.
    let gets: u64 = if is_long() { 1_000_000 } else { 15_000 };
    let each = (gets * 4).div_ceil(3 * CLIENTS);
    let mut rng = seeded("keep-alive race");
    let upstreams = [Closing::start(rng.fork()), Closing::start(rng.fork())];
    let nobody = Upstream::ok();
    let addresses = format!("{}\", \"{}", upstreams[0].address, upstreams[1].address);
    let config = Setup::new().global("workers = 2").toml(&[&nobody]);
    let switchback = Switchback::start(&config.replace(&nobody.address.to_string(), &addresses));
    let begun = Instant::now();
    let saw: Vec<Saw> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (switchback, rng) = (&switchback, rng.fork());
                scope.spawn(move || one_client(switchback, client * each, each, rng))
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    });

    let failed: Vec<_> = saw.iter().flat_map(|saw| &saw.failed_gets).collect();
    assert!(failed.is_empty(), "{} GETs failed: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    let mut posts = HashMap::new();
    for upstream in &upstreams {
        for (id, count) in upstream.seen.posts.lock().expect("no panic holds it").iter() {
            *posts.entry(*id).or_insert(0) += count;
        }
    }
    let doubled: Vec<_> = posts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "POSTs that came twice: {doubled:?}");
    assert!(saw.iter().flat_map(|saw| &saw.answered_posts).all(|id| posts.get(id) == Some(&1)));
    let failed: Vec<_> = saw.iter().flat_map(|saw| &saw.failed_posts).collect();
    assert!(failed.iter().all(|(_, answer)| answer.contains("status: 502")), "{:?}", failed.first());
    // A POST fails only where its connection was closed with it on the way; a GET is then repeated.
    let raced: usize = upstreams.iter().map(|upstream| upstream.seen.raced.load(Ordering::Relaxed)).sum();
    let stale = counted(&switchback, "switchback_route_retries_total", &["reason=\"stale\""]);
    let failures = counted(&switchback, "switchback_endpoint_attempt_failures_total", &[]);
    println!(
        "{} requests in {:.0?}, {raced} races, {stale} repeated, no GET failed, {} POSTs failed and none came twice, \
         {failures} attempts failed",
        each * CLIENTS,
        begun.elapsed(),
        failed.len()
    );
    assert!(raced > 0 && stale > 0, "there was no race: {raced}, {stale}");
    assert!(failed.len() as u64 + stale <= failures, "{} and {stale} of {failures}", failed.len());
}
