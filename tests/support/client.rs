//! A raw client: what it sends is what it was told to send, and what it reads must be canonical.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::{
    PATIENCE,
    message::{Body, Framing, Head},
    shown,
    wire::{Broken, Wire},
};

/// A connection to Switchback.
pub struct Client {
    pub wire: Wire,
}

/// A response as the client read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub head: Head,
    pub framing: Framing,
    pub body: Body,
    /// Why the body did not come to its end, if so.
    pub broken: Option<Broken>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("Switchback accepts connections");
        Self { wire: Wire::new(stream, PATIENCE) }
    }

    /// Connects from a loopback address of choice.
    pub fn connect_from(local: std::net::IpAddr, address: SocketAddr) -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(local, 0).into()).expect("an address of this machine");
        socket.connect(&address.into()).expect("Switchback accepts connections");
        Self { wire: Wire::new(socket.into(), PATIENCE) }
    }

    /// How long it waits for bytes.
    pub fn patience(self, patience: Duration) -> Self {
        self.wire.stream().set_read_timeout(Some(patience)).expect("a timeout above zero");
        self
    }

    /// Sends bytes. A connection that the peer has already reset is told by the next read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.wire.send(bytes.as_ref()).ok();
        self
    }

    /// Sends bytes in pieces that end at the given positions, each as a packet of its own as far as the kernel allows.
    pub fn send_split(&mut self, bytes: &[u8], at: &[usize]) -> &mut Self {
        let mut from = 0;
        for to in at.iter().copied().chain([bytes.len()]) {
            if to > from {
                self.send(&bytes[from..to]);
                std::thread::sleep(Duration::from_micros(300));
                from = to;
            }
        }
        self
    }

    /// Reads an interim or final response head with its body.
    pub fn any_response(&mut self, method: &str) -> Response {
        self.try_response(method).unwrap_or_else(|broken| {
            panic!("no response but {broken:?}; received: {}", shown(self.wire.received()))
        })
    }

    /// Reads a final response. Interim ones are an error.
    pub fn response(&mut self, method: &str) -> Response {
        let response = self.any_response(method);
        assert!(response.status >= 200, "an interim response: {response:?}");
        response
    }

    pub fn try_response(&mut self, method: &str) -> Result<Response, Broken> {
        let head = self.wire.head()?;
        let status = head.status().map_err(Broken::Malformed)?;
        let framing = head.response_framing(method).map_err(Broken::Malformed)?;
        let (body, broken) = self.wire.whole_body(framing);
        Ok(Response { status, head, framing, body, broken })
    }

    /// Sends a request and reads its final response.
    pub fn exchange(&mut self, request: impl AsRef<[u8]>) -> Response {
        let request = request.as_ref();
        let method = request.split(|byte| *byte == b' ').next().unwrap_or_default();
        let method = String::from_utf8_lossy(method).into_owned();
        self.send(request);
        self.response(&method)
    }

    pub fn half_close(&mut self) -> &mut Self {
        self.wire.half_close();
        self
    }

    pub fn reset(self) {
        self.wire.reset();
    }

    /// Asserts that Switchback closes in an orderly way and sends nothing more.
    pub fn expect_end(&mut self, context: &str) {
        let (rest, end) = self.wire.rest();
        assert!(
            rest.is_empty() && end == Broken::Eof,
            "{context}: instead of an orderly end: {:?} after {}",
            end,
            shown(&rest)
        );
    }

    /// Asserts that the connection still serves.
    pub fn expect_alive(&mut self, context: &str) {
        self.send("GET /alive HTTP/1.1\r\nHost: a.example\r\n\r\n");
        match self.try_response("GET") {
            Ok(response) if response.status == 200 && response.broken.is_none() => {}
            other => panic!("{context}: the connection was to be kept, but: {other:?}"),
        }
    }
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }

    /// Whether it says that the connection ends.
    pub fn closes(&self) -> bool {
        self.head.list("connection").contains(&"close".to_owned())
    }

    /// Asserts that the body came whole.
    pub fn whole(self) -> Self {
        assert_eq!(self.broken, None, "the body was cut: {:?}", self.head);
        self
    }
}
