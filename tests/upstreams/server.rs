//! An upstream that speaks HTTP/2 by the h2 crate, on a thread of its own.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Builder, SendResponse},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

/// A request as it came: what it asks for, its fields, its body and its trailers.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub uri: String,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
}

/// What was seen of clients.
#[derive(Debug, Default)]
pub struct Seen {
    pub asked: Mutex<Vec<Asked>>,
    pub connections: AtomicUsize,
    pub open: AtomicUsize,
    /// Streams that were reset by the client.
    pub resets: AtomicUsize,
    /// Bytes that the client's windows have let out.
    pub sent: AtomicUsize,
    /// While this is set, `/wait` has no answer.
    pub holds: AtomicBool,
    pub waiting: AtomicUsize,
}

pub struct Server {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
}

impl Server {
    /// Starts one that allows so many streams on a connection.
    pub fn start(most: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket option");
        let seen = Arc::<Seen>::default();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(connection(socket, most, Arc::clone(&shared)));
                }
            });
        });
        Self { address, seen }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.seen.asked.lock().expect("no panic holds it").clone()
    }

    pub fn count(&self, of: fn(&Seen) -> &AtomicUsize) -> usize {
        of(&self.seen).load(Ordering::SeqCst)
    }

    pub fn hold(&self, holds: bool) {
        self.seen.holds.store(holds, Ordering::SeqCst);
    }
}

async fn connection(socket: tokio::net::TcpStream, most: u32, seen: Arc<Seen>) {
    let Ok(mut connection) = Builder::new().max_concurrent_streams(most).handshake(socket).await else {
        return;
    };
    seen.connections.fetch_add(1, Ordering::SeqCst);
    seen.open.fetch_add(1, Ordering::SeqCst);
    while let Some(Ok((request, respond))) = connection.accept().await {
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            if answer(request, respond, &seen).await.is_err() {
                seen.resets.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    seen.open.fetch_sub(1, Ordering::SeqCst);
}

async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, body.trailers().await?.unwrap_or_default()))
}

/// Answers as the path says.
async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    seen: &Seen,
) -> Result<(), h2::Error> {
    let (parts, mut body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if path == "/refuse" {
        respond.send_reset(Reason::REFUSED_STREAM);
        return Ok(());
    }
    if path == "/endless" {
        return endless(respond, seen).await;
    }
    let (bytes, trailers) = read(&mut body).await?;
    seen.asked.lock().expect("no panic holds it").push(Asked {
        method: parts.method.clone(),
        uri: parts.uri.to_string(),
        fields: parts.headers.clone(),
        body: bytes.clone(),
        trailers: trailers.clone(),
    });
    if path == "/wait" {
        seen.waiting.fetch_add(1, Ordering::SeqCst);
        while seen.holds.load(Ordering::SeqCst) {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
                reset = std::future::poll_fn(|cx| respond.poll_reset(cx)) => {
                    seen.waiting.fetch_sub(1, Ordering::SeqCst);
                    return reset.and_then(|reason| Err(reason.into()));
                }
            }
        }
        seen.waiting.fetch_sub(1, Ordering::SeqCst);
    }
    let mut response = Response::new(());
    match path.as_str() {
        "/none" => *response.status_mut() = StatusCode::NO_CONTENT,
        "/same" => *response.status_mut() = StatusCode::NOT_MODIFIED,
        "/hints" => {
            let mut hints = Response::new(());
            *hints.status_mut() = StatusCode::EARLY_HINTS;
            hints.headers_mut().insert("link", HeaderValue::from_static("</a.css>"));
            respond.send_informational(hints)?;
        }
        "/call" => {
            let length = HeaderValue::from(bytes.len());
            response.headers_mut().insert("content-length", length);
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        }
        "/length" => {
            let length = HeaderValue::from(bytes.len());
            response.headers_mut().insert("content-length", length);
        }
        _ => {}
    }
    if parts.method == Method::HEAD {
        response.headers_mut().insert("content-length", HeaderValue::from_static("7"));
    }
    let is_empty = parts.method == Method::HEAD || path == "/none" || path == "/same" || bytes.is_empty();
    let mut stream = respond.send_response(response, is_empty && trailers.is_empty())?;
    if !is_empty {
        send(&mut stream, &bytes).await?;
    }
    if !trailers.is_empty() {
        stream.send_trailers(trailers)?;
    } else if !is_empty {
        stream.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

async fn send(stream: &mut h2::SendStream<Bytes>, mut bytes: &[u8]) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let Some(room) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return Err(Reason::CANCEL.into());
        };
        let length = room?.min(bytes.len());
        stream.send_data(Bytes::copy_from_slice(&bytes[..length]), false)?;
        bytes = &bytes[length..];
    }
    Ok(())
}

/// A response without end; it counts what the client's windows let out.
async fn endless(mut respond: SendResponse<Bytes>, seen: &Seen) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(Response::new(()), false)?;
    loop {
        send(&mut stream, &[b'x'; 16 << 10]).await?;
        seen.sent.fetch_add(16 << 10, Ordering::SeqCst);
    }
}
