//! The application behind the proxies in `benches/compare`: two versions or more in one event loop, each on an address
//! of its own, that answer from memory.
//!
//! It shares a core with the load generator and must never be what the proxy waits for: a read and a write for each
//! request, nothing else enters the kernel but `epoll_wait`, which many connections share. It knows what a benchmark
//! sends and no more: GET without a body, the next request after the last answer, connections that are kept; all else
//! is refused.

use std::{
    collections::HashMap,
    env,
    fs::File,
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    process::ExitCode,
    rc::Rc,
    time::SystemTime,
};

use mio::{
    Events, Interest, Poll, Registry, Token,
    event::Event,
    net::{TcpListener, TcpStream},
};

const USAGE: &str = "\
The upstream of benches/compare, which starts it; no benchmark by itself.

usage: upstream VERSION=ADDRESS...      such as  upstream blue=127.0.0.1:9001 green=127.0.0.1:9002

Under every prefix: /1k and /100k, bodies of that many KB; /check, whose fields say what the version saw of the request.";

const SMALL: usize = 1024;
const LARGE: usize = 100 * 1024;
/// More than any head that a proxy makes of a benchmark's request.
const MAX_HEAD: usize = 16 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo bench` runs every benchmark, with `--bench` and whatever filter it was given.
    if arguments.is_empty() || arguments.iter().any(|argument| argument == "--bench") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Some(versions) = arguments.iter().map(|argument| parse(argument)).collect::<Option<Vec<_>>>() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match serve(versions) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("upstream: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A version's name and where it is to listen.
fn parse(argument: &str) -> Option<(String, SocketAddr)> {
    let (version, address) = argument.split_once('=')?;
    Some((version.to_owned(), address.parse().ok()?))
}

/// Answers until the process is ended; an error that is not one connection's ends it too.
fn serve(versions: Vec<(String, SocketAddr)>) -> io::Result<std::convert::Infallible> {
    let mut poll = Poll::new()?;
    let mut listeners = Vec::new();
    for (number, (version, address)) in versions.into_iter().enumerate() {
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, Token(number), Interest::READABLE)?;
        listeners.push((listener, Rc::from(version)));
    }
    let answers = Answers::new(SystemTime::now())?;
    let mut connections = HashMap::new();
    let mut last_token = listeners.len();
    let mut scratch = vec![0; 64 * 1024];
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            let token = event.token();
            if let Some((listener, version)) = listeners.get(token.0) {
                accept(listener, version, poll.registry(), &mut connections, &mut last_token)?;
            } else if let Some(connection) = connections.get_mut(&token)
                && connection.ready(event, &answers, &mut scratch).is_err()
            {
                connections.remove(&token);
            }
        }
    }
}

/// Takes in all that wait. A token is never used again, so that an old event finds nobody.
fn accept(
    listener: &TcpListener,
    version: &Rc<str>,
    registry: &Registry,
    connections: &mut HashMap<Token, Connection>,
    last_token: &mut usize,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        *last_token += 1;
        // Once and for both: mio is told of changes only, and so being writable costs nothing while nothing is unsent.
        registry.register(&mut stream, Token(*last_token), Interest::READABLE | Interest::WRITABLE)?;
        let connection = Connection {
            stream,
            version: Rc::clone(version),
            id: *last_token,
            requests: 0,
            head: Vec::new(),
            unsent: None,
        };
        connections.insert(Token(*last_token), connection);
    }
}

/// A proxy's connection.
struct Connection {
    stream: TcpStream,
    version: Rc<str>,
    id: usize,
    requests: u64,
    /// A head's beginning, where the rest has not come yet.
    head: Vec<u8>,
    unsent: Option<Unsent>,
}

/// An answer of which the socket has not taken all yet.
struct Unsent {
    answer: Answer,
    sent: usize,
}

/// Why a connection is over: its end, an error of the socket, or an answer that was the last one.
struct Over;

impl Connection {
    /// Goes on as far as the socket lets it.
    fn ready(&mut self, event: &Event, answers: &Answers, scratch: &mut [u8]) -> Result<(), Over> {
        let held_up = self.unsent.is_some();
        if held_up {
            self.send()?;
        }
        // What came while an answer was unsent has had its event already.
        if self.unsent.is_some() || !(held_up || event.is_readable()) {
            return Ok(());
        }
        loop {
            let count = match self.stream.read(scratch) {
                Ok(0) => return Err(Over),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(Over),
            };
            self.received(&scratch[..count], answers)?;
            // A short read has emptied the socket: the next bytes are an event of their own. An end is not, if it came
            // with these bytes.
            if self.unsent.is_some() || (count < scratch.len() && !event.is_read_closed()) {
                return Ok(());
            }
        }
    }

    /// Takes bytes, and answers if they complete a head.
    fn received(&mut self, bytes: &[u8], answers: &Answers) -> Result<(), Over> {
        let kept = std::mem::take(&mut self.head);
        let joined;
        let head = if kept.is_empty() {
            bytes
        } else {
            joined = [&kept, bytes].concat();
            &joined
        };
        let answer = match memchr::memmem::find(head, b"\r\n\r\n") {
            Some(end) if end + 4 == head.len() => {
                self.requests += 1;
                self.answer(head, answers)
            }
            None if head.len() <= MAX_HEAD => {
                self.head = head.to_vec();
                return Ok(());
            }
            // A body, a request before its turn, or a head without an end.
            _ => answers.refused.clone(),
        };
        self.unsent = Some(Unsent { answer, sent: 0 });
        self.send()
    }

    /// The answer to a request.
    fn answer(&self, head: &[u8], answers: &Answers) -> Answer {
        let target = head.strip_prefix(b"GET ").and_then(|rest| rest.split(|byte| *byte == b' ').next());
        let Some(target) = target else { return answers.refused.clone() };
        if target.ends_with(b"/1k") {
            answers.small.clone()
        } else if target.ends_with(b"/100k") {
            answers.large.clone()
        } else if target.ends_with(b"/check") {
            self.check(head, answers)
        } else {
            answers.absent.clone()
        }
    }

    /// Says what was seen of a request.
    fn check(&self, head: &[u8], answers: &Answers) -> Answer {
        let mut fields = format!("X-Version: {}\r\n", self.version);
        fields += &format!("X-Saw-Connection: {}-{}\r\n", self.id, self.requests);
        for (name, said) in [(&b"x-forwarded-for"[..], "X-Saw-Forwarded-For"), (b"host", "X-Saw-Host")] {
            if let Some(value) = field(head, name) {
                fields += &format!("{said}: {}\r\n", String::from_utf8_lossy(value));
            }
        }
        Answer::in_memory(answer_bytes(&answers.date, "200 OK", &fields, self.version.as_bytes()))
    }

    /// Sends what the socket takes; a later event has the rest.
    fn send(&mut self) -> Result<(), Over> {
        while let Some(Unsent { answer, sent }) = &mut self.unsent {
            match answer.send(&mut self.stream, *sent) {
                Ok(0) => return Err(Over),
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Over),
            }
            if *sent == answer.length() {
                let last = answer.last;
                self.unsent = None;
                return if last { Err(Over) } else { Ok(()) };
            }
        }
        Ok(())
    }
}

/// The value of a request's field, given its name in lower case.
fn field<'head>(head: &'head [u8], name: &[u8]) -> Option<&'head [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
}

/// A whole answer, shared by all that are sent it.
#[derive(Clone)]
struct Answer {
    bytes: Bytes,
    /// Whether the connection ends with it.
    last: bool,
}

#[derive(Clone)]
enum Bytes {
    Memory(Rc<[u8]>),
    /// A file in memory, from which the kernel sends without copying: copies of 100 KB would take the core from the
    /// load.
    File(Rc<File>, usize),
}

impl Answer {
    fn in_memory(bytes: Vec<u8>) -> Self {
        Answer { bytes: Bytes::Memory(bytes.into()), last: false }
    }

    fn in_file(bytes: &[u8]) -> io::Result<Self> {
        let mut file = File::from(rustix::fs::memfd_create("answer", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.write_all(bytes)?;
        Ok(Answer { bytes: Bytes::File(Rc::new(file), bytes.len()), last: false })
    }

    fn length(&self) -> usize {
        match &self.bytes {
            Bytes::Memory(bytes) => bytes.len(),
            Bytes::File(_, length) => *length,
        }
    }

    /// Sends what the socket takes of the bytes from `sent` on; answers how many they were.
    fn send(&self, stream: &mut TcpStream, sent: usize) -> io::Result<usize> {
        match &self.bytes {
            Bytes::Memory(bytes) => stream.write(&bytes[sent..]),
            Bytes::File(file, length) => {
                let mut offset = sent as u64;
                Ok(rustix::fs::sendfile(stream, file, Some(&mut offset), length - sent)?)
            }
        }
    }
}

/// The answers that are always the same, made once.
struct Answers {
    /// The time of the start: nobody reads it, but an application's answer has one.
    date: String,
    small: Answer,
    large: Answer,
    absent: Answer,
    refused: Answer,
}

impl Answers {
    fn new(now: SystemTime) -> io::Result<Self> {
        let date = httpdate::fmt_http_date(now);
        let in_memory =
            |status, fields, body: &[u8]| Answer::in_memory(answer_bytes(&date, status, fields, body));
        Ok(Answers {
            small: in_memory("200 OK", "", &[b'x'; SMALL]),
            large: Answer::in_file(&answer_bytes(&date, "200 OK", "", &[b'x'; LARGE]))?,
            absent: in_memory("404 Not Found", "", b""),
            refused: Answer { last: true, ..in_memory("400 Bad Request", "Connection: close\r\n", b"") },
            date,
        })
    }
}

/// A head and a body.
fn answer_bytes(date: &str, status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nServer: upstream\r\nDate: {date}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n{fields}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
