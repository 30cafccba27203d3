//! One call of the admin API, over TCP or a unix socket. Every step has a limit in time, and the answer one in size.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, body::Bytes, body::Incoming, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use super::{super::Failure, Client, address::Address, secure};
use crate::admin::{self, CLIENT};

/// How long the instance may take to accept.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to answer a call that does not wait, unless the caller says otherwise.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const MAX_ANSWER: usize = 256 << 20;

/// A call.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// The path and, if any, the query.
    pub path: &'a str,
    /// The body.
    pub body: Option<Value>,
    /// How long the answer may take.
    pub within: Duration,
    /// Further fields, each with its value.
    pub fields: Vec<(&'static str, String)>,
}

/// What the instance answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body; a file is a text.
    pub body: Value,
    /// The tag of what it is about.
    pub etag: Option<String>,
}

impl<'a> Call<'a> {
    /// A call that reads.
    pub fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, body: None, within: ANSWER_WITHIN, fields: Vec::new() }
    }

    /// A call with a body.
    pub fn post(path: &'a str, body: Value) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path) }
    }
}

impl Client {
    /// Makes a call.
    pub fn send(&self, call: Call<'_>) -> Result<Answer, Failure> {
        runtime()?.block_on(async {
            let within = call.within;
            let begun = tokio::time::Instant::now();
            let request = self.request(call)?;
            let stream = self.connect(within).await?;
            let late = || format!("it gave no answer within {}", humantime::format_duration(within));
            tokio::time::timeout_at(begun + within, whole(stream, request))
                .await
                .unwrap_or_else(|_| Err(late()))
                .map_err(|why| self.unreachable(&why))
        })
    }

    /// A connection to the instance.
    pub(super) async fn connect(&self, within: Duration) -> Result<Box<dyn Stream>, Failure> {
        let secured = match &self.address {
            Address::Tls(_) => Some(secure::connector(&self.tls)?),
            Address::Tcp(_) | Address::Unix(_) => None,
        };
        let connecting = async {
            Ok::<Box<dyn Stream>, std::io::Error>(match &self.address {
                Address::Tcp(host) => Box::new(TcpStream::connect(host).await?),
                Address::Tls(host) => {
                    let stream = TcpStream::connect(host).await?;
                    let connector = secured.expect("it was made above for such an address");
                    Box::new(connector.connect(secure::name(host)?, stream).await?)
                }
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        };
        tokio::time::timeout(CONNECT_WITHIN.min(within), connecting)
            .await
            .map_err(|_| self.unreachable("it does not accept the connection"))?
            .map_err(|error| self.unreachable(&error.to_string()))
    }

    /// A call as it is sent.
    pub(super) fn request(&self, call: Call<'_>) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(header::HOST, self.address.host())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("switchback/", env!("CARGO_PKG_VERSION")))
            .header(CLIENT, "cli");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in call.fields {
            request = request.header(name, value.as_bytes());
        }
        let body = match call.body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        request.body(Full::new(body)).map_err(|error| {
            Failure::Usage(format!(
                "this can't be sent to an admin API (a control character in a name or token?): {error}"
            ))
        })
    }
}

/// What runs one call, or a stream.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the client could not start: {error}")))
}

/// Sends a request and reads the head of its answer.
pub(super) async fn begin(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // It ends with the sender and the answer's body, or with the runtime.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|error| error.to_string())
}

async fn whole(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    read(begin(stream, request).await?).await
}

/// Reads an answer to its end.
pub(super) async fn read(response: Response<Incoming>) -> Result<Answer, String> {
    let status = response.status().as_u16();
    let is_toml = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == admin::TOML);
    let etag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let body =
        Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
    let body = body.to_bytes();
    if is_toml {
        let text = std::str::from_utf8(&body).map_err(|_| "the answer is not UTF-8".to_owned())?;
        return Ok(Answer { status, body: text.into(), etag });
    }
    let body = serde_json::from_slice(&body)
        .map_err(|_| format!("the answer (status {status}) is not an admin API's"))?;
    Ok(Answer { status, body, etag })
}

/// A connection, over whatever.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}
