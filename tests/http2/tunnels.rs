//! WebSockets over HTTP/2 (RFC 8441), to endpoints that speak HTTP/1.1.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{RecvStream, SendStream, ext::Protocol};
use http::{Method, Request};

use super::{
    peer::{Peer, run},
    support::{Setup, Upstream, pattern, wait_until},
};

/// Asks for a tunnel; answers the status, and both ways of the stream.
async fn ask(peer: &mut Peer, path: &str, protocol: &'static str) -> (u16, SendStream<Bytes>, RecvStream) {
    peer.sender = peer.sender.clone().ready().await.expect("it takes requests");
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://a.example{path}"))
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static(protocol))
        .body(())
        .expect("a good request");
    let (response, stream) = peer.sender.send_request(request, false).expect("it is sent");
    let response = response.await.expect("an answer");
    (response.status().as_u16(), stream, response.into_body())
}

/// Waits until tunnels are offered: the settings come behind the connection.
async fn offered(peer: &mut Peer) {
    assert_eq!(peer.get("/").await.status, 200);
    assert!(peer.sender.is_extended_connect_protocol_enabled());
}

fn upstream() -> Upstream {
    Upstream::start(|exchange| match exchange.head.target() {
        "/tunnel" => exchange.tunnel_echo("websocket"),
        "/forbidden" => exchange.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"),
        _ => exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    })
}

#[test]
fn a_tunnel_carries_bytes_both_ways_until_both_sides_have_ended() {
    const LENGTH: usize = 1 << 20;
    let upstream = upstream();
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        offered(&mut peer).await;
        let (status, mut stream, mut body) = ask(&mut peer, "/tunnel", "websocket").await;
        assert_eq!(status, 200);
        let head = upstream.connections().len();
        assert!(head > 0);
        let sent = pattern(LENGTH, 5);
        let sending = async {
            let mut rest = Bytes::from(sent.clone());
            while !rest.is_empty() {
                stream.reserve_capacity(rest.len());
                let room = poll_fn(|cx| stream.poll_capacity(cx)).await.expect("open").expect("room");
                stream.send_data(rest.split_to(room.min(rest.len())), false).expect("it is sent");
            }
            stream.send_data(Bytes::new(), true).expect("an end");
        };
        let reading = async {
            let mut came = Vec::new();
            while let Some(data) = body.data().await {
                let data = data.expect("data");
                body.flow_control().release_capacity(data.len()).expect("bytes that came");
                came.extend_from_slice(&data);
            }
            came
        };
        let ((), came) = tokio::join!(sending, reading);
        assert!(came == sent, "{} bytes came back of {LENGTH}", came.len());
        assert_eq!(peer.get("/").await.status, 200, "the connection goes on");
    });
    wait_until("nothing is in flight", || switchback.metric("switchback_route_requests_in_flight") < 0.5);
}

#[test]
fn an_endpoint_that_does_not_switch_makes_no_tunnel() {
    let upstream = upstream();
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        offered(&mut peer).await;
        for (path, protocol, expected) in [
            ("/forbidden", "websocket", 403),
            ("/other", "websocket", 502),
            // Its route allows upgrades to WebSockets alone, so it is an ordinary request.
            ("/tunnel-of-another-kind", "connect-udp", 502),
        ] {
            let (status, ..) = ask(&mut peer, path, protocol).await;
            assert_eq!(status, expected, "{path}");
        }
        assert_eq!(peer.get("/").await.status, 200, "the connection goes on");
    });
}

#[test]
fn a_client_that_resets_its_tunnel_ends_it_at_the_endpoint() {
    let upstream = upstream();
    let switchback = Setup::new().start(&upstream);
    run(async {
        let mut peer = Peer::connect(switchback.address).await;
        offered(&mut peer).await;
        let (status, mut stream, _body) = ask(&mut peer, "/tunnel", "websocket").await;
        assert_eq!(status, 200);
        stream.send_reset(h2::Reason::CANCEL);
        tokio::task::spawn_blocking(move || {
            wait_until("nothing is in flight", || {
                switchback.metric("switchback_route_requests_in_flight") < 0.5
            });
        })
        .await
        .expect("no panic");
    });
}
