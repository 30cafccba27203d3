//! Listeners that come, go and move while requests are served.

use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::{
    load::under_load,
    support::{Client, Switchback, Upstream, upstream::response, wait_until},
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// Any port. A name keeps the port that it has got.
const ANY: &str = "127.0.0.1:0";

/// Where a listener is bound now.
fn bound(switchback: &Switchback, name: &str) -> Option<SocketAddr> {
    let status = switchback.json("GET", "/v1/status", "");
    let listeners = status["listeners"].as_array().expect("a list").iter();
    let mut of_name = listeners.filter(|listener| listener["name"] == name);
    Some(of_name.next()?["address"].as_str()?.parse().expect("an address"))
}

fn file(upstream: &Upstream, listeners: &[(&str, &str, &str)]) -> String {
    let mut text =
        "workers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n[shutdown]\ndeadline = \"20s\"\n".to_owned();
    for (name, address, more) in listeners {
        text += &format!("[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\n{more}\n");
    }
    text + &format!(
        "[pool.app]\nendpoints = [\"{}\"]\n[[route]]\nname = \"all\"\npool = \"app\"\n",
        upstream.address
    )
}

fn load(switchback: &Switchback, text: &str) {
    switchback.write(text);
    let answer = switchback.admin("POST", "/v1/config/reload", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn listeners_come_move_and_go_under_load_and_nobody_else_notices() {
    let upstream = Upstream::start(|exchange| exchange.send(&response(200, b"ok")));
    let web = ("web", ANY, "");
    let switchback = Switchback::start(&file(&upstream, &[web]));
    under_load(&switchback, || {
        for _ in 0..10 {
            load(&switchback, &file(&upstream, &[web, ("one", ANY, "")]));
            let one = bound(&switchback, "one").expect("it is bound");
            let mut client = Client::connect(one);
            assert_eq!(client.exchange(GET).status, 200);
            load(&switchback, &file(&upstream, &[web, ("other", ANY, "")]));
            let other = bound(&switchback, "other").expect("it is bound");
            assert_eq!(Client::connect(other).exchange(GET).status, 200);
            wait_until("the first address is closed", || TcpStream::connect(one).is_err());
            let last = client.exchange(GET);
            assert_eq!(last.status, 200, "a connection of the closed one still has its request");
            assert!(last.closes(), "and is asked to go");
            load(&switchback, &file(&upstream, &[web]));
            wait_until("the other address is closed", || TcpStream::connect(other).is_err());
        }
    });
    assert_eq!(bound(&switchback, "web"), Some(switchback.address));
}

#[test]
fn what_is_left_on_a_closed_listener_is_cut_at_the_deadline() {
    let upstream = Upstream::start(|exchange| exchange.tunnel_echo("websocket"));
    let web = ("web", ANY, "");
    let text = |listeners: &[_]| file(&upstream, listeners).replace("\"20s\"", "\"500ms\"");
    let switchback = Switchback::start(&text(&[web, ("more", ANY, "")]));
    let more = switchback.listener("more");
    let open = |address| {
        let mut client = Client::connect(address);
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(client.any_response("GET").status, 101);
        client
    };
    let (mut kept, mut cut, mut idle) = (open(switchback.address), open(more), Client::connect(more));
    load(&switchback, &text(&[web]));
    cut.expect_end("a tunnel of the closed listener");
    idle.expect_end("an idle connection of it");
    kept.send("ping");
    assert_eq!(kept.wire.exactly(4).expect("a tunnel of the other listener"), b"ping");
}

#[test]
fn an_address_that_is_taken_refuses_the_whole_file() {
    let upstream = Upstream::start(|exchange| exchange.send(&response(200, b"ok")));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken_at = taken.local_addr().expect("it is bound").to_string();
    let web = ("web", ANY, "");
    let switchback = Switchback::start(&file(&upstream, &[web]));
    let next = file(&upstream, &[web, ("free", ANY, ""), ("taken", &taken_at, "")]) + "timeout = \"5s\"\n";
    switchback.write(&next);
    let answer = switchback.admin("POST", "/v1/config/reload", "");
    assert_eq!(answer.status, 422, "{}", answer.text());
    let problem: serde_json::Value = serde_json::from_str(&answer.text()).expect("a problem");
    assert_eq!(problem["errors"][0]["pointer"], "/listener/2/listen", "{problem}");
    assert_eq!(bound(&switchback, "free"), None, "nothing of it is open");
    assert_ne!(switchback.json("GET", "/v1/config", "")["text"], next);
    drop(taken);
    load(&switchback, &next);
    for name in ["web", "free", "taken"] {
        let address = bound(&switchback, name).expect("it is bound");
        assert_eq!(Client::connect(address).exchange(GET).status, 200, "{name}");
    }
}

#[test]
fn other_settings_of_a_listener_hold_for_connections_to_come() {
    let upstream = Upstream::start(|exchange| exchange.send(&response(200, b"ok")));
    let with = |more: &str| file(&upstream, &[("web", ANY, more)]);
    let switchback = Switchback::start(&with(""));
    let mut before = switchback.client();
    assert_eq!(before.exchange(GET).status, 200);
    load(&switchback, &with("keep_alive_timeout = \"100ms\""));
    let mut after = switchback.client();
    assert_eq!(after.exchange(GET).status, 200);
    after.expect_end("a connection by the new settings");
    assert_eq!(before.exchange(GET).status, 200, "one by the old settings goes on");
}

#[test]
fn an_access_log_that_nobody_reads_is_a_fault_of_the_file_and_holds_nothing_up() {
    let upstream = Upstream::start(|exchange| exchange.send(&response(200, b"ok")));
    let good = file(&upstream, &[("web", ANY, "")]);
    let mut switchback = Switchback::start(&good);
    let pipe = switchback.file().with_file_name("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is installed");
    assert!(made.success());
    switchback.write(&format!("{good}[access_log]\npath = {pipe:?}\n"));
    let answer = switchback.admin("POST", "/v1/config/reload", "");
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("a pipe that nobody reads"), "{}", answer.text());
    load(&switchback, &file(&upstream, &[("web", ANY, "keep_alive_timeout = \"9s\"")]));
    assert_eq!(switchback.client().exchange(GET).status, 200);
    switchback.signal("TERM");
    assert!(switchback.wait().success());
}

#[test]
fn the_access_log_comes_moves_and_goes() {
    let upstream = Upstream::start(|exchange| exchange.send(&response(200, b"ok")));
    let web = ("web", ANY, "");
    let switchback = Switchback::start(&file(&upstream, &[web]));
    let log = |name: &str| switchback.file().with_file_name(name);
    let with = |name: &str| {
        file(&upstream, &[web]) + &format!("[access_log]\npath = {:?}\nformat = \"{{path}}\"\n", log(name))
    };
    let lines = |name: &str| std::fs::read_to_string(log(name)).unwrap_or_default();
    let mut client = switchback.client();
    for name in ["one.log", "two.log"] {
        load(&switchback, &with(name));
        client.exchange(format!("GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n"));
        wait_until("its line is written", || lines(name) == format!("/{name}\n"));
    }
    load(&switchback, &file(&upstream, &[web]));
    assert_eq!(client.exchange(GET).status, 200);
    assert_eq!((lines("one.log"), lines("two.log")), ("/one.log\n".into(), "/two.log\n".into()));
}
