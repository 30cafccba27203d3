//! A low limit of open files: however many connect, the admin API answers, and no request fails for want of a
//! descriptor.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::{
    get,
    support::{Client, Setup, Switchback, Upstream, upstream::OK, wait_until},
};

/// The limit of these tests, of which about 25 connections of clients are left.
const LIMIT: u32 = 100;

fn assert_lives(switchback: &Switchback, context: &str) {
    assert_eq!(switchback.admin("GET", "/livez", "").status, 200, "{context}");
}

#[test]
fn idle_clients_of_two_listeners_leave_the_admin_api_its_descriptors() {
    let upstream = Upstream::ok();
    let setup = Setup::new().tables("[[listener]]\nname = \"second\"\nlisten = \"127.0.0.1:0\"");
    let switchback = Switchback::start_limited(&setup.toml(&[&upstream]), LIMIT);
    let second = switchback.listener("second");
    let mut clients = Vec::new();
    for number in 0..120 {
        clients.push(Client::connect(if number % 2 == 0 { switchback.address } else { second }));
        if number % 20 == 19 {
            assert_lives(&switchback, "while clients come");
        }
    }
    // The first was accepted; it has its upstream connection, whoever else waits.
    let first = clients[0].exchange(get("/", ""));
    assert_eq!(first.status, 200, "{first:?}");
    assert_lives(&switchback, "with all of them there");
    let open = switchback.metric("switchback_connections_open");
    assert!((4.5..60.5).contains(&open), "{open} connections are open");
    drop(clients);
    assert_eq!(switchback.client().exchange(get("/", "")).status, 200, "and the next is served");
}

#[test]
fn requests_in_flight_over_the_limit_wait_and_none_fails() {
    let is_open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&is_open);
    let upstream = Upstream::start(move |exchange| {
        wait_until("the test opens the gate", || gate.load(Ordering::SeqCst));
        exchange.send(OK);
    });
    let switchback = Switchback::start_limited(&Setup::new().toml(&[&upstream]), LIMIT);
    let mut clients: Vec<_> = (0..70)
        .map(|_| {
            let mut client = switchback.client();
            client.send(get("/", "Connection: close\r\n"));
            client
        })
        .collect();
    wait_until("what there is room for has come", || {
        let (came, open) = (upstream.requests(), switchback.metric("switchback_connections_open"));
        came > 4 && (came as f64 - open).abs() < 0.5
    });
    assert!(upstream.requests() < 70, "the limit leaves no room for all");
    assert_lives(&switchback, "with as many in flight as there may be");
    is_open.store(true, Ordering::SeqCst);
    for client in &mut clients {
        let answer = client.response("GET");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_lives(&switchback, "at the end");
}

#[test]
fn idle_upstream_connections_give_way_to_those_that_are_needed() {
    const AT_ONCE: usize = 16;
    // All requests to an endpoint are in flight together, so that each has a connection of its own.
    let upstreams: Vec<_> = (0..6)
        .map(|_| {
            let barrier = Barrier::new(AT_ONCE);
            Upstream::start(move |exchange| {
                barrier.wait();
                exchange.send(OK);
            })
        })
        .collect();
    let mut setup = Setup::new();
    for (number, upstream) in upstreams.iter().enumerate() {
        setup = setup.tables(&format!(
            "[pool.p{number}]\nendpoints = [\"{}\"]\n[[route]]\nname = \"r{number}\"\npath = \"/{number}\"\npool = \"p{number}\"",
            upstream.address
        ));
    }
    let switchback = Switchback::start_limited(&setup.toml(&[&upstreams[0]]), LIMIT);
    let mut clients: Vec<_> = (0..AT_ONCE).map(|_| switchback.client()).collect();
    for round in 0..12 {
        for client in &mut clients {
            client.send(get(&format!("/{}", round % 6), ""));
        }
        for client in &mut clients {
            let answer = client.response("GET");
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert_lives(&switchback, "between the rounds");
        wait_until("no more upstream connections are open than clients", || {
            upstreams.iter().map(Upstream::open).sum::<usize>() <= AT_ONCE
        });
    }
}

#[test]
fn many_probed_endpoints_leave_the_others_their_descriptors_and_are_well() {
    const ENDPOINTS: usize = 300;
    let upstream = Upstream::ok();
    // One application that answers at many addresses of this machine.
    let wild = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let port = wild.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in wild.incoming() {
            let Ok(stream) = stream else { continue };
            thread::spawn(move || answer_probes(stream));
        }
    });
    let endpoints: Vec<_> = (0..ENDPOINTS)
        .map(|number| format!("\"127.0.{}.{}:{port}\"", 1 + number / 200, 1 + number % 200))
        .collect();
    let many = format!(
        "[pool.many]\nendpoints = [{}]\nhealth = {{ http = \"/\", interval = \"200ms\", down_interval = \"200ms\" }}",
        endpoints.join(", ")
    );
    let switchback = Switchback::start_limited(&Setup::new().tables(&many).toml(&[&upstream]), 256);
    let count = |line: &str| {
        let metrics = switchback.metrics();
        metrics
            .lines()
            .filter(|found| found.starts_with("switchback_endpoint_healthy") && found.ends_with(line))
            .count()
    };
    wait_until("all are healthy", || count(" 1") >= ENDPOINTS);
    let results = |result| probes(&switchback, "many", result);
    let before = results("success");
    wait_until("each was probed some times more", || results("success") > before + 5 * ENDPOINTS as u64);
    assert_eq!(count(" 0"), 0, "none has become unhealthy");
    assert_eq!((results("unreachable"), results("timed_out"), results("not_made")), (0, 0, 0));
    // The rest of the shares stands: clients and the admin API's clients at once.
    let mut clients: Vec<_> = (0..40).map(|_| switchback.client()).collect();
    for client in &mut clients {
        assert_eq!(client.exchange(get("/", "")).status, 200);
    }
    assert_lives(&switchback, "with probes and clients");
    let open = switchback.metric("process_open_fds");
    assert!(open < 250.0, "{open} descriptors are open");
}

#[test]
fn a_probe_that_could_not_be_made_says_nothing_about_the_endpoint() {
    let upstream = Upstream::ok();
    let closing = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        exchange.close();
    });
    let probed = format!(
        "[pool.probed]\nendpoints = [\"{}\"]\nhealth = {{ http = \"/\", interval = \"20ms\", unhealthy_after = 1 }}",
        closing.address
    );
    let switchback = Switchback::start(&Setup::new().tables(&probed).toml(&[&upstream]));
    let results = |result| probes(&switchback, "probed", result);
    wait_until("a probe has passed", || results("success") > 0);
    // The connection of this admin client is there already.
    let mut admin = Client::connect(switchback.admin);
    let ask = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(admin.exchange(ask).status, 200);
    let before = limit_descriptors(&switchback, Some(3));
    wait_until("probes can't be made", || {
        let text = admin.exchange(ask).text();
        !text.contains("probes_total{pool=\"probed\",result=\"not_made\"} 0")
    });
    let text = admin.exchange(ask).text();
    limit_descriptors(&switchback, before);
    assert!(text.contains("probes_total{pool=\"probed\",result=\"unreachable\"} 0"), "{text}");
    let successes = results("success");
    wait_until("probes pass again", || results("success") > successes);
    assert_eq!(results("unreachable"), 0);
    assert_eq!(switchback.metric("switchback_endpoint_healthy"), 2.0, "it has stayed healthy");
    wait_until("it was said", || switchback.stderr().contains("probes can't be made"));
}

/// How many probes of a pool have come to a result.
fn probes(switchback: &Switchback, pool: &str, result: &str) -> u64 {
    let metrics = switchback.metrics();
    let series = format!("switchback_pool_probes_total{{pool=\"{pool}\",result=\"{result}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&series)).expect("a pool that is probed");
    count.parse().expect("a count")
}

/// Answers whatever comes on a connection, each with 200.
fn answer_probes(mut stream: TcpStream) {
    let mut seen = [0; 1024];
    while stream.read(&mut seen).is_ok_and(|count| count > 0) {
        if stream.write_all(OK).is_err() {
            return;
        }
    }
}

/// Sets the limit of a running Switchback; answers the one before.
fn limit_descriptors(switchback: &Switchback, to: Option<u64>) -> Option<u64> {
    let pid = Pid::from_raw(switchback.pid().cast_signed()).expect("a process has a number");
    let limit = Rlimit { current: to, maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(Some(pid), Resource::Nofile, limit).expect("a process of our own").current
}

/// Neither the client nor the endpoint is to blame: the client's connection goes on, and the endpoint is no worse.
#[test]
fn a_request_without_a_descriptor_left_is_503_and_its_connection_goes_on() {
    let upstream = Upstream::ok();
    // Nothing is kept, so that each request needs a connection of its own.
    let switchback = Setup::new().pool("max_idle = 0").start(&upstream);
    let mut client = switchback.client();
    assert_eq!(client.exchange(get("/", "")).status, 200);
    let before = limit_descriptors(&switchback, Some(3));
    for _ in 0..10 {
        let answer = client.exchange(get("/", ""));
        assert!(answer.status == 503 && answer.text().contains("descriptor"), "{answer:?}");
        assert!(!answer.closes(), "{answer:?}");
    }
    limit_descriptors(&switchback, before);
    let answer = client.exchange(get("/", ""));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(upstream.requests(), 2);
    assert!(switchback.metric("switchback_endpoint_connect_failures_total") < 0.5);
}

#[test]
fn a_limit_that_serves_nobody_is_an_error_at_the_start() {
    let upstream = Upstream::ok();
    let file = std::env::temp_dir().join(format!("switchback-low-limit-{}.toml", std::process::id()));
    std::fs::write(&file, Setup::new().toml(&[&upstream])).expect("a writable folder");
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 24 && exec \"$0\" run -c \"$1\"", env!("CARGO_BIN_EXE_switchback")])
        .arg(&file)
        .output()
        .expect("a shell");
    std::fs::remove_file(&file).ok();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("the limit of open files (ulimit -n) is 24"), "{said}");
}
