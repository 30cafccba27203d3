//! A probe by an HTTP/1.1 request, through hyper's client: strictness is the matter of the requests that are forwarded,
//! not of these.

use std::{future::poll_fn, net::SocketAddr, pin::pin};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::ProbeFailure;
use crate::config;

/// How much of a body is read for the expected text.
const MAX_BODY: usize = 64 * 1024;
/// The longest head of an answer.
const MAX_HEAD: usize = 64 * 1024;
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
            body: settings.body.clone().filter(|text| !text.is_empty()),
        }
    }

    /// Asks on a fresh connection, which is closed afterwards.
    pub(super) async fn ask(&self, stream: TcpStream) -> Result<String, ProbeFailure> {
        let Parts { method, uri, headers } = self.request.clone().map_err(ProbeFailure::Malformed)?;
        let mut request = Request::new(Empty::<Bytes>::new());
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ProbeFailure::malformed)?;
        let mut connection = pin!(connection);
        let mut exchange = pin!(async {
            let response = sender.send_request(request).await.map_err(ProbeFailure::malformed)?;
            self.judge(response).await
        });
        let mut is_over = false;
        poll_fn(|context| {
            // How the connection ended is for the exchange to say: it may have a whole answer from it.
            is_over = is_over || connection.as_mut().poll(context).is_ready();
            exchange.as_mut().poll(context)
        })
        .await
    }

    async fn judge(&self, response: Response<Incoming>) -> Result<String, ProbeFailure> {
        let status = response.status().as_u16();
        if !self.status.iter().any(|(least, most)| (*least..=*most).contains(&status)) {
            return Err(ProbeFailure::Status(status));
        }
        let said = format!("it answered {status}");
        let Some(text) = &self.body else { return Ok(said) };
        let mut body = response.into_body();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(ProbeFailure::malformed)?;
            let Some(bytes) = frame.data_ref() else { continue };
            // The text may begin in what was looked through already, but not before its last bytes.
            let from = read.len().saturating_sub(text.len());
            read.extend_from_slice(&bytes[..bytes.len().min(MAX_BODY - read.len())]);
            if memchr::memmem::find(&read[from..], text.as_bytes()).is_some() {
                return Ok(said);
            }
            if read.len() == MAX_BODY {
                break;
            }
        }
        Err(ProbeFailure::Body)
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
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let method = Method::from_bytes(settings.method.as_bytes())?;
        Ok(Self { method, uri: Uri::try_from(&*settings.path)?, headers })
    }
}
