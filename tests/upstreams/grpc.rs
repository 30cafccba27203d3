//! gRPC: calls of all kinds between a client and servers of grpcio, deadlines, statuses, and how failures are told.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use http::Request;
use serde_json::{Value, json};

use super::{
    http2::{frame, raw},
    peer::{self, Peer},
    server::Server,
    support::{Setup, Switchback, Upstream, config::split_over, upstream::response, wait_until},
};

/// Python with grpcio: that of `tests/install tests`, or else that of the path.
fn python() -> PathBuf {
    let shared = env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    let own = shared.unwrap_or_default().join("switchback-tests/python/bin/python3");
    let program = if own.exists() { own } else { PathBuf::from("python3") };
    let output = Command::new(&program).args(["-c", "import grpc"]).output().expect("python3");
    assert!(output.status.success(), "grpcio is not installed: tests/install tests installs it");
    program
}

/// A script of this folder that runs until its input ends.
struct Script {
    child: Child,
    input: Option<ChildStdin>,
    first: String,
    output: BufReader<std::process::ChildStdout>,
}

impl Script {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upstreams").join(name);
        let mut child = Command::new(python())
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut first = String::new();
        output.read_line(&mut first).expect("a line");
        Self { child, input, first: first.trim().to_owned(), output }
    }

    /// A server; answers its address, too.
    fn server(arguments: &[&str]) -> (Self, SocketAddr) {
        let script = Self::start("grpc_server.py", arguments);
        let port: u16 = script.first.parse().expect("it prints its port");
        (script, ([127, 0, 0, 1], port).into())
    }

    /// Ends its input, and reads what it prints then.
    fn end(mut self) -> Value {
        drop(self.input.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("text");
        serde_json::from_str(&rest).expect("it prints JSON")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Makes one call with grpcio.
fn call(address: SocketAddr, message: &str) -> Value {
    let script = Script::start("grpc_client.py", &["call", &address.to_string(), message]);
    serde_json::from_str(&script.first).expect("it prints JSON")
}

fn file(endpoints: &[SocketAddr], route: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    let pool = "protocol = \"h2\"\neject = { enabled = false }";
    let toml = Setup::new().pool(pool).route(route).toml(&[]);
    toml.replace("endpoints = []", &format!("endpoints = [{}]", endpoints.join(", ")))
}

#[test]
fn calls_of_all_kinds_pass_while_weights_change_and_an_endpoint_is_drained() {
    let ((blue, blue_at), (green, green_at)) = (Script::server(&["blue"]), Script::server(&["green"]));
    let keys = "protocol = \"h2\"\nhealth = { grpc = \"\", interval = \"100ms\" }\n";
    let text = split_over(2, &[("blue", 50, blue_at), ("green", 50, green_at)], "")
        .replace("[pool.blue]\n", &format!("[pool.blue]\n{keys}"))
        .replace("[pool.green]\n", &format!("[pool.green]\n{keys}"));
    assert_eq!(text.matches("protocol = \"h2\"").count(), 2, "{text}");
    let switchback = Switchback::start(&text);
    let client = Script::start("grpc_client.py", &["loop", &switchback.address.to_string()]);
    assert_eq!(client.first, "begun");
    let calls = |switchback: &Switchback| switchback.metric("switchback_route_grpc_calls_total");
    wait_until("calls are made", || switchback.metrics().contains("switchback_route_grpc_calls_total{"));
    for round in 0..40 {
        let before = calls(&switchback);
        switchback.weigh(if round % 2 == 0 { 100 } else { 0 }, if round % 2 == 0 { 0 } else { 100 });
        wait_until("calls go on", || calls(&switchback) > before + 4.0);
    }
    switchback.weigh(50, 50);
    let path = format!("/v1/pools/blue/endpoints/{blue_at}/drain?wait=drained");
    assert_eq!(switchback.admin("POST", &path, "{\"deadline\": \"20s\"}").status, 200);
    let before = calls(&switchback);
    wait_until("calls go on", || calls(&switchback) > before + 4.0);
    let told = client.end();
    assert_eq!((&told["wrong"], &told["names"]), (&json!([]), &json!(["blue", "green"])), "{told}");
    assert!(told["rounds"].as_u64() > Some(20), "{told}");
    let metrics = switchback.metrics();
    let other = |line: &&str| {
        line.starts_with("switchback_route_grpc_calls_total{") && !line.contains("status=\"ok\"")
    };
    assert_eq!(metrics.lines().find(other), None, "all of them are ok");
    drop((blue, green));
}

#[test]
fn statuses_and_trailers_pass_and_are_counted_and_logged() {
    let (_server, address) = Script::server(&["only"]);
    let log = env::temp_dir().join(format!("switchback-grpc-{}.log", std::process::id()));
    let text = file(&[address], "");
    let switchback = Switchback::start(&format!("{text}\n[access_log]\npath = {log:?}\n"));
    let told = call(switchback.address, "hello");
    assert_eq!((&told["status"], &told["text"]), (&json!("OK"), &json!("only:hello")), "{told}");
    assert_eq!(told["trailers"]["by"], "only", "{told}");
    let told = call(switchback.address, "fail");
    assert_eq!((&told["status"], &told["text"]), (&json!("DATA_LOSS"), &json!("50 % of it: ä")), "{told}");
    let metrics = switchback.metrics();
    for status in ["ok", "data_loss"] {
        for scope in ["route", "pool", "endpoint"] {
            let is_it = |line: &&str| {
                line.starts_with(&format!("switchback_{scope}_grpc_calls_total{{"))
                    && line.contains(&format!("status=\"{status}\"}} 1"))
            };
            assert!(metrics.lines().any(|line| is_it(&line)), "{scope} {status}: {metrics}");
        }
    }
    wait_until("both are logged", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains("\"grpc_status\":\"ok\"") && text.contains("\"grpc_status\":\"data_loss\"")
    });
    std::fs::remove_file(log).expect("our own file");
}

#[test]
fn what_fails_here_is_told_in_the_form_of_grpc() {
    let nobody = super::support::Reserved::any();
    let text = file(&[nobody.address], "").replace("path = \"/\"", "path = \"/tests.Echo\"");
    let switchback = Switchback::start(&text);
    let told = call(switchback.address, "hello");
    assert_eq!(told["status"], "UNAVAILABLE", "{told}");
    assert!(told["text"].as_str().is_some_and(|text| text.contains("can't be connected to")), "{told}");
    peer::run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let request =
            Request::post("http://a/other.Service/Method").header("content-type", "application/grpc+proto");
        let answer = peer.exchange(request.body(()).expect("a request"), Some(Vec::new()), None).await;
        assert_eq!((answer.status, answer.fields["grpc-status"].as_bytes()), (200, &b"12"[..]));
        assert_eq!(answer.fields["content-type"], "application/grpc");
        assert!(answer.body.is_empty() && answer.trailers.is_none(), "nothing but a status: {answer:?}");
        // Who is no client of gRPC is answered as ever.
        let answer = peer.get("/other.Service/Method").await;
        assert_eq!((answer.status, answer.fields.contains_key("grpc-status")), (404, false));
    });
    assert!(switchback.metrics().contains("status=\"unavailable\"} 1"));
}

#[test]
fn a_call_has_the_time_that_its_client_gives_it_and_no_more_than_its_route() {
    let server = Server::start(100);
    server.hold(true);
    for (route, said) in [
        ("timeout = \"30s\"", Some("150m")),
        ("timeout = \"150ms\"", Some("1H")),
        ("timeout = \"150ms\"", None),
    ] {
        let switchback = Switchback::start(&file(&[server.address], route));
        peer::run(async {
            let mut peer = Peer::connect(switchback.address).await;
            let mut request = Request::post("http://a/wait").header("content-type", "application/grpc");
            if let Some(said) = said {
                request = request.header("grpc-timeout", said);
            }
            let answer = peer.exchange(request.body(()).expect("a request"), Some(b"x".to_vec()), None).await;
            assert_eq!(
                (answer.status, answer.fields["grpc-status"].as_bytes()),
                (200, &b"4"[..]),
                "{said:?}"
            );
        });
        wait_until("its stream is reset", || server.count(|seen| &seen.waiting) == 0);
    }
}

#[test]
fn a_call_is_sent_again_after_the_statuses_that_its_route_names() {
    let (_busy, busy_at) = Script::server(&["busy", "UNAVAILABLE"]);
    let (_good, good_at) = Script::server(&["good"]);
    for (route, all_good) in [("retries = { grpc = [\"unavailable\"] }", true), ("", false)] {
        let text = file(&[busy_at, good_at], route).replace("eject =", "balance = \"round_robin\"\neject =");
        let switchback = Switchback::start(&text);
        let told: Vec<_> = (0..2).map(|_| call(switchback.address, "hello")).collect();
        let good = told.iter().filter(|told| told["text"] == "good:hello").count();
        assert_eq!(good == 2, all_good, "{told:?}");
        // Once or twice: what is sent again goes where the next call would have gone.
        let retried =
            switchback.metric("switchback_route_retries_total{route=\"all\",reason=\"grpc_status\"}");
        assert_eq!(retried > 0.0, all_good);
    }
}

/// A request that a client of gRPC would make.
fn post(path: &str) -> Request<()> {
    let request = Request::post(format!("http://a{path}")).header("content-type", "application/grpc");
    request.body(()).expect("a request")
}

#[test]
fn a_call_that_was_answered_by_a_message_is_not_sent_again() {
    // The status 200 in HPACK, and a field that is not indexed.
    let trailers = [&[0, 11][..], b"grpc-status", &[2], b"14"].concat();
    let answer = [frame(1, 4, 1, &[0x88]), frame(0, 0, 1, b"message"), frame(1, 5, 1, &trailers)].concat();
    let (busy, good) = (raw(vec![(1, answer)]), Server::start(100));
    let text = file(&[busy, good.address], "retries = { grpc = [\"unavailable\"] }");
    let switchback = Switchback::start(&text.replace("eject =", "balance = \"round_robin\"\neject ="));
    let mut answers = peer::run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.push(peer.exchange(post("/call"), Some(b"x".to_vec()), None).await.body);
        }
        answers
    });
    answers.sort();
    assert_eq!((answers, good.asked().len()), (vec![b"message".to_vec(), b"x".to_vec()], 1));
}

#[test]
fn trailers_follow_a_response_whose_length_is_said() {
    let server = Server::start(100);
    let switchback = Switchback::start(&file(&[server.address], ""));
    let trailers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("0"),
    )]);
    peer::run(async {
        let mut peer = Peer::connect(switchback.address).await;
        let answer = peer.exchange(post("/call"), Some(b"x".to_vec()), Some(trailers)).await;
        assert_eq!(answer.body, b"x");
        assert_eq!(answer.trailers.expect("they were sent")["grpc-status"], "0");
    });
}

#[test]
fn who_speaks_no_grpc_is_judged_by_what_http_says() {
    let servers = [415, 400].map(|status| Upstream::answering(response(status, b"no")));
    let endpoints: Vec<_> = servers.iter().collect();
    let switchback = Switchback::start(&Setup::new().toml(&endpoints));
    peer::run(async {
        let mut peer = Peer::connect(switchback.address).await;
        for _ in 0..20 {
            let answer = peer.exchange(post("/"), Some(b"x".to_vec()), None).await;
            assert!([415, 400].contains(&answer.status), "{answer:?}");
        }
    });
    assert_eq!(switchback.metric("switchback_endpoint_ejected"), 0.0);
}
