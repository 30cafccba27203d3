//! A probe by an HTTP/1.1 request, through hyper's client: strictness is the matter of the requests that are forwarded,
//! not of these.
//!
//! A connection is kept from one good probe to some of the next, as opening one costs the kernel several times what the
//! probe itself does. Invariant: what fails on a kept connection is asked once more on a new one before it counts, since
//! the endpoint may have closed it meanwhile.

use std::{
    fmt,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    task::Poll,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::ProbeFailure;
use crate::config;

/// How many probes go over a connection: now and then, whether the endpoint takes a new one is a part of the question.
const MAX_PROBES: u32 = 16;
/// How much of a body is read, and looked through for the expected text.
const MAX_BODY: usize = 64 * 1024;
/// The longest head of an answer.
const MAX_HEAD: usize = 64 * 1024;
/// What is said of an endpoint that ends a connection within a probe.
const CLOSED: &str = "it closed the connection";
/// Who asks.
const AGENT: HeaderValue = HeaderValue::from_static("switchback/health");

/// The request, and which answers to it are good.
#[derive(Debug)]
pub(super) struct Question {
    /// `Err` if the settings make no request; each probe then fails and says why.
    request: Result<Parts, String>,
    status: Vec<(u16, u16)>,
    body: Option<Box<str>>,
}

/// A connection between two probes.
pub(super) struct Kept {
    sender: SendRequest<Empty<Bytes>>,
    connection: Pin<Box<http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>>>,
    probes: u32,
    is_over: bool,
}

#[derive(Debug, Clone)]
struct Parts {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Question {
    pub(super) fn new(settings: &config::HttpProbe, address: SocketAddr) -> Self {
        Self {
            request: Parts::new(settings, address).map_err(|error| error.to_string()),
            status: settings.status.clone(),
            body: settings.body.clone(),
        }
    }

    /// Asks, on a kept connection if there is one.
    pub(super) async fn ask(
        &self,
        address: SocketAddr,
        kept: &mut Option<Kept>,
    ) -> Result<String, ProbeFailure> {
        let request = self.request.clone().map_err(ProbeFailure::Malformed)?;
        if let Some(mut connection) = kept.take() {
            let answer = connection.exchange(request.clone(), self).await;
            if !matches!(answer, Err(ProbeFailure::Malformed(_))) {
                *kept = connection.keep(&answer);
                return answer;
            }
        }
        let mut connection = Kept::open(address).await?;
        let answer = connection.exchange(request, self).await;
        *kept = connection.keep(&answer);
        answer
    }

    async fn judge(&self, response: Response<Incoming>) -> Result<String, ProbeFailure> {
        let status = response.status().as_u16();
        if !self.status.iter().any(|(least, most)| (*least..=*most).contains(&status)) {
            return Err(ProbeFailure::Status(status));
        }
        let mut body = response.into_body();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(ProbeFailure::malformed)?;
            let bytes = frame.data_ref().map_or(&[][..], Bytes::as_ref);
            read.extend_from_slice(&bytes[..bytes.len().min(MAX_BODY - read.len())]);
            if read.len() == MAX_BODY {
                break;
            }
        }
        let expected = self.body.as_ref().map_or("", |text| text);
        match memchr::memmem::find(&read, expected.as_bytes()) {
            Some(_) => Ok(format!("it answered {status}")),
            None => Err(ProbeFailure::Body),
        }
    }
}

impl Kept {
    async fn open(address: SocketAddr) -> Result<Self, ProbeFailure> {
        let stream = TcpStream::connect(address).await?;
        let mut builder = http1::Builder::new();
        let opened = builder.max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(ProbeFailure::malformed)?;
        Ok(Self { sender, connection: Box::pin(connection), probes: 0, is_over: false })
    }

    async fn exchange(&mut self, parts: Parts, question: &Question) -> Result<String, ProbeFailure> {
        self.probes += 1;
        let Self { sender, connection, is_over, .. } = self;
        let mut exchange = pin!(async {
            sender.ready().await.map_err(ProbeFailure::malformed)?;
            let response = sender.send_request(parts.request()).await.map_err(ProbeFailure::malformed)?;
            question.judge(response).await
        });
        poll_fn(|context| {
            // How the connection ended is for the exchange to say: it may have a whole answer from it.
            *is_over = *is_over || connection.as_mut().poll(context).is_ready();
            match exchange.as_mut().poll(context) {
                // Nothing more can come of it, and nobody else would say so.
                Poll::Pending if *is_over => Poll::Ready(Err(ProbeFailure::Malformed(CLOSED.to_owned()))),
                answer => answer,
            }
        })
        .await
    }

    /// The connection for the next probe, if it can serve one.
    fn keep(self, answer: &Result<String, ProbeFailure>) -> Option<Self> {
        (answer.is_ok() && !self.is_over && self.probes < MAX_PROBES).then_some(self)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("probes", &self.probes).finish_non_exhaustive()
    }
}

impl Parts {
    fn new(settings: &config::HttpProbe, address: SocketAddr) -> Result<Self, http::Error> {
        let host = settings.host.as_deref().map_or_else(|| address.to_string(), str::to_owned);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::try_from(host)?);
        headers.insert(header::USER_AGENT, AGENT);
        for (name, value) in &settings.headers {
            let (name, value) = (HeaderName::try_from(&**name)?, HeaderValue::try_from(&**value)?);
            match name {
                // The file's own takes the place of ours.
                header::USER_AGENT | header::HOST => headers.insert(name, value).is_some(),
                _ => headers.append(name, value),
            };
        }
        let method = Method::from_bytes(settings.method.as_bytes())?;
        Ok(Self { method, uri: Uri::try_from(&*settings.path)?, headers })
    }

    fn request(self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) =
            (self.method, self.uri, self.headers);
        request
    }
}
