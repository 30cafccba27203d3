//! In place of the layer `tls`, the part of it that the fuzzed layers name: building its cryptography takes longer than the
//! fuzzing.
//!
//! Invariant: of what stands for certificates nothing can be made, so nothing that was fuzzed has gone by it.

use std::{
    convert::Infallible,
    fmt, io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[path = "../../src/tls/settings.rs"]
mod settings;

pub use settings::*;

/// What is known of a client's TLS.
#[derive(Debug)]
pub struct Session {
    pub is_asked: bool,
    pub identity: Option<Arc<Identity>>,
    _none: Infallible,
}

/// Who a client is by its certificate.
#[derive(Debug)]
pub enum Identity {}

impl Identity {
    pub fn fields(&self) -> [(&'static str, &str); 2] {
        match *self {}
    }
}

/// Which file of a certificate.
pub enum Part {
    Certificate,
    Key,
    Ocsp,
}

/// Which file of what is asked of clients.
#[derive(Clone, Copy)]
pub enum ClientPart {
    Authorities,
    Revocations(usize),
}

/// Which file of TLS with endpoints.
pub enum BackPart {
    Authorities,
    Certificate,
    Key,
}

/// TLS with endpoints.
#[derive(Debug)]
pub enum Back {}

/// TLS with the endpoints of all pools.
#[derive(Debug, Default)]
pub struct Backs;

/// A connection over TLS to an endpoint.
#[derive(Debug)]
pub enum EndpointStream {}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {}

impl EndpointStream {
    pub fn is_http2(&self) -> bool {
        match *self {}
    }

    pub fn is_quiet(&mut self) -> bool {
        match *self {}
    }
}

impl AsyncRead for EndpointStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for EndpointStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl BackSettings {
    pub fn check(&self) -> Result<(), Vec<Fault<Option<BackPart>>>> {
        unreachable!("{NO_FILE}")
    }
}

impl Backs {
    pub fn of(&self, _: &Arc<BackSettings>) -> Arc<Back> {
        unreachable!("nothing that is fuzzed connects")
    }
}

impl Back {
    pub fn number(&self) -> u64 {
        match *self {}
    }

    pub async fn begin(
        &self,
        _: tokio::net::TcpStream,
        _: std::net::IpAddr,
        _: bool,
    ) -> Result<(EndpointStream, u64), Unfit> {
        match *self {}
    }
}

/// Any text is as good as another where nothing connects.
pub fn is_name(_: &str) -> bool {
    true
}

/// A certificate with its key.
pub enum Pair {}

/// Whose certificates count.
pub enum Clients {}

/// What is wrong with files.
pub struct Fault<P> {
    pub part: P,
    none: Infallible,
}

/// What files are read with.
pub fn provider() {}

impl Pair {
    pub fn read(_: &PairFiles, (): &()) -> Result<Self, Fault<Part>> {
        unreachable!("{NO_FILE}")
    }

    pub fn warnings(&self, _: SystemTime) -> Vec<(Part, String, String)> {
        match *self {}
    }
}

impl Clients {
    pub fn read(_: &ClientSettings, (): &()) -> Result<Self, Vec<Fault<ClientPart>>> {
        unreachable!("{NO_FILE}")
    }

    pub fn warnings(&self, _: SystemTime) -> Vec<(PathBuf, String, String)> {
        match *self {}
    }
}

const NO_FILE: &str = "a text that is parsed has no files read";

impl<P> Fault<P> {
    pub fn part(&self) -> P {
        match self.none {}
    }

    pub fn remedy(&self) -> &'static str {
        match self.none {}
    }
}

impl<P> fmt::Display for Fault<P> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.none {}
    }
}
