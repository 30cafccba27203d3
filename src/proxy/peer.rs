//! Who is at the other end of a client's connection.
//!
//! Invariant: it is found out once for a connection, and what a client claims about itself is no part of it.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::client;
use crate::{config::Listener, tls};

/// Who is at the other end, found out once for a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Its address; one of IPv4 is one of IPv4 on a dual-stack listener, too.
    pub(super) ip: IpAddr,
    /// Its port.
    pub(super) port: u16,
    /// Whether its account of its own client is believed.
    pub(super) is_trusted: bool,
    /// What is known of its TLS, if it speaks that: on HTTP/2 it is the same for all requests of the connection.
    pub(super) tls: Option<Arc<tls::Session>>,
    text: [u8; 46],
    text_length: u8,
}

impl Peer {
    pub(super) fn new(address: SocketAddr, listener: &Listener, tls: Option<Arc<tls::Session>>) -> Self {
        let ip = address.ip().to_canonical();
        let mut text = [0; 46];
        let mut rest = &mut text[..];
        write!(rest, "{ip}").expect("46 bytes hold every IP address");
        let text_length = (46 - rest.len()) as u8;
        let is_trusted = client::is_trusted(ip, &listener.trusted_proxies);
        let port = address.port();
        Self { ip, port, is_trusted, tls, text, text_length }
    }

    /// Whether it was asked for a certificate.
    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_asked)
    }

    /// Who it is by the certificate that it has shown.
    #[inline]
    pub(super) fn identity(&self) -> Option<&tls::Identity> {
        self.tls.as_ref()?.identity.as_deref()
    }

    /// The IP address as text.
    #[inline]
    pub(super) fn text(&self) -> &[u8] {
        &self.text[..usize::from(self.text_length)]
    }
}
