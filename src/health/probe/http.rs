//! A probe by an HTTP/1.1 request: read as strictly as the requests that are forwarded are answered, so that an
//! endpoint whose answers could not be passed on is not taken for well.
//!
//! A connection is kept from one good probe to some of the next, as opening one costs the kernel several times what the
//! probe itself does. Invariant: what fails on a kept connection is asked once more on a new one before it counts, since
//! the endpoint may have closed it meanwhile; and a kept connection has brought nothing since its last answer's end.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{ProbeFailure, connected};
use crate::{
    config,
    upstream::{socket::Socket, way::Way},
    wire::{
        body::Body,
        emit,
        fields::{LIMITS, Progress},
        response::ResponseHead,
    },
};

/// How many probes go over a connection: now and then, whether the endpoint takes a new one is a part of the question.
const MAX_PROBES: u32 = 16;
/// How much of a body is read, and looked through for the expected text.
const MAX_BODY: usize = 64 * 1024;
/// What one read takes at most. Most answers to probes come in one.
const READ: usize = 2048;
/// What is said of an endpoint that ends a connection within a probe.
const CLOSED: &str = "it closed the connection";
/// Who asks.
const AGENT: &str = "switchback/health";

/// The request, and which answers to it are good.
#[derive(Debug)]
pub(super) struct Question {
    /// The whole request, as it is sent each time.
    request: Box<[u8]>,
    is_head: bool,
    status: Vec<(u16, u16)>,
    body: Option<Box<str>>,
}

/// A connection between two probes.
#[derive(Debug)]
pub(super) struct Kept {
    stream: Socket,
    probes: u32,
    /// Whether another probe can go over it.
    is_good: bool,
    /// Its room among those that are kept; `None` before it has been.
    room: Option<OwnedSemaphorePermit>,
}

/// What has come of an answer.
#[derive(Debug)]
struct Answer<'a> {
    stream: &'a mut Socket,
    /// What was read and not understood yet.
    unread: Vec<u8>,
    head: ResponseHead,
}

impl Question {
    pub(super) fn new(settings: &config::HttpProbe, address: SocketAddr) -> Self {
        Self {
            request: request(settings, address),
            is_head: &*settings.method == "HEAD",
            status: settings.status.clone(),
            body: settings.body.clone(),
        }
    }

    /// Asks, on a kept connection if there is one, and keeps the connection if it is good and there is `room`.
    pub(super) async fn ask(
        &self,
        (way, address): (&Way, SocketAddr),
        kept: &mut Option<Kept>,
        room: &Arc<Semaphore>,
    ) -> Result<String, ProbeFailure> {
        if let Some(mut connection) = kept.take()
            && connection.stream.is_quiet()
        {
            let answer = connection.exchange(self).await;
            if !matches!(answer, Err(ProbeFailure::Malformed(_))) {
                *kept = connection.keep(room);
                return answer;
            }
        }
        let stream = connected(way, address, true).await?;
        let mut connection = Kept { stream, probes: 0, is_good: false, room: None };
        let answer = connection.exchange(self).await;
        *kept = connection.keep(room);
        answer
    }

    fn expects(&self, status: u16) -> bool {
        self.status.iter().any(|(least, most)| (*least..=*most).contains(&status))
    }
}

impl Kept {
    /// The connection, if another probe can go over it and it has room, or finds some, among those that are kept.
    fn keep(mut self, room: &Arc<Semaphore>) -> Option<Self> {
        self.room = self.room.or_else(|| Arc::clone(room).try_acquire_owned().ok());
        (self.is_good && self.room.is_some()).then_some(self)
    }

    async fn exchange(&mut self, question: &Question) -> Result<String, ProbeFailure> {
        self.probes += 1;
        self.is_good = false;
        self.stream.write_all(&question.request).await.map_err(ProbeFailure::malformed)?;
        self.stream.flush().await.map_err(ProbeFailure::malformed)?;
        let mut answer = Answer {
            stream: &mut self.stream,
            unread: Vec::with_capacity(READ),
            head: ResponseHead::default(),
        };
        answer.read_head(question.is_head).await?;
        let status = answer.head.status;
        if !question.expects(status) {
            return Err(ProbeFailure::Status(status));
        }
        let (body, is_over) = answer.read_body().await?;
        let expected = question.body.as_deref().unwrap_or_default();
        if memchr::memmem::find(&body, expected.as_bytes()).is_none() {
            return Err(ProbeFailure::Body);
        }
        self.is_good = is_over && self.probes < MAX_PROBES;
        Ok(format!("it answered {status}"))
    }
}

impl Answer<'_> {
    /// Reads the final head, over those of 1xx.
    async fn read_head(&mut self, to_head: bool) -> Result<(), ProbeFailure> {
        let mut has_news = false;
        loop {
            if has_news || self.unread.len() >= LIMITS.head {
                match self.head.parse(&self.unread, to_head, &LIMITS).map_err(ProbeFailure::malformed)? {
                    Progress::Complete(end) => {
                        self.unread.drain(..end);
                        match self.head.status {
                            100 | 102..=199 => continue,
                            _ => return Ok(()),
                        }
                    }
                    Progress::Partial => {}
                }
            }
            let before = self.unread.len();
            if !self.read().await? {
                return Err(ProbeFailure::Malformed(CLOSED.to_owned()));
            }
            // A head that comes byte by byte is not looked through for each of them, but for its lines.
            has_news = before == 0 || memchr::memchr(b'\n', &self.unread[before..]).is_some();
        }
    }

    /// Reads the body to its end, or as much of it as is looked through. Answers whether it has ended, and nothing came
    /// after it, and another request may follow.
    async fn read_body(&mut self) -> Result<(Vec<u8>, bool), ProbeFailure> {
        let mut framing = Body::of_response(self.head.body, false);
        let mut body = Vec::new();
        loop {
            let mut aside = Vec::new();
            let passed = framing.pass(&self.unread, &mut aside).map_err(ProbeFailure::malformed)?;
            body.extend_from_slice(&self.unread[..passed.direct]);
            body.append(&mut aside);
            self.unread.drain(..passed.read);
            if framing.is_done() || body.len() >= MAX_BODY {
                break;
            }
            if !self.read().await? {
                if framing.end(&mut aside) {
                    break;
                }
                return Err(ProbeFailure::Malformed(CLOSED.to_owned()));
            }
        }
        body.truncate(MAX_BODY);
        Ok((body, framing.is_done() && self.unread.is_empty() && self.head.keeps_alive()))
    }

    /// Reads something; answers `false` at the connection's end.
    async fn read(&mut self) -> Result<bool, ProbeFailure> {
        self.unread.reserve(READ);
        let count = self.stream.read_buf(&mut self.unread).await.map_err(ProbeFailure::malformed)?;
        Ok(count > 0)
    }
}

/// The request. The settings were validated: no text of theirs can end its line.
fn request(settings: &config::HttpProbe, address: SocketAddr) -> Box<[u8]> {
    let mut request = Vec::new();
    request.extend_from_slice(format!("{} {} HTTP/1.1\r\n", settings.method, settings.path).as_bytes());
    let host = settings.host.as_deref().map_or_else(|| address.to_string(), str::to_owned);
    emit::line(&mut request, b"Host", host.as_bytes());
    let is_agent = |name: &str| name.eq_ignore_ascii_case("User-Agent");
    if !settings.headers.iter().any(|(name, _)| is_agent(name)) {
        emit::line(&mut request, b"User-Agent", AGENT.as_bytes());
    }
    for (name, value) in &settings.headers {
        emit::line(&mut request, name.as_bytes(), value.as_bytes());
    }
    if !matches!(&*settings.method, "GET" | "HEAD" | "OPTIONS" | "DELETE") {
        // Some servers refuse such a request that says nothing of its body (RFC 9110 8.6).
        emit::line(&mut request, b"Content-Length", b"0");
    }
    request.extend_from_slice(b"\r\n");
    request.into()
}
