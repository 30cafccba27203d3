//! Who may call the admin API: tokens and roles, tries in vain, hostile calls, and the address for probes; over real
//! sockets, with the real binary.

#[path = "../admin_support/mod.rs"]
mod admin_support;
#[path = "../support/mod.rs"]
mod support;

mod attack;
mod author;
mod command;
mod hostile;
mod live;
mod probes;
mod roles;
mod tries;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use support::{PATIENCE, Switchback};

/// An instance that asks for tokens, and its file of them.
struct Guarded {
    switchback: Switchback,
    folder: Folder,
}

/// A folder of the test's own, removed at its end.
struct Folder(PathBuf);

/// An answer. The body of one that goes on and on is what came with the head.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// A call as a good client makes it, but for what a test changes.
struct Ask<'a> {
    from: Ipv4Addr,
    token: Option<&'a str>,
    fields: &'a str,
    body: &'a str,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self { from: Ipv4Addr::LOCALHOST, token: None, fields: "", body: "" }
    }
}

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("switchback-access-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        Self(folder)
    }

    fn tokens(&self) -> PathBuf {
        self.0.join("tokens.toml")
    }

    /// Runs `switchback token`.
    fn token(&self, arguments: &[&str]) -> Output {
        let file = self.tokens();
        let output = switchback().arg("token").args(arguments).arg("--file").arg(file).output();
        output.expect("the binary starts")
    }

    /// Makes a token by the command line.
    fn make(&self, role: &str, name: &str, more: &[&str]) -> String {
        let output = self.token(&[&["new", "--role", role, "--name", name], more].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("a token is ASCII").trim().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The binary with nothing of this environment that it reads.
fn switchback() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchback"));
    command.env_remove("SWITCHBACK_ADMIN").env_remove("SWITCHBACK_TOKEN");
    command
}

impl Guarded {
    fn start(folder: Folder) -> Self {
        Self::before(([127, 0, 0, 1], 9).into(), folder)
    }

    /// Starts one that forwards to an upstream.
    fn before(blue: SocketAddr, folder: Folder) -> Self {
        let text = format!(
            "workers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\ntokens = {:?}\n[health]\nlisten = \"127.0.0.1:0\"\n\
             [[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\
             [pool.blue]\nendpoints = [\"{blue}\"]\n[pool.green]\nendpoints = [\"127.0.0.1:19\"]\n\
             [split.main]\nweights = {{ blue = 90, green = 10 }}\n\
             [[route]]\nname = \"all\"\nsplit = \"main\"\n",
            folder.tokens()
        );
        Self { switchback: Switchback::start(&text), folder }
    }

    fn ask(&self, method: &str, path: &str, ask: Ask<'_>) -> Answer {
        self.try_ask(method, path, ask).unwrap_or_else(|said| panic!("{method} {path}: {said}"))
    }

    /// The same, where the connection may be closed before there is a whole answer; what came is said.
    fn try_ask(&self, method: &str, path: &str, ask: Ask<'_>) -> Result<Answer, String> {
        let address = self.switchback.admin;
        let Ask { from, token, fields, body } = ask;
        let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let host = if fields.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
        let kind = if fields.contains("Content-Type:") { "" } else { "Content-Type: application/json\r\n" };
        let length = if fields.contains("Content-Length:") || fields.contains("chunked") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{kind}{length}{token}{fields}\r\n{body}"
        );
        let mut stream = connect(from, address);
        // The instance may answer and close before it has read everything.
        let _ = stream.write_all(request.as_bytes());
        Answer::try_read(stream)
    }

    fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.ask("GET", path, Ask { token, ..Ask::default() })
    }
}

/// Connects from an address of this machine, of which there are many.
fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("a loopback address");
    socket.connect(&to.into()).expect("it accepts");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

impl Answer {
    /// Reads to the end, or, of an answer that goes on and on, its head.
    fn read(stream: TcpStream) -> Self {
        Self::try_read(stream).unwrap_or_else(|said| panic!("{said}"))
    }

    fn try_read(mut stream: TcpStream) -> Result<Self, String> {
        let mut bytes = Vec::new();
        let mut part = [0; 16_384];
        loop {
            match stream.read(&mut part) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => return Err(format!("{error} after {}", bytes.escape_ascii())),
            }
            let text = String::from_utf8_lossy(&bytes);
            if text.split_once("\r\n\r\n").is_some_and(|(head, _)| head.contains("text/event-stream")) {
                break;
            }
        }
        let text = String::from_utf8(bytes).expect("answers are UTF-8");
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return Err(format!("no whole head: {text:?}"));
        };
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        Ok(Self { status, head: head.to_owned(), body: body.to_owned() })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a field, given in lower case.
    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// The last word of the problem's type.
    fn problem(&self) -> String {
        let kind = self.json()["type"].as_str().unwrap_or_default().to_owned();
        kind.rsplit(':').next().unwrap_or_default().to_owned()
    }
}

/// Looks again and again until something holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    support::wait_for(what, || if holds() { Some(()) } else { None });
}

const SECOND: Duration = Duration::from_secs(1);
