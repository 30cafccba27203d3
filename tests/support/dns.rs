//! A small authoritative name server on loopback, over UDP and TCP, whose zone a test changes as it likes.
//!
//! It writes messages by RFC 1035 with its own code, so that what it sends can also be wrong on purpose.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{wait_for, wait_until};

const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const AAAA: u16 = 28;
const SRV: u16 = 33;
/// What fits into an answer over UDP here; longer ones say that they are truncated.
const MAX_UDP: usize = 1232;

/// A server on a port of its own. It stops when it is dropped.
pub struct NameServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    zone: Mutex<BTreeMap<String, Vec<Record>>>,
    mood: Mutex<Mood>,
    ttl: Mutex<u32>,
    asked: AtomicUsize,
    over_tcp: AtomicUsize,
    stopped: AtomicBool,
}

/// How the server answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    /// By its zone.
    #[default]
    Well,
    /// SERVFAIL.
    Failing,
    /// Not at all.
    Silent,
    /// Bytes that are no message.
    Garbage,
    /// Messages that end in the middle of a record.
    Cut,
    /// Truncated over UDP, and closed connections over TCP.
    Truncated,
    /// Every name does not exist.
    Denying,
    /// Answers to another question.
    Astray,
}

#[derive(Debug, Clone)]
enum Record {
    Address(IpAddr),
    Alias(String),
    Service { priority: u16, weight: u16, port: u16, target: String },
}

impl NameServer {
    pub fn start() -> Self {
        // The same port for both protocols: another is tried if the second is taken.
        let (udp, tcp) = wait_for("a port is free for UDP and TCP", || {
            let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
            let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
            Some((udp, tcp))
        });
        let address = udp.local_addr().expect("a bound socket");
        udp.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout above zero");
        let shared = Arc::new(Shared { ttl: Mutex::new(1), ..Shared::default() });
        let (over_udp, over_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        thread::spawn(move || serve_udp(&udp, &over_udp));
        thread::spawn(move || {
            for stream in tcp.incoming() {
                if over_tcp.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&over_tcp);
                thread::spawn(move || serve_tcp(stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// The tables that make Switchback ask this server, and often.
    pub fn table(&self) -> String {
        format!(
            "[dns]\nservers = [\"{}\"]\nmin_ttl = \"30ms\"\nmax_ttl = \"60ms\"\ntimeout = \"300ms\"\n",
            self.address
        )
    }

    /// Gives a name these addresses, and no others.
    pub fn addresses(&self, name: &str, addresses: &[IpAddr]) {
        self.set(name, addresses.iter().copied().map(Record::Address).collect());
    }

    /// Makes a name an alias of another.
    pub fn alias(&self, name: &str, of: &str) {
        self.set(name, vec![Record::Alias(of.to_owned())]);
    }

    /// Gives a service these targets: priority, weight, port and host.
    pub fn service(&self, name: &str, targets: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| Record::Service {
            priority: *priority,
            weight: *weight,
            port: *port,
            target: (*target).to_owned(),
        };
        self.set(name, targets.iter().map(record).collect());
    }

    pub fn mood(&self, mood: Mood) {
        *locked(&self.shared.mood) = mood;
    }

    /// How many questions have come.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// How many questions have come over TCP.
    pub fn asked_over_tcp(&self) -> usize {
        self.shared.over_tcp.load(Ordering::SeqCst)
    }

    /// Waits until this many more questions have come.
    pub fn wait_asked(&self, more: usize) {
        let wanted = self.asked() + more;
        wait_until("the name server is asked again", || self.asked() >= wanted);
    }

    fn set(&self, name: &str, records: Vec<Record>) {
        locked(&self.shared.zone).insert(name.to_owned(), records);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The accepting thread looks at the flag after each connection.
        TcpStream::connect(self.address).ok();
    }
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 4096];
    while !shared.stopped.load(Ordering::SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        shared.asked.fetch_add(1, Ordering::SeqCst);
        let Some(mut answer) = answer(&buffer[..length], shared) else { continue };
        if answer.len() > MAX_UDP || *locked(&shared.mood) == Mood::Truncated {
            answer = truncated(&buffer[..length]);
        }
        socket.send_to(&answer, from).ok();
    }
}

fn serve_tcp(mut stream: TcpStream, shared: &Shared) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout above zero");
    loop {
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        shared.asked.fetch_add(1, Ordering::SeqCst);
        shared.over_tcp.fetch_add(1, Ordering::SeqCst);
        if *locked(&shared.mood) == Mood::Truncated {
            return;
        }
        let Some(answer) = answer(&question, shared) else { return };
        let length = u16::try_from(answer.len()).expect("a test's answers fit");
        if stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat()).is_err() {
            return;
        }
    }
}

/// A message that answers a question as the server is in the mood to.
fn answer(question: &[u8], shared: &Shared) -> Option<Vec<u8>> {
    let (name, kind, end) = asked(question)?;
    let zone = locked(&shared.zone);
    let ttl = *locked(&shared.ttl);
    match *locked(&shared.mood) {
        Mood::Silent => None,
        Mood::Failing => Some(message(question, end, 2, &[])),
        Mood::Denying => Some(message(question, end, 3, &[])),
        Mood::Garbage => Some(vec![0xff; 40]),
        Mood::Astray => {
            let mut wrong = question[..end].to_vec();
            wrong[13] ^= 1;
            let record = resource(&name, A, ttl, &[10, 0, 0, 66]);
            Some(message(&wrong, end, 0, &[record]))
        }
        mood => {
            let records = records(&zone, &name, kind, ttl);
            // A name that does not exist is denied, one without such records is not.
            let code = if zone.contains_key(&name) { 0 } else { 3 };
            let mut whole = message(question, end, code, &records);
            if mood == Mood::Cut {
                whole.truncate(end + 7);
            }
            Some(whole)
        }
    }
}

/// The records of a type, behind the aliases that lead to them.
fn records(zone: &BTreeMap<String, Vec<Record>>, name: &str, kind: u16, ttl: u32) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for record in zone.get(name).into_iter().flatten() {
        match record {
            Record::Address(IpAddr::V4(ip)) if kind == A => found.push(resource(name, A, ttl, &ip.octets())),
            Record::Address(IpAddr::V6(ip)) if kind == AAAA => {
                found.push(resource(name, AAAA, ttl, &ip.octets()))
            }
            Record::Service { priority, weight, port, target } if kind == SRV => {
                let mut data: Vec<u8> =
                    [priority, weight, port].iter().flat_map(|it| it.to_be_bytes()).collect();
                data.extend(encoded(target));
                found.push(resource(name, SRV, ttl, &data));
            }
            Record::Alias(of) => {
                found.push(resource(name, CNAME, ttl, &encoded(of)));
                found.extend(records(zone, of, kind, ttl));
            }
            _ => {}
        }
    }
    found
}

/// The name (in lower case) and type of a message's question, and where it ends.
fn asked(message: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8(message.get(at..at + length)?.to_ascii_lowercase()).ok()?);
        at += length;
    }
    let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), kind, at + 4))
}

/// A message with the question that it answers, and a SOA record where there is no answer.
fn message(question: &[u8], end: usize, code: u8, answers: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(answers.len()).expect("a test's answers fit").to_be_bytes();
    let denies = answers.is_empty() && code != 2;
    // A response, authoritative, to a question that asked for recursion or not.
    let flags = [0x84 | (question[2] & 1), 0x80 | code];
    let head = [&question[..2], &flags, &[0, 1], &count, &[0, u8::from(denies)], &[0, 0]].concat();
    let mut whole = [&head, &question[12..end]].concat();
    whole.extend(answers.iter().flatten());
    if denies {
        let mut data = [encoded("ns.test"), encoded("admin.test")].concat();
        data.extend([1u32, 1, 1, 1, 1].iter().flat_map(|number| number.to_be_bytes()));
        whole.extend(resource("test", SOA, 1, &data));
    }
    whole
}

fn truncated(question: &[u8]) -> Vec<u8> {
    let end = asked(question).map_or(12, |(_, _, end)| end);
    let mut whole = message(question, end, 2, &[]);
    whole[3] = 0x80;
    whole[2] |= 2;
    whole
}

fn resource(name: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("a test's data fits");
    let mut bytes = encoded(name);
    bytes.extend([kind.to_be_bytes(), [0, 1]].concat());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(data);
    bytes
}

fn encoded(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> = labels
        .flat_map(|label| [&[u8::try_from(label.len()).expect("a short label")], label.as_bytes()].concat())
        .collect();
    bytes.push(0);
    bytes
}

/// A panic of one thread must not hide behind a poisoned lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
