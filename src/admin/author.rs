//! Who makes a call, and why: what is written into the history.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Request},
};
use serde_json::Value;
use tokio::net::unix::UCred;

use super::{
    access::Caller,
    body::{Object, refuse_any},
    problem::{Fault, Problem},
};
use crate::{
    control::change::{Author, Origin},
    tls::Identity,
};

/// The field in which a caller gives a reason, as the member `reason` of a body does.
const REASON: &str = "x-reason";
/// The field by which the command line is known.
pub const CLIENT: &str = "x-switchback-client";
/// The longest reason, in characters.
pub const MAX_REASON: usize = 1_000;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    who: Arc<str>,
    address: Option<IpAddr>,
    /// The subject and the names of its certificate.
    proven: Arc<[String]>,
}

impl Peer {
    /// A client on the network. Its port tells nobody anything.
    pub fn tcp(address: SocketAddr) -> Self {
        let address = address.ip();
        Self { who: address.to_string().into(), address: Some(address), proven: Arc::default() }
    }

    /// A client over TLS. If it has shown a certificate, the subject says more of it than its address.
    pub fn tls(address: SocketAddr, identity: Option<&Identity>) -> Self {
        let Some(identity) = identity else { return Self::tcp(address) };
        let Identity { subject, names, fingerprint, .. } = identity;
        let who = if subject.is_empty() { fingerprint } else { subject };
        let names = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        let subject = Some(subject.clone()).filter(|subject| !subject.is_empty());
        Self {
            who: who.as_str().into(),
            address: Some(address.ip()),
            proven: subject.into_iter().chain(names).collect(),
        }
    }

    /// The subject and the names of its certificate, as the file of the settings writes them.
    pub(super) fn proven(&self) -> &[String] {
        &self.proven
    }

    /// A process on this machine, as the kernel knows it.
    pub fn unix(credentials: std::io::Result<UCred>) -> Self {
        let who = match credentials {
            Ok(known) => match known.pid() {
                Some(pid) => format!("uid {} pid {pid}", known.uid()),
                None => format!("uid {}", known.uid()),
            },
            Err(_) => "a unix socket".to_owned(),
        };
        Self { who: who.into(), address: None, proven: Arc::default() }
    }

    /// Its address; none for a unix socket.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

/// The author of a request, by its fields and its connection.
pub(super) fn of(request: &Request<Body>) -> Result<Author, Problem> {
    let fields: &HeaderMap = request.headers();
    let is_cli = fields.get(CLIENT).is_some_and(|client| client == "cli");
    // Whose token it is says more than where it came from.
    let peer = || request.extensions().get::<Peer>().map(|peer| peer.who.to_string());
    let who = request.extensions().get::<Caller>().map(|Caller(name)| name.to_string()).or_else(peer);
    let reason = fields.get(REASON).map(read).transpose()?;
    Ok(Author { origin: if is_cli { Origin::Cli } else { Origin::Api }, who, reason })
}

/// Takes the reason out of a body; it counts before that of the field.
pub(super) fn take_reason(body: &mut Object) -> Result<Option<String>, Problem> {
    let Some(Value::String(reason)) = body.take_text("reason") else { return Ok(None) };
    if !is_short(&reason) {
        let detail = format!("a reason has at most {MAX_REASON} characters");
        refuse_any(vec![Fault::at("/reason", detail)])?;
    }
    Ok(Some(reason.trim().to_owned()))
}

fn read(field: &HeaderValue) -> Result<String, Problem> {
    let text = std::str::from_utf8(field.as_bytes()).ok().filter(|text| is_short(text));
    text.map(|text| text.trim().to_owned()).ok_or_else(|| {
        let detail = format!("X-Reason is not UTF-8, or longer than {MAX_REASON} characters");
        Problem::new(axum::http::StatusCode::BAD_REQUEST, "invalid-field", "A field can't be read", detail)
    })
}

fn is_short(reason: &str) -> bool {
    reason.chars().count() <= MAX_REASON
}
