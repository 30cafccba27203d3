//! A parsed HTTP/1.1 head as a request: what a client sent, and what a call of the admin API only talks about, are read
//! alike.

use std::net::IpAddr;

use super::request_view::{AnnouncedBody, RequestView};
use crate::wire::{
    request::{RequestBody, RequestHead},
    target::Target,
};

/// A request and where its parts stand.
#[derive(Debug, Clone, Copy)]
pub struct HeadView<'a> {
    /// The bytes that the head was parsed from.
    pub buffer: &'a [u8],
    /// The head.
    pub head: &'a RequestHead,
    /// What it addresses.
    pub target: &'a Target<'a>,
    /// The client, behind trusted proxies.
    pub client: IpAddr,
    /// The scheme that it used: `http`, unless a trusted proxy in between ended its TLS.
    pub scheme: &'static str,
}

impl RequestView for HeadView<'_> {
    fn method(&self) -> &[u8] {
        self.head.method.of(self.buffer)
    }

    fn scheme(&self) -> &str {
        self.scheme
    }

    fn host(&self) -> &str {
        &self.target.host
    }

    fn path(&self) -> &[u8] {
        &self.target.path
    }

    fn query(&self) -> Option<&[u8]> {
        self.target.query
    }

    fn header(&self, name: &str, nth: usize) -> Option<&[u8]> {
        self.head.fields.value(self.buffer, name, nth)
    }

    fn client(&self) -> IpAddr {
        self.client
    }

    #[inline]
    fn body(&self) -> AnnouncedBody {
        match self.head.body {
            RequestBody::None => AnnouncedBody::None,
            RequestBody::Length(length) => AnnouncedBody::Length(length),
            RequestBody::Chunked => AnnouncedBody::Unknown,
        }
    }

    #[inline]
    fn asks_to_upgrade(&self) -> bool {
        self.head.fields.connection.upgrade && self.head.is_http11
    }
}
