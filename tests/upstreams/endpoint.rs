//! Endpoints that speak TLS: what comes is passed on in cleartext to an upstream of the tests.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{
    HandshakeKind, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;

/// A handshake as the endpoint saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub has_certificate: bool,
    pub is_resumed: bool,
}

/// An endpoint that speaks TLS.
pub struct Secured {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    failed: Arc<AtomicUsize>,
}

/// What an endpoint shows and asks for.
pub struct Terms<'a> {
    pub authority: &'a Authority,
    /// Its pair: a name of the authority's folder.
    pub pair: &'a str,
    pub protocols: &'a [&'a str],
    /// Whether a certificate of the same authority is asked for.
    pub asks: bool,
}

impl<'a> Terms<'a> {
    pub fn new(authority: &'a Authority, pair: &'a str) -> Self {
        Self { authority, pair, protocols: &[], asks: false }
    }

    fn config(&self) -> ServerConfig {
        let (pair, key) = (format!("{}.pem", self.pair), format!("{}.key", self.pair));
        let chain = vec![CertificateDer::from_pem_file(self.authority.path(&pair)).expect("it was issued")];
        let key = PrivateKeyDer::from_pem_file(self.authority.path(&key)).expect("it was issued");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("good versions");
        let verifier = if self.asks {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_file(self.authority.file()).expect("the authority's");
            roots.add(root).expect("a good certificate");
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .expect("a verifier")
        } else {
            WebPkiClientVerifier::no_client_auth()
        };
        let config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key);
        let mut config = config.expect("a pair");
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// Starts an endpoint in front of an upstream.
    pub fn start(&self, upstream: SocketAddr) -> Secured {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket option");
        let acceptor = TlsAcceptor::from(Arc::new(self.config()));
        let (seen, failed) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicUsize>::default());
        let (recorded, counted) = (Arc::clone(&seen), Arc::clone(&failed));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((socket, _)) = listener.accept().await {
                    let (acceptor, recorded, counted) =
                        (acceptor.clone(), Arc::clone(&recorded), Arc::clone(&counted));
                    tokio::spawn(async move {
                        let Ok(mut stream) = acceptor.accept(socket).await else {
                            counted.fetch_add(1, Ordering::SeqCst);
                            return;
                        };
                        let session = stream.get_ref().1;
                        recorded.lock().expect("no panic holds it").push(Seen {
                            name: session.server_name().map(str::to_owned),
                            protocol: session
                                .alpn_protocol()
                                .map(|name| String::from_utf8_lossy(name).into_owned()),
                            has_certificate: session.peer_certificates().is_some(),
                            is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
                        });
                        let Ok(mut plain) = tokio::net::TcpStream::connect(upstream).await else { return };
                        tokio::io::copy_bidirectional(&mut stream, &mut plain).await.ok();
                    });
                }
            });
        });
        Secured { address, seen, failed }
    }
}

impl Secured {
    /// The handshakes that were good.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic holds it").clone()
    }

    /// How many were not.
    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::SeqCst)
    }
}
