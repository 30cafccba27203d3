//! A client that sends any frames, and reads what comes frame by frame.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use super::support::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GO_AWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const CALM: u32 = 11;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The fields of the plainest request.
pub const GET: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")];

/// A connection.
pub struct Raw {
    pub stream: TcpStream,
}

#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What came until the end, or until a ping was answered.
#[derive(Debug, Default)]
pub struct Seen {
    pub frames: Vec<Frame>,
    pub is_over: bool,
}

impl Raw {
    /// Connects, and sends the preface with empty settings.
    pub fn connect(address: SocketAddr) -> Self {
        Self::with(address, &[])
    }

    /// The same with settings: numbers and values.
    pub fn with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self::silent(address);
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        raw.write(PREFACE).expect("it takes bytes");
        raw.send(SETTINGS, 0, 0, &payload);
        raw
    }

    /// Connects, and sends nothing.
    pub fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self { stream }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a frame.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        self.write(&frame(kind, flags, stream, payload)).expect("it takes bytes");
        self
    }

    /// Sends a request's head.
    pub fn request(&mut self, stream: u32, fields: &[(&str, &str)], flags: u8) -> &mut Self {
        self.send(HEADERS, flags | END_HEADERS, stream, &block(fields))
    }

    /// Reads a frame; nothing at the end.
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("nothing came"),
            Err(_) => return None,
        }
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(id) & 0x7fff_ffff, payload })
    }

    /// Reads until a frame that is wanted.
    pub fn until(&mut self, what: &str, mut wanted: impl FnMut(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.read().unwrap_or_else(|| panic!("the end came before {what}"));
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// Reads what comes up to the answer to a ping.
    pub fn settle(&mut self) -> Seen {
        // Who was told to go away may be refused here.
        self.write(&frame(PING, 0, 0, b"settled?")).ok();
        let mut seen = Seen::default();
        loop {
            match self.read() {
                None => {
                    seen.is_over = true;
                    return seen;
                }
                Some(frame) if frame.kind == PING && frame.flags == ACK => return seen,
                Some(frame) => seen.frames.push(frame),
            }
        }
    }

    /// Reads until it is known what becomes of a request: its response's head, its reset, or the end of the connection.
    pub fn outcome(&mut self, stream: u32) -> Seen {
        let mut seen = Seen::default();
        while let Some(frame) = self.read() {
            let is_known = frame.kind == GO_AWAY
                || frame.stream == stream && (frame.kind == HEADERS || frame.kind == RESET);
            seen.frames.push(frame);
            if is_known {
                return seen;
            }
        }
        seen.is_over = true;
        seen
    }

    /// Reads to the end.
    pub fn rest(&mut self) -> Seen {
        let frames = std::iter::from_fn(|| self.read()).collect();
        Seen { frames, is_over: true }
    }
}

impl Seen {
    /// The reason of the last GOAWAY.
    pub fn go_away(&self) -> Option<u32> {
        self.frames.iter().rev().find(|frame| frame.kind == GO_AWAY).map(|frame| number(&frame.payload[4..]))
    }

    /// The reason that a stream was reset with.
    pub fn reset(&self, stream: u32) -> Option<u32> {
        let mut frames = self.frames.iter();
        frames.find(|frame| frame.kind == RESET && frame.stream == stream).map(|frame| number(&frame.payload))
    }

    pub fn has(&self, kind: u8, stream: u32) -> bool {
        self.frames.iter().any(|frame| frame.kind == kind && frame.stream == stream)
    }
}

pub fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"))
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A block of fields as literals that are not indexed, without Huffman codes (RFC 7541 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name.as_bytes(), value.as_bytes()] {
            length(text.len(), &mut bytes);
            bytes.extend_from_slice(text);
        }
    }
    bytes
}

/// An integer with a prefix of 7 bits (RFC 7541 5.1).
fn length(mut rest: usize, bytes: &mut Vec<u8>) {
    if rest < 127 {
        return bytes.push(rest as u8);
    }
    bytes.push(127);
    rest -= 127;
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
}
