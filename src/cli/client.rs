//! One call of the admin API, over TCP or a unix socket. Every step has a limit in time, and the answer one in size.

use std::{path::PathBuf, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, body::Bytes, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use super::{Failure, arguments::Connection};
use crate::admin;

/// How long the instance may take to accept.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to answer a call that does not wait, unless the caller says otherwise.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const MAX_ANSWER: usize = 256 << 20;

/// Where the admin API is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    /// `host:port`.
    Tcp(String),
    Unix(PathBuf),
}

/// A call.
#[derive(Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// The path and, if any, the query.
    pub path: &'a str,
    /// The body.
    pub body: Option<serde_json::Value>,
    /// How long the answer may take.
    pub within: Duration,
}

/// What the instance answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body; a file is a text.
    pub body: serde_json::Value,
}

/// Makes a call.
pub fn send(connection: &Connection, call: Call<'_>) -> Result<Answer, Failure> {
    let address = Address::parse(&connection.admin).map_err(Failure::Usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the client could not start: {error}")))?;
    runtime.block_on(exchange(&connection.admin, address, connection.token.as_deref(), call))
}

async fn exchange(
    admin: &str,
    address: Address,
    token: Option<&str>,
    call: Call<'_>,
) -> Result<Answer, Failure> {
    let unreachable = |why: String| {
        Failure::NotReachable(format!(
            "no Switchback answers at {admin}: {why}\n(--admin or SWITCHBACK_ADMIN says where its admin API is)"
        ))
    };
    let host = match &address {
        Address::Tcp(host) => host.clone(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let within = call.within;
    let begun = tokio::time::Instant::now();
    let request = request(&host, token, call)?;
    let connecting = async {
        Ok::<Box<dyn Stream>, std::io::Error>(match &address {
            Address::Tcp(host) => Box::new(TcpStream::connect(host).await?),
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    };
    let stream = tokio::time::timeout(CONNECT_WITHIN.min(within), connecting)
        .await
        .map_err(|_| unreachable("it does not accept the connection".into()))?
        .map_err(|error| unreachable(error.to_string()))?;
    tokio::time::timeout_at(begun + within, converse(stream, request))
        .await
        .map_err(|_| unreachable(format!("it gave no answer within {}", humantime::format_duration(within))))?
        .map_err(unreachable)
}

async fn converse(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // It ends with the sender, or with the runtime.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let is_toml = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == admin::TOML);
    let body =
        Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
    let body = body.to_bytes();
    if is_toml {
        let text = std::str::from_utf8(&body).map_err(|_| "the answer is not UTF-8".to_owned())?;
        return Ok(Answer { status, body: text.into() });
    }
    let body = serde_json::from_slice(&body)
        .map_err(|_| format!("the answer (status {status}) is not an admin API's"))?;
    Ok(Answer { status, body })
}

fn request(host: &str, token: Option<&str>, call: Call<'_>) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        // The history says by which way a change came.
        .header(admin::author::CLIENT, "cli")
        .header(header::USER_AGENT, concat!("switchback/", env!("CARGO_PKG_VERSION")));
    // A token that was read from a file may have brought the end of its line.
    if let Some(token) = token.map(str::trim).filter(|token| !token.is_empty()) {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
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

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Address {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err("unix: needs a path behind it".into())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let wrong =
            || format!("{text:?} is not the address of an admin API: write http://HOST:PORT or unix:PATH");
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let authority: http::uri::Authority = rest.trim_end_matches('/').parse().map_err(|_| wrong())?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        Ok(Self::Tcp(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_address_of_an_admin_api() {
        let tcp = |text: &str| Ok(Address::Tcp(text.into()));
        assert_eq!(Address::parse("http://127.0.0.1:9900"), tcp("127.0.0.1:9900"));
        assert_eq!(Address::parse("http://[::1]:9900/"), tcp("[::1]:9900"));
        assert_eq!(Address::parse("http://localhost"), tcp("localhost:80"));
        assert_eq!(Address::parse("unix:/run/s.sock"), Ok(Address::Unix("/run/s.sock".into())));
        assert_eq!(Address::parse("unix:///run/s.sock"), Ok(Address::Unix("/run/s.sock".into())));
        for bad in [
            "",
            "127.0.0.1:9900",
            "https://x:1",
            "http://",
            "unix:",
            "http://a b",
            "http://u@h:1",
            "http://h/x",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
