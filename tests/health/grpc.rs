//! gRPC probes against an HTTP/2 server.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use h2::server;
use http::{HeaderMap, Response};
use hyper::body::Bytes;

use crate::{
    endpoint, fast,
    support::{Setup, Switchback, Upstream, wait_for},
};

/// What a server answers to `Check`.
#[derive(Clone)]
struct Answer {
    content_type: &'static str,
    message: Option<&'static [u8]>,
    status: Option<&'static str>,
}

const SERVING: Answer =
    Answer { content_type: "application/grpc", message: Some(b"\0\0\0\0\x02\x08\x01"), status: Some("0") };

/// A request as it came: its path, `content-type` and `te`, and its body.
type Asked = (String, Option<String>, Option<String>, Vec<u8>);

/// A server with prior knowledge of HTTP/2 on a thread of its own.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    fn start(answer: Answer) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&asked);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket option");
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, answer.clone(), Arc::clone(&recorded)));
                }
            });
        });
        Self { address, asked }
    }
}

async fn serve(stream: tokio::net::TcpStream, answer: Answer, asked: Arc<Mutex<Vec<Asked>>>) {
    let Ok(mut connection) = server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (answer, asked) = (answer.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            let field =
                |name| request.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
            let (kind, te, path) = (field("content-type"), field("te"), request.uri().path().to_owned());
            let mut body = request.into_body();
            let mut message = Vec::new();
            while let Some(Ok(bytes)) = body.data().await {
                message.extend_from_slice(&bytes);
            }
            asked.lock().expect("no panic holds it").push((path, kind, te, message));
            reply(&mut respond, &answer).ok();
        });
    }
}

/// With a message: head, message, trailers; without: everything in the head.
fn reply(respond: &mut server::SendResponse<Bytes>, answer: &Answer) -> Result<(), h2::Error> {
    let mut head = Response::builder().header("content-type", answer.content_type);
    let Some(message) = answer.message else {
        if let Some(status) = answer.status {
            head = head.header("grpc-status", status);
        }
        return respond.send_response(head.body(()).expect("a response"), true).map(drop);
    };
    let mut stream = respond.send_response(head.body(()).expect("a response"), false)?;
    stream.send_data(Bytes::from_static(message), answer.status.is_none())?;
    if let Some(status) = answer.status {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().expect("a value"));
        stream.send_trailers(trailers)?;
    }
    Ok(())
}

/// Probes a server until a probe has ended, and gives what is known then.
fn probe(address: SocketAddr, service: &str) -> serde_json::Value {
    let any = Upstream::ok();
    let config = Setup::new().pool(&fast(&format!("grpc = {service:?}"))).toml(&[&any]);
    let switchback = Switchback::start(&config.replace(&any.address.to_string(), &address.to_string()));
    wait_for("a probe has ended", || {
        let view = endpoint(&switchback, address);
        (view["health"]["last"] != serde_json::Value::Null).then_some(view)
    })
}

#[test]
fn a_server_that_serves_is_healthy_and_was_asked_by_the_protocol() {
    for (service, message) in [("", &b"\0\0\0\0\0"[..]), ("shop.Cart", b"\0\0\0\0\x0b\x0a\x09shop.Cart")] {
        let server = Server::start(SERVING);
        let view = probe(server.address, service);
        assert_eq!(
            (&view["state"], &view["health"]["last"]["detail"]),
            (&"available".into(), &"it says SERVING".into())
        );
        let (path, kind, te, body) = server.asked.lock().expect("no panic holds it")[0].clone();
        assert_eq!(path, "/grpc.health.v1.Health/Check");
        assert_eq!((kind.as_deref(), te.as_deref()), (Some("application/grpc"), Some("trailers")));
        assert_eq!(body, message);
    }
}

#[test]
fn every_other_answer_is_a_failure_that_says_why() {
    let long: &'static [u8] = Box::leak(vec![0; 100_000].into_boxed_slice());
    for (answer, result) in [
        (Answer { message: Some(b"\0\0\0\0\x02\x08\x02"), ..SERVING }, "not_serving"),
        (Answer { message: Some(b"\0\0\0\0\0"), ..SERVING }, "not_serving"),
        (Answer { status: Some("14"), ..SERVING }, "not_serving"),
        (Answer { message: None, status: Some("12"), ..SERVING }, "not_serving"),
        (Answer { message: None, status: Some("0"), ..SERVING }, "malformed"),
        (Answer { status: None, ..SERVING }, "malformed"),
        (Answer { status: Some("zero"), ..SERVING }, "malformed"),
        (Answer { message: Some(b"\x01\0\0\0\x02\x08\x01"), ..SERVING }, "malformed"),
        (Answer { message: Some(b"\0\0\0\0\x02\x08\x01\0"), ..SERVING }, "malformed"),
        (Answer { message: Some(long), ..SERVING }, "malformed"),
        (Answer { content_type: "text/html", ..SERVING }, "malformed"),
    ] {
        let view = probe(Server::start(answer).address, "");
        assert_eq!(view["health"]["last"]["result"], result, "{view}");
        assert_eq!(view["state"], "unhealthy");
    }
}

#[test]
fn a_server_of_http1_is_not_taken_for_one() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(crate::support::upstream::OK);
        exchange.close();
    });
    assert_eq!(probe(upstream.address, "")["health"]["last"]["passed"], false);
}
