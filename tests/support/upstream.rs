//! A raw upstream: records every byte of every connection and answers as its script says.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    message::{Body, Framing, Head, Message},
    port::Reserved,
    shown, wait_until,
    wire::{Broken, Wire},
};

/// A server on a port of its own, which stays its own when it stops. It stops accepting when it is dropped.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _port: Reserved,
}

/// What one connection brought.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// Every byte that came (up to [`Wire::RECORDED`]).
    pub received: Vec<u8>,
    /// How many bytes came.
    pub total: u64,
    /// How it ended, once it has.
    pub ended: Option<Broken>,
}

/// A request whose head has come, and the means to answer it.
pub struct Exchange<'a> {
    pub head: Head,
    pub framing: Framing,
    /// Which request it is on its upstream, from 0.
    pub number: usize,
    /// Which request it is on its connection, from 0.
    pub on_connection: usize,
    /// Which connection it came on, from 0.
    pub connection: usize,
    wire: &'a mut Wire,
    shared: &'a Shared,
    body: Option<(Body, Option<Broken>)>,
    is_recorded: bool,
    over: bool,
}

type Script = dyn Fn(&mut Exchange<'_>) + Send + Sync;

struct Shared {
    script: Box<Script>,
    stopped: AtomicBool,
    requests: AtomicUsize,
    connections: Mutex<Vec<Connection>>,
    messages: Mutex<Vec<Message>>,
}

impl Upstream {
    /// Runs a script for each request, as soon as its head has come. A body that the script leaves is read after it.
    pub fn start(script: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), script)
    }

    /// The same on an address of choice.
    pub fn start_at(address: SocketAddr, script: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static) -> Self {
        Self::start_on(Reserved::at(address).expect("a free port"), script)
    }

    /// The same on a port that is held already.
    pub fn start_on(port: Reserved, script: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(port.address).expect("nobody listens there");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            stopped: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            connections: Mutex::default(),
            messages: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self { address: port.address, shared, _port: port }
    }

    /// Answers every request, once it is whole, with the same bytes.
    pub fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::start(move |exchange| {
            exchange.body();
            exchange.send(&response);
        })
    }

    /// Answers every request with 200 and `ok`.
    pub fn ok() -> Self {
        Self::answering(OK)
    }

    /// Answers every request with its own body.
    pub fn echo() -> Self {
        Self::start(|exchange| {
            let body = exchange.body().bytes.clone();
            exchange.send(&response(200, &body));
        })
    }

    /// The requests that have come, whole or broken, in the order in which they ended.
    pub fn messages(&self) -> Vec<Message> {
        locked(&self.shared.messages).clone()
    }

    /// How many request heads have come.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// What each connection brought so far.
    pub fn connections(&self) -> Vec<Connection> {
        locked(&self.shared.connections).clone()
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        locked(&self.shared.connections).iter().filter(|connection| connection.ended.is_none()).count()
    }

    /// How many bytes have come on all connections.
    pub fn total(&self) -> u64 {
        locked(&self.shared.connections).iter().map(|connection| connection.total).sum()
    }

    /// Waits until a message has come and gives the newest.
    pub fn last(&self) -> Message {
        super::wait_for("a request has reached the upstream", || {
            locked(&self.shared.messages).last().cloned()
        })
    }

    /// Waits until somebody has connected.
    pub fn wait_connected(&self) {
        wait_until("somebody has connected to the upstream", || !self.connections().is_empty());
    }

    /// Waits until no connection is open.
    pub fn wait_all_ended(&self) {
        wait_until("every connection to the upstream has ended", || self.open() == 0);
    }

    /// Asserts that nothing but canonical requests came. Call it when Switchback has ended.
    pub fn assert_canonical(&self) {
        self.wait_all_ended();
        for connection in self.connections() {
            if let Some(Broken::Malformed(why)) = &connection.ended {
                panic!("the upstream received {why}; all of it: {}", shown(&connection.received));
            }
        }
    }

    /// Refuses connections from now on.
    pub fn stop(&self) {
        if !self.shared.stopped.swap(true, Ordering::SeqCst) {
            // The accepting thread looks at the flag after each connection.
            TcpStream::connect(self.address).ok();
        }
    }
}

impl Upstream {
    /// Waits until nobody listens any more.
    pub fn wait_refusing(&self) {
        wait_until("connections to the upstream are refused", || TcpStream::connect(self.address).is_err());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Exchange<'_> {
    /// The whole body, as far as it came.
    pub fn body(&mut self) -> &Body {
        if self.body.is_none() {
            self.body = Some(self.wire.whole_body(self.framing));
        }
        self.record();
        &self.body.as_ref().expect("read just before").0
    }

    /// Reads the body without keeping it; answers how it ended.
    pub fn stream_body(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<(), Broken> {
        let read = self.wire.body(self.framing, sink);
        let broken = read.as_ref().err().cloned();
        self.body = Some((Body::default(), broken));
        read.map(drop)
    }

    /// Reads this many of the body's first bytes as they are on the wire, and leaves the exchange to [`Self::close`]
    /// or [`Self::reset`].
    pub fn read_raw(&mut self, count: usize) -> Vec<u8> {
        self.body = Some((Body::default(), None));
        self.wire.exactly(count).unwrap_or_default()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        // Switchback may have closed: that is what the test looks at elsewhere.
        self.wire.send(bytes).ok();
    }

    /// Sends bytes; answers whether they were taken.
    pub fn try_send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.wire.send(bytes)
    }

    /// Sends bytes in pieces with a pause before each but the first.
    pub fn send_pieces(&mut self, bytes: &[u8], size: usize, pause: Duration) {
        for (index, piece) in bytes.chunks(size).enumerate() {
            if index > 0 {
                thread::sleep(pause);
            }
            self.send(piece);
        }
    }

    /// Ends the connection in an orderly way after this exchange.
    pub fn close(&mut self) {
        self.over = true;
        self.wire.half_close();
    }

    /// Resets the connection.
    pub fn reset(&mut self) {
        self.over = true;
        self.body.get_or_insert_default();
        self.wire.linger_zero();
    }

    /// Answers 101 for a protocol and then echoes until the peer ends its direction; then ends too.
    pub fn tunnel_echo(&mut self, protocol: &str) {
        self.tunnel(protocol, |wire| {
            loop {
                let piece = wire.ahead().to_vec();
                wire.exactly(piece.len()).expect("bytes that are there");
                if wire.send(&piece).is_err() || (wire.ahead().is_empty() && wire.fill().is_err()) {
                    return;
                }
            }
        });
    }

    /// Answers 101 for a protocol and leaves the connection to a closure.
    pub fn tunnel(&mut self, protocol: &str, run: impl FnOnce(&mut Wire)) {
        self.send(
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
                .as_bytes(),
        );
        self.body.get_or_insert_default();
        run(self.wire);
        self.close();
    }

    /// Records the message: before it is answered, so that who has the answer finds the message.
    fn record(&mut self) {
        if !std::mem::replace(&mut self.is_recorded, true) {
            let (body, broken) = self.body.clone().unwrap_or_default();
            locked(&self.shared.messages).push(Message {
                head: self.head.clone(),
                framing: self.framing,
                body,
                broken,
                connection: self.connection,
            });
        }
    }

    /// The connection itself.
    pub fn wire(&mut self) -> &mut Wire {
        self.wire
    }
}

/// The plainest response.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A response with a length.
pub fn response(status: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} Text\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let index = {
            let mut connections = locked(&shared.connections);
            connections.push(Connection::default());
            connections.len() - 1
        };
        let shared = Arc::clone(shared);
        thread::spawn(move || serve(stream, index, &shared));
    }
}

fn serve(stream: TcpStream, index: usize, shared: &Arc<Shared>) {
    let mut wire = Wire::new(stream, Duration::from_secs(120));
    let recording = Arc::clone(shared);
    wire.observe(move |bytes| {
        let connection = &mut locked(&recording.connections)[index];
        connection.total += bytes.len() as u64;
        let room = Wire::RECORDED - connection.received.len();
        connection.received.extend_from_slice(&bytes[..bytes.len().min(room)]);
    });
    let mut on_connection = 0;
    let ended = loop {
        match one_exchange(&mut wire, index, on_connection, shared) {
            Ok(()) => on_connection += 1,
            Err(ended) => break ended,
        }
    };
    drop(wire);
    locked(&shared.connections)[index].ended = Some(ended);
}

fn one_exchange(
    wire: &mut Wire,
    connection: usize,
    on_connection: usize,
    shared: &Shared,
) -> Result<(), Broken> {
    let head = wire.head()?;
    let framing = head.request_framing().map_err(Broken::Malformed)?;
    let number = shared.requests.fetch_add(1, Ordering::SeqCst);
    let mut exchange = Exchange {
        head,
        framing,
        number,
        on_connection,
        connection,
        wire,
        shared,
        body: None,
        is_recorded: false,
        over: false,
    };
    if framing == Framing::None {
        exchange.body();
    }
    (shared.script)(&mut exchange);
    exchange.body();
    if let Some((_, Some(ended))) = exchange.body.take() {
        return Err(ended);
    }
    if exchange.over {
        return Err(Broken::Eof);
    }
    Ok(())
}

/// A panic of one script must not hide behind a poisoned lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
