//! What goes by the wall clock, because it outlives the process: pins and tokens.

use std::process::Command;

use crate::{
    SHIFTS, WallClock,
    support::{Client, Setup, Switchback, Upstream, config::blue_green, upstream::response},
};

fn named(name: &'static str) -> Upstream {
    Upstream::answering(response(200, name.as_bytes()))
}

/// A session: its cookie, and how often it was given one.
#[derive(Default)]
struct Session {
    cookie: Option<String>,
    issued: u32,
}

impl Session {
    fn visit(&mut self, client: &mut Client) -> String {
        let cookie = self.cookie.iter().map(|cookie| format!("Cookie: {cookie}\r\n")).collect::<String>();
        let answer = client.exchange(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{cookie}\r\n")).whole();
        assert_eq!(answer.status, 200, "{answer:?}");
        if let Some(set) = answer.head.one("set-cookie") {
            self.cookie = set.split(';').next().map(str::to_owned);
            self.issued += 1;
        }
        answer.text()
    }

    /// Asserts that it stays where it is, with the cookie that it has.
    fn assert_stays(&mut self, client: &mut Client, context: &str) {
        let (pool, issued) = (self.visit(client), self.issued);
        for _ in 0..20 {
            assert_eq!(self.visit(client), pool, "{context}");
        }
        assert_eq!(self.issued, issued, "{context}: it was given another pin");
    }
}

#[test]
fn a_session_is_pinned_anew_at_most_once_and_then_stays() {
    for shift in SHIFTS {
        let (blue, green) = (named("blue"), named("green"));
        let clock = WallClock::new();
        let sticky = "sticky = { cookie = \"sb\", ttl = \"1h\" }";
        let switchback = clock.start(&blue_green(1, (50, 50), sticky, &blue, &green));
        let mut client = switchback.client();
        let mut session = Session::default();
        session.visit(&mut client);
        session.assert_stays(&mut client, "before");
        clock.set(shift, &switchback);
        session.visit(&mut client);
        assert_eq!(session.issued, 2, "{shift}: its pin is over, or is dated a day ahead");
        session.assert_stays(&mut client, shift);
        clock.set("+0", &switchback);
        session.visit(&mut client);
        session.assert_stays(&mut client, "the clock is right again");
    }
}

/// Released pins are those of before the release, also when the clock is set back behind it.
#[test]
fn after_a_release_sessions_are_pinned_by_a_clock_that_was_set_back() {
    let (blue, green) = (named("blue"), named("green"));
    let clock = WallClock::new();
    let switchback = clock.start(&blue_green(1, (0, 100), "sticky = { cookie = \"sb\" }", &blue, &green));
    let mut client = switchback.client();
    let mut session = Session::default();
    assert_eq!(session.visit(&mut client), "green");
    switchback.json("POST", "/v1/splits/main/switch", r#"{"to": "blue", "pins": "release"}"#);
    assert_eq!(session.visit(&mut client), "blue", "its pin was released");
    clock.set("-86400", &switchback);
    switchback.weigh(50, 50);
    let mut others: Vec<_> = (0..10).map(|_| Session::default()).collect();
    for other in &mut others {
        other.visit(&mut client);
        other.assert_stays(&mut client, "a session of after the release");
    }
    assert!(others.iter().all(|other| other.issued == 1));
}

#[test]
fn a_token_counts_by_the_wall_clock() {
    let clock = WallClock::new();
    let tokens = clock.file("tokens.toml");
    let mut new = Command::new(env!("CARGO_BIN_EXE_switchback"));
    new.args(["token", "new", "--role", "viewer", "--expires", "1h", "--file"]).arg(&tokens);
    let output = new.output().expect("the binary that cargo built");
    assert!(output.status.success(), "{output:?}");
    let token = String::from_utf8(output.stdout).expect("a token is text").trim().to_owned();
    let config = Setup::new().toml(&[&Upstream::ok()]);
    let listen = "listen = \"127.0.0.1:0\"\n";
    let config = config.replacen(listen, &format!("{listen}tokens = {tokens:?}\n"), 1);
    let switchback = clock.start(&config);
    assert_eq!(status(&switchback, &token), 200);
    clock.set("+86400", &switchback);
    assert_eq!(status(&switchback, &token), 401, "it has expired");
    clock.set("-86400", &switchback);
    assert_eq!(status(&switchback, &token), 200, "as docs/access.md says: revoke what must not count again");
}

fn status(switchback: &Switchback, token: &str) -> u16 {
    let mut client = Client::connect(switchback.admin);
    let fields =
        format!("Host: {}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n", switchback.admin);
    client.exchange(format!("GET /v1/splits HTTP/1.1\r\n{fields}\r\n")).status
}
