//! A client that speaks TLS by rustls, and nothing of HTTP but what a test writes.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{authority::Authority, support::PATIENCE};

/// A connection over TLS.
pub struct Peer {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
}

/// What a client trusts and speaks. Clones share their tickets.
#[derive(Clone)]
pub struct Trust {
    pub config: Arc<ClientConfig>,
}

impl Trust {
    pub fn of(authority: &Authority) -> Self {
        Self::speaking(authority, rustls::ALL_VERSIONS, aws_lc_rs::default_provider())
    }

    pub fn speaking(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        provider: CryptoProvider,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(authority.file()).expect("the authority's certificate");
        roots.add(root).expect("a good certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("good versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { config: Arc::new(config) }
    }

    /// The same with other settings.
    pub fn with(&self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        change(&mut config);
        Self { config: Arc::new(config) }
    }

    /// The same, and shows a certificate.
    pub fn showing(&self, pair: &CertifiedKey) -> Self {
        let own = CertifiedKey { cert: pair.cert.clone(), key: Arc::clone(&pair.key), ocsp: None };
        self.with(|config| {
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(own));
            // What is kept for one certificate must not be shown with another.
            config.resumption = Resumption::in_memory_sessions(64);
        })
    }

    /// Whether a GET on a new connection is answered with 200, and by which kind of handshake. In TLS 1.3 a client learns only
    /// behind its own end of the handshake that it is refused.
    pub fn get(&self, address: SocketAddr, name: &str) -> io::Result<HandshakeKind> {
        let mut peer = self.connect(address, name)?;
        peer.stream.write_all(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes())?;
        let (status, text) = peer.response()?;
        assert_eq!(status, 200, "{text}");
        Ok(peer.stream.conn.handshake_kind().expect("it is done"))
    }

    /// Connects and makes a handshake for a name.
    pub fn connect(&self, address: SocketAddr, name: &str) -> io::Result<Peer> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut connection = self.client(name)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Peer { stream: StreamOwned::new(connection, socket) })
    }

    /// As [`Self::connect`], but each byte of the handshake goes alone.
    pub fn connect_in_single_bytes(&self, address: SocketAddr, name: &str) -> io::Result<Peer> {
        let mut socket = SingleBytes(TcpStream::connect(address)?);
        socket.0.set_nodelay(true)?;
        socket.0.set_read_timeout(Some(PATIENCE))?;
        socket.0.set_write_timeout(Some(PATIENCE))?;
        let mut connection = self.client(name)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Peer { stream: StreamOwned::new(connection, socket.0) })
    }

    fn client(&self, name: &str) -> io::Result<ClientConnection> {
        let name = ServerName::try_from(name.to_owned()).expect("a good name");
        ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)
    }
}

/// A socket that takes one byte at a time.
struct SingleBytes(TcpStream);

impl io::Read for SingleBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Write for SingleBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Peer {
    /// The certificate that was shown.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.stream.conn.peer_certificates().expect("a certificate")[0].clone().into_owned()
    }

    pub fn version(&self) -> ProtocolVersion {
        self.stream.conn.protocol_version().expect("a version")
    }

    pub fn send(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(text.as_ref()).expect("it takes bytes");
        self
    }

    /// Sends a GET and reads the response's status line, head and body, which has a length.
    pub fn get(&mut self, host: &str) -> (u16, String) {
        self.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response().expect("a response")
    }

    /// Reads a response that has a length: its status, and its head and body as text.
    pub fn response(&mut self) -> io::Result<(u16, String)> {
        let mut text = Vec::new();
        let head = loop {
            if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            text.push(byte[0]);
        };
        let lower = String::from_utf8_lossy(&text).to_ascii_lowercase();
        let status = lower.get(9..12).and_then(|status| status.parse().ok()).expect("a status line");
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or_default()];
        self.stream.read_exact(&mut body)?;
        text.truncate(head);
        text.extend_from_slice(&body);
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    }

    /// Reads to the end: what came, and whether the end was announced by a close_notify.
    pub fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut rest = Vec::new();
        let announced = self.stream.read_to_end(&mut rest).is_ok();
        (rest, announced)
    }
}
