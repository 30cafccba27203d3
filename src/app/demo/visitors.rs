//! A trickle of requests to the demo's listener, so that the shares move while nobody else looks.

use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Bytes,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What came of the visits.
#[derive(Debug, Default, Clone)]
pub(super) struct Visits {
    /// Answered with success, to the last byte.
    pub(super) good: Rc<Cell<u64>>,
    /// Anything else.
    pub(super) failed: Rc<Cell<u64>>,
}

/// Sends `rate` requests a second over one connection, without end.
pub(super) async fn send(address: SocketAddr, rate: u32, visits: Visits) {
    if rate == 0 {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut connection = None;
    loop {
        ticks.tick().await;
        let count = match visit(&mut connection, address).await {
            Ok(()) => &visits.good,
            Err(_) => {
                connection = None;
                &visits.failed
            }
        };
        count.set(count.get() + 1);
    }
}

async fn visit(
    connection: &mut Option<SendRequest<Empty<Bytes>>>,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let sender = match connection {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(address).await?;
            let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(driver);
            connection.insert(sender)
        }
    };
    sender.ready().await?;
    let request = Request::get("/").header("host", address.to_string()).body(Empty::new())?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status().is_success(), "status {}", response.status());
    response.into_body().collect().await?;
    Ok(())
}
