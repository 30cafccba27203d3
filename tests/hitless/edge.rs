//! HTTP/2 over TLS while weights, certificates and the binary itself are replaced.
//!
//! A client may send a request again that a GOAWAY or REFUSED_STREAM says was not processed (RFC 9113 8.7). Those here never do:
//! a request that was sent and is not answered whole has failed. That is stricter than any client is, and so it does not
//! matter how a real one repeats.

use std::{
    fmt::Debug,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use h2::client::Builder;
use http::Request;
use rustls::{
    client::Resumption,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    authority::{Authority, Kind, listener},
    counted::Arrivals,
    http2_peer::{Answer, Peer},
    support::{
        PATIENCE, Switchback, Upstream, config::blue_green, is_long, successors::Successors, wait_until,
    },
    tls_peer::Trust,
};

/// Connections, and requests in flight on each.
const CLIENTS: u64 = 4;
const STREAMS: usize = 8;

/// How many changes of weights, certificates and replacements of the binary.
fn changes() -> (u32, u32, u32) {
    if is_long() { (1_000, 200, 20) } else { (50, 10, 3) }
}

/// A Switchback with TLS before two pools, and whose certificate is issued again and again.
struct Edge {
    authority: Authority,
    switchback: Switchback,
    /// Held while the certificate and its key are written: a successor that starts between the two would refuse them.
    writing: Mutex<()>,
}

impl Edge {
    fn start(blue: &Upstream, green: &Upstream) -> Self {
        let authority = Authority::new();
        let pair = authority.issue("site", &["a.example"], Kind::Ecdsa);
        let keys = format!("listen = \"127.0.0.1:0\"\n{}\n", listener(&[pair], ""));
        let (admin, rest) = blue_green(2, (100, 0), "", blue, green)
            .split_once("[[listener]]")
            .map(|(admin, rest)| (admin.to_owned(), rest.replacen("listen = \"127.0.0.1:0\"\n", &keys, 1)))
            .expect("there is a listener");
        let ends = "[shutdown]\ndelay = \"0s\"\ndeadline = \"30s\"\n";
        let switchback = Switchback::start(&format!("{admin}[[listener]]{rest}{ends}"));
        Self { authority, switchback, writing: Mutex::default() }
    }

    /// Changes the weights so many times. While the binary is replaced, a change is refused and asked for again.
    fn keep_weighing(&self, count: u32) {
        for change in 0..count {
            let (blue, green) = [(0, 100), (50, 50), (100, 0), (1, 99), (90, 10)][change as usize % 5];
            let body = format!("{{\"blue\": {blue}, \"green\": {green}}}");
            wait_until("the change is acknowledged", || {
                let answer = self.switchback.admin("PUT", "/v1/splits/main/weights", &body);
                assert!(matches!(answer.status, 200 | 503), "{answer:?}");
                answer.status == 200
            });
            // The pace is the test's: traffic flows between two changes.
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Issues the certificate so many times, ECDSA and RSA in turn, and waits until each is what clients are shown.
    fn keep_issuing(&self, count: u32) {
        // A session that is resumed shows the certificate that it began with.
        let trust = Trust::of(&self.authority).with(|config| config.resumption = Resumption::disabled());
        for round in 0..count {
            let kind = if round % 2 == 0 { Kind::Rsa } else { Kind::Ecdsa };
            let writing = self.writing.lock().expect("no panic holds it");
            self.authority.issue("site", &["a.example"], kind);
            drop(writing);
            let next = CertificateDer::from_pem_file(self.authority.path("site.pem")).expect("our own file");
            wait_until("the next certificate is shown", || {
                let peer = trust.connect(self.switchback.address, "a.example").expect("a handshake");
                peer.certificate() == next
            });
        }
    }
}

/// What clients have seen.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    connections: AtomicU64,
    count: AtomicU64,
    answered: Mutex<Vec<String>>,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Keeps connections busy until told to stop.
    fn run(&self, address: SocketAddr, trust: &Trust) {
        let trust = trust.with(|config| config.alpn_protocols = vec![b"h2".to_vec()]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(join_all((0..CLIENTS).map(|number| self.client(address, &trust, number))));
    }

    async fn client(&self, address: SocketAddr, trust: &Trust, number: u64) {
        let mut request = 0;
        while !self.stop.load(Relaxed) {
            let mut peer = connect(address, trust).await;
            self.connections.fetch_add(1, Relaxed);
            let mut under_way = FuturesUnordered::new();
            // A connection that was told to go takes no more requests; those that it has end.
            while !self.stop.load(Relaxed)
                && let Ok(sender) = peer.sender.clone().ready().await
            {
                peer.sender = sender;
                let target = format!("/{number}/{request}");
                let body = (request % 4 == 3).then(|| format!("body of {target}"));
                request += 1;
                under_way.push(one(&mut peer, target, body).await);
                if under_way.len() == STREAMS {
                    self.note(under_way.next().await.expect("some are under way"));
                }
            }
            while let Some(outcome) = under_way.next().await {
                self.note(outcome);
            }
        }
    }

    /// Stops it when the answer is dropped: also when a test fails.
    fn stopping(&self) -> impl Drop {
        struct Stopping<'l>(&'l AtomicBool);
        impl Drop for Stopping<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        Stopping(&self.stop)
    }

    fn note(&self, (target, body, answer): (String, String, Result<Answer, impl Debug>)) {
        let expected = format!("{target} {body}");
        match answer {
            Ok(answer)
                if answer.status == 200
                    && answer.broken.is_none()
                    && answer.text().split_once(' ').is_some_and(|(_, rest)| rest == expected) =>
            {
                self.count.fetch_add(1, Relaxed);
                self.answered.lock().expect("no panic holds it").push(target);
            }
            other => self.failures.lock().expect("no panic holds it").push(format!("{target}: {other:?}")),
        }
    }
}

/// Sends a request; what it comes to is waited for by whoever takes it.
async fn one(
    peer: &mut Peer,
    target: String,
    body: Option<String>,
) -> impl Future<Output = (String, String, Result<Answer, h2::Error>)> + use<> {
    let method = if body.is_some() { "POST" } else { "GET" };
    let uri = format!("https://a.example{target}");
    let request = Request::builder().method(method).uri(uri).body(()).expect("a good request");
    let answer = peer.begin(request, body.clone().map(String::into_bytes), None).await;
    async move { (target, body.unwrap_or_default(), answer.await.expect("the task does not panic")) }
}

async fn connect(address: SocketAddr, trust: &Trust) -> Peer {
    let socket = TcpStream::connect(address).await.expect("it accepts");
    socket.set_nodelay(true).expect("a socket");
    let name = ServerName::try_from("a.example").expect("a good name");
    let shaken = TlsConnector::from(Arc::clone(&trust.config)).connect(name, socket);
    let stream = tokio::time::timeout(PATIENCE, shaken).await.expect("in time").expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    Peer::over(stream, &Builder::new()).await
}

#[test]
fn weights_certificates_and_the_binary_change_under_http2_over_tls_and_no_request_fails() {
    let arrivals = Arrivals::default();
    let (blue, green) = (arrivals.upstream("blue"), arrivals.upstream("green"));
    let edge = Edge::start(&blue, &green);
    let (load, trust) = (Load::default(), Trust::of(&edge.authority));
    let (weights, certificates, replacements) = changes();
    let mut successors = Successors::default();
    thread::scope(|scope| {
        let running = scope.spawn(|| load.run(edge.switchback.address, &trust));
        let stopping = load.stopping();
        let changing =
            [scope.spawn(|| edge.keep_weighing(weights)), scope.spawn(|| edge.keep_issuing(certificates))];
        for _ in 0..replacements {
            let so_far = load.count.load(Relaxed);
            wait_until("the load runs", || load.count.load(Relaxed) > so_far + 200);
            let connections = load.connections.load(Relaxed);
            let writing = edge.writing.lock().expect("no panic holds it");
            successors.replace(&edge.switchback);
            drop(writing);
            wait_until("every client has gone over", || {
                load.connections.load(Relaxed) >= connections + CLIENTS
            });
        }
        for thread in changing {
            thread.join().expect("every change is acknowledged");
        }
        drop(stopping);
        running.join().expect("the load does not panic");
    });
    assert_eq!(*load.failures.lock().expect("no panic holds it"), Vec::<String>::new());
    let answered = load.answered.lock().expect("no panic holds it");
    arrivals.assert_exactly(&answered);
    assert!(blue.requests() > 100 && green.requests() > 100, "{} and {}", blue.requests(), green.requests());
    println!(
        "{} requests on {} connections, {weights} changes of weights, {certificates} certificates, \
         {replacements} replacements",
        answered.len(),
        load.connections.load(Relaxed)
    );
}

/// h2load opens no other connection after a GOAWAY, so here the binary stays.
#[test]
fn weights_and_certificates_change_under_h2load_and_no_request_fails() {
    const REQUESTS: usize = 4_000;
    let arrivals = |name: &'static [u8]| Upstream::answering(crate::support::upstream::response(200, name));
    let (blue, green) = (arrivals(b"blue"), arrivals(b"green"));
    let edge = Edge::start(&blue, &green);
    let (weights, certificates, _) = changes();
    let url = format!("https://127.0.0.1:{}/", edge.switchback.address.port());
    let rounds = thread::scope(|scope| {
        let changing =
            [scope.spawn(|| edge.keep_weighing(weights)), scope.spawn(|| edge.keep_issuing(certificates))];
        let mut rounds = 0;
        // Each is a run of h2load, which counts what it has seen at its end.
        while rounds == 0 || changing.iter().any(|thread| !thread.is_finished()) {
            let output = Command::new("h2load")
                .args(["-n", &REQUESTS.to_string(), "-c", "4", "-m", "16", &url])
                .stdin(Stdio::null())
                .output()
                .expect("h2load (Debian package `nghttp2-client`)");
            let counted = String::from_utf8_lossy(&output.stdout);
            assert!(counted.contains("Application protocol: h2"), "{output:?}");
            let all = format!("{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout");
            assert!(counted.contains(&all), "{counted}");
            assert!(counted.contains(&format!("{REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx")), "{counted}");
            rounds += 1;
        }
        for thread in changing {
            thread.join().expect("every change is acknowledged");
        }
        rounds
    });
    assert!(blue.requests() > 0 && green.requests() > 0, "traffic did not move");
    assert_eq!(blue.requests() + green.requests(), rounds * REQUESTS);
    println!("{} requests, {weights} changes of weights, {certificates} certificates", rounds * REQUESTS);
}
