//! A client made of the h2 crate.

use std::{future::Future, net::SocketAddr};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, Request};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};

use super::support::PATIENCE;

/// A connection.
pub struct Peer {
    pub sender: SendRequest<Bytes>,
    /// How the connection ended, once it has.
    pub ended: JoinHandle<Result<(), h2::Error>>,
}

/// What came of a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    /// Why it did not come to its end, if so.
    pub broken: Option<h2::Error>,
}

/// Runs a test that needs many things at once.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE * 3, test).await.expect("it ends in time") })
}

/// A request for a path, without a body.
pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.example{path}")).body(()).expect("a good request")
}

/// A request with a body.
pub fn post(path: &str) -> Request<()> {
    Request::post(format!("http://a.example{path}")).body(()).expect("a good request")
}

impl Peer {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::with(address, &Builder::new()).await
    }

    /// The same with settings of its own.
    pub async fn with(address: SocketAddr, builder: &Builder) -> Self {
        let socket = TcpStream::connect(address).await.expect("it accepts");
        socket.set_nodelay(true).expect("a socket");
        Self::over(socket, builder).await
    }

    /// The same over a connection that is there.
    pub async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, builder: &Builder) -> Self {
        let (sender, connection) = builder.handshake(io).await.expect("a handshake");
        let ended = tokio::spawn(connection);
        Self { sender, ended }
    }

    /// Sends a request without a body.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.exchange(get(path), None, None).await
    }

    /// Sends a request with what follows its head.
    pub async fn exchange(
        &mut self,
        request: Request<()>,
        body: Option<Vec<u8>>,
        trailers: Option<HeaderMap>,
    ) -> Answer {
        let answer = self.begin(request, body, trailers).await;
        answer.await.expect("the task does not panic").expect("an answer")
    }

    /// The same; answers before the response has come.
    pub async fn begin(
        &mut self,
        request: Request<()>,
        body: Option<Vec<u8>>,
        trailers: Option<HeaderMap>,
    ) -> JoinHandle<Result<Answer, h2::Error>> {
        self.sender = self.sender.clone().ready().await.expect("it takes requests");
        let is_whole = body.is_none() && trailers.is_none();
        let (response, mut stream) = self.sender.send_request(request, is_whole).expect("it is sent");
        tokio::spawn(async move {
            let sending = async {
                let mut rest = Bytes::from(body.unwrap_or_default());
                while !rest.is_empty() {
                    stream.reserve_capacity(rest.len());
                    let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else {
                        return;
                    };
                    let piece = rest.split_to(room.min(rest.len()));
                    if stream.send_data(piece, rest.is_empty() && trailers.is_none()).is_err() {
                        return;
                    }
                }
                if let Some(trailers) = trailers {
                    // A stream that was answered early takes no more.
                    stream.send_trailers(trailers).ok();
                }
            };
            let reading = read(response);
            let ((), answer) = tokio::join!(sending, reading);
            answer
        })
    }
}

async fn read(response: h2::client::ResponseFuture) -> Result<Answer, h2::Error> {
    let (parts, mut stream) = response.await?.into_parts();
    let (mut body, mut broken) = (Vec::new(), None);
    while let Some(piece) = stream.data().await {
        match piece {
            Ok(piece) => {
                body.extend_from_slice(&piece);
                stream.flow_control().release_capacity(piece.len()).expect("bytes that came");
            }
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    let trailers = if broken.is_none() { stream.trailers().await.unwrap_or_default() } else { None };
    Ok(Answer { status: parts.status.as_u16(), fields: parts.headers, body, trailers, broken })
}

impl Answer {
    /// Asserts that it came to its end.
    pub fn whole(self) -> Self {
        assert!(self.broken.is_none(), "{self:?}");
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
