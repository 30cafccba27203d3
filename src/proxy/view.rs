//! A parsed HTTP/1.1 request, as the routing layer and the access log see it.

use std::{
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

use super::downstream::Downstream;
use crate::{
    model::access_log::LogField,
    routing::{
        request_view::{AnnouncedBody, RequestView},
        table::Route,
    },
    telemetry::access_log::Record,
    wire::{
        request::{RequestBody, RequestHead},
        target::Target,
    },
};

/// A request and where its parts stand.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// The bytes that the head was parsed from.
    pub(super) buffer: &'a [u8],
    /// The head.
    pub(super) head: &'a RequestHead,
    /// What it addresses.
    pub(super) target: &'a Target<'a>,
    /// The client, behind trusted proxies.
    pub(super) client: IpAddr,
    /// The scheme that it used: `http`, unless a trusted proxy in between ended its TLS.
    pub(super) scheme: &'static str,
}

impl RequestView for View<'_> {
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

/// The access log's record of a request, as far as it is known before anything is done about it.
#[cold]
pub(super) fn record(
    downstream: &Downstream,
    view: &View<'_>,
    generation: u64,
    route: Option<&Route>,
) -> Box<Record> {
    let user_agent = view.header("user-agent", 0).unwrap_or_default();
    let referer = view.header("referer", 0).unwrap_or_default();
    let target = view.target;
    let query = target.query.unwrap_or_default();
    let room = 128 + target.path.len() + query.len() + target.host.len() + user_agent.len() + referer.len();
    let mut record = Record::with_capacity(room);
    record.time = SystemTime::now();
    record.client = Some(SocketAddr::new(view.client, downstream.peer.port));
    record.generation = generation;
    for (field, text) in [
        (LogField::Listener, downstream.listener.name.as_str().as_bytes()),
        (LogField::Method, view.method()),
        (LogField::Scheme, view.scheme().as_bytes()),
        (LogField::Host, target.host.as_bytes()),
        (LogField::Path, &target.path),
        (LogField::Query, query),
        (LogField::Version, if view.head.is_http11 { b"1.1" } else { b"1.0" }),
        (LogField::Route, route.map_or("", |route| route.settings.name.as_str()).as_bytes()),
        (LogField::UserAgent, user_agent),
        (LogField::Referer, referer),
    ] {
        record.set(field, text);
    }
    if let Some(tls) = downstream.stream.tls() {
        record.set(LogField::TlsVersion, tls.version().as_bytes());
        record.set(LogField::TlsCipher, tls.cipher().as_bytes());
        record.set(LogField::Sni, tls.server_name().unwrap_or_default().as_bytes());
    }
    if let Some(identity) = &downstream.peer.identity {
        record.set(LogField::ClientSubject, identity.subject.as_bytes());
        record.set(LogField::ClientNames, identity.names.as_bytes());
        record.set(LogField::ClientFingerprint, identity.fingerprint.as_bytes());
    }
    Box::new(record)
}

/// Counts a request that is refused before its route is known, and logs it: of what it asked for nothing is certain.
#[cold]
pub(super) fn count_refused(downstream: &Downstream, status: u16) {
    downstream.worker.counts.refused.add(1);
    if downstream.worker.is_logged() {
        let mut record = Record::with_capacity(64);
        record.time = SystemTime::now();
        record.client = Some(SocketAddr::new(downstream.peer.ip, downstream.peer.port));
        record.status = status;
        record.set(LogField::Listener, downstream.listener.name.as_str().as_bytes());
        record.set(LogField::Outcome, b"refused");
        downstream.worker.log(Box::new(record));
    }
}
