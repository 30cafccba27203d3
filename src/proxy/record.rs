//! What is told of a parsed request: its record for the access log.

use std::{net::SocketAddr, time::SystemTime};

use super::downstream::Downstream;
use crate::{
    model::access_log::LogField,
    routing::{head_view::HeadView, request_view::RequestView, table::Route},
    telemetry::access_log::Record,
};

/// The access log's record of a request, as far as it is known before anything is done about it.
#[cold]
pub(super) fn record(
    downstream: &Downstream,
    view: &HeadView<'_>,
    generation: u64,
    route: Option<&Route>,
) -> Box<Record> {
    let user_agent = view.header("user-agent", 0).unwrap_or_default();
    let referer = view.header("referer", 0).unwrap_or_default();
    let target = view.target;
    let query = target.query.unwrap_or_default();
    let room = 128 + target.path.len() + query.len() + target.host.len() + user_agent.len() + referer.len();
    let version: &[u8] = match (downstream.stream.is_http2(), view.head.is_http11) {
        (true, _) => b"2",
        (false, true) => b"1.1",
        (false, false) => b"1.0",
    };
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
        (LogField::Version, version),
        (LogField::Route, route.map_or("", |route| route.settings.name.as_str()).as_bytes()),
        (LogField::UserAgent, user_agent),
        (LogField::Referer, referer),
    ] {
        record.set(field, text);
    }
    if let Some(tls) = &downstream.peer.tls {
        record.set(LogField::TlsVersion, tls.version.as_bytes());
        record.set(LogField::TlsCipher, tls.cipher.as_bytes());
        record.set(LogField::Sni, tls.server_name.as_deref().unwrap_or_default().as_bytes());
    }
    if let Some(identity) = downstream.peer.identity() {
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
