//! `switchback events`: no revision is missed and none comes twice over breaks, and how it ends.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdout, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use serde_json::{Value, json};

use super::{
    admin_support::Instance,
    run::{code, command, complained, said},
};

/// A running `switchback events`, killed when it is dropped.
struct Events {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Events {
    fn start(admin: &str, arguments: &[&str]) -> Self {
        let mut child = command()
            .args(["events", "--admin", admin])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it writes UTF-8");
        assert!(line.ends_with('\n'), "it ended: {line:?}");
        line
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("an object a line")
    }

    /// Tells it to stop; answers its exit code and what it complained of.
    fn interrupt(mut self) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("our own child");
        let status = self.child.wait().expect("our own child");
        (status.code(), self.complaints())
    }

    fn complaints(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut text).expect("it writes UTF-8");
        text
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn weigh(instance: &Instance, blue: u32) {
    let body = format!("{{\"blue\": {blue}, \"green\": 1000}}");
    assert_eq!(instance.call("PUT", "/v1/splits/shop/weights", Some(&body)).status, 200);
}

#[test]
fn each_event_is_a_line_and_an_interruption_ends_it_well() {
    let instance = Instance::start();
    weigh(&instance, 1);
    let mut events = Events::start(&instance.url(), &["--since", "0"]);
    let line = events.line();
    assert!(
        line.contains(" revision 1 by 127.0.0.1 (api), weights: split shop: blue 95 -> 1, green 5 -> 1000"),
        "{line}"
    );
    let drained = instance.call(
        "POST",
        "/v1/pools/blue/endpoints/127.0.0.1:9001/drain",
        Some("{\"reason\": \"kernel\"}"),
    );
    assert_eq!(drained.status, 200);
    let mut lines = [events.line(), events.line(), events.line()];
    lines.sort_by_key(|line| line.split(' ').nth(1).map(str::to_owned));
    assert!(lines[0].contains("drained 127.0.0.1:9001 of pool blue"), "{lines:?}");
    assert!(lines[1].contains("endpoint 127.0.0.1:9001 of pool blue: available -> draining"), "{lines:?}");
    assert!(lines[2].contains("revision 2") && lines[2].ends_with(" -- kernel\n"), "{lines:?}");
    assert_eq!(events.interrupt(), (Some(0), String::new()));
}

#[test]
fn as_json_each_event_is_an_object_a_line() {
    let instance = Instance::start();
    (1..=3).for_each(|weight| weigh(&instance, weight));
    let mut events = Events::start(&instance.url(), &["--since", "1", "--json"]);
    for revision in 2..=3 {
        let event = events.json();
        assert_eq!((&event["event"], &event["id"]), (&json!("revision"), &json!(revision)));
        assert_eq!(
            (&event["data"]["revision"], &event["data"]["kind"]),
            (&json!(revision), &json!("weights"))
        );
    }
    let mut other = Events::start(&instance.url(), &["--since", "77", "--json"]);
    let gap = other.json();
    assert_eq!((&gap["event"], &gap["data"]), (&json!("gap"), &json!({"after": 77, "from": 3})));
}

/// What stands between the command and an instance, and can cut their connections.
struct Between {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Between {
    fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let open = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&open);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(to).expect("the instance accepts");
                let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
                kept.lock().expect("no panic holds it").extend([clone(&client), clone(&server)]);
                let (mut from, mut into) = (clone(&client), clone(&server));
                thread::spawn(move || std::io::copy(&mut from, &mut into));
                let (mut from, mut into) = (server, client);
                thread::spawn(move || std::io::copy(&mut from, &mut into));
            }
        });
        Self { address, open }
    }

    fn cut(&self) {
        for stream in self.open.lock().expect("no panic holds it").drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

#[test]
fn a_stream_that_breaks_goes_on_where_it_was() {
    let instance = Instance::start();
    let between = Between::start(instance.address());
    let mut events = Events::start(&format!("http://{}", between.address), &["--since", "0", "--json"]);
    for round in 0..3 {
        weigh(&instance, 2 * round + 1);
        assert_eq!(events.json()["id"], json!(2 * round + 1));
        between.cut();
        // Made while nobody listens.
        weigh(&instance, 2 * round + 2);
        assert_eq!(events.json()["id"], json!(2 * round + 2));
    }
    let (code, complaints) = events.interrupt();
    assert_eq!(code, Some(0));
    assert_eq!(complaints.matches("the connection is lost").count(), 3, "{complaints}");
    assert_eq!(complaints.matches("connected again").count(), 3, "{complaints}");
}

/// Answers calls by a script: each connection gets a text and is closed. Answers the heads that came.
fn scripted(texts: Vec<String>) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let (sender, heads) = mpsc::channel();
    thread::spawn(move || {
        for text in texts {
            let (mut stream, _) = listener.accept().expect("the client comes");
            let mut head = String::new();
            let mut lines = BufReader::new(stream.try_clone().expect("a descriptor"));
            while !head.ends_with("\r\n\r\n") {
                lines.read_line(&mut head).expect("a head");
            }
            sender.send(head.to_ascii_lowercase()).ok();
            stream.write_all(text.as_bytes()).expect("it reads");
        }
    });
    (url, heads)
}

fn streamed(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 100\n{body}"
    )
}

#[test]
fn it_comes_back_after_what_was_whole_and_ends_when_it_is_not_let_in_any_more() {
    let refused = "{\"detail\": \"the token was revoked\"}";
    let (url, heads) = scripted(vec![
        streamed(
            "id: 4\n\nid: 5\nevent: revision\ndata: {\"revision\":5}\n\nid: 6\nevent: revision\ndata: {\"half",
        ),
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
        streamed("id: 6\r\nevent: revision\r\ndata: {\"revision\":6}\r\n\r\n"),
        format!("HTTP/1.1 401 Unauthorized\r\nContent-Length: {}\r\n\r\n{refused}", refused.len()),
    ]);
    let output = command().args(["events", "--json", "--admin", &url]).output().expect("the binary starts");
    let ids: Vec<_> = said(&output)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].clone())
        .collect();
    assert_eq!((code(&output), ids), (1, vec![json!(5), json!(6)]), "{output:?}");
    assert!(complained(&output).contains("the token was revoked"), "{output:?}");
    let last: Vec<_> = heads
        .iter()
        .map(|head| {
            head.lines()
                .find_map(|line| line.strip_prefix("last-event-id: ").map(str::to_owned))
                .unwrap_or_default()
        })
        .collect();
    assert_eq!(last, ["", "5", "5", "6"]);
}

#[test]
fn a_reader_that_goes_away_ends_it_at_once_and_quietly() {
    let instance = Instance::start();
    weigh(&instance, 1);
    let mut events = Events::start(&instance.url(), &["--since", "0"]);
    events.line();
    let Events { child, lines } = &mut events;
    // As `| head -1` does. Nothing is written any more that could tell.
    let unread = std::mem::replace(lines, BufReader::new(nothing()));
    drop(unread);
    assert_eq!(child.wait().expect("our own child").code(), Some(0));
    assert_eq!(events.complaints(), "");
}

/// The end of a child that has printed nothing.
fn nothing() -> ChildStdout {
    let mut child = command().arg("--version").stdout(Stdio::piped()).spawn().expect("the binary starts");
    let stdout = child.stdout.take().expect("piped");
    child.wait().expect("our own child");
    stdout
}
