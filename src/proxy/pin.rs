//! What a response brings of its request's session: the cookie that holds its pin, and the field for who asked by it.
//!
//! Invariant: lines are added, and nothing that the upstream said is touched. A client whose pin is good gets no
//! cookie.

use super::{handler::Request, worker::Worker};
use crate::{
    config::{SameSite, Sticky},
    routing::{head_view::HeadView, pins::Session},
    wire::{emit, fields::Known},
};

/// A request's session.
#[derive(Debug, Clone, Copy)]
pub(super) struct InSession {
    session: Session,
    /// The client came over TLS: to here, or to a trusted proxy before.
    is_secure: bool,
}

impl InSession {
    /// The session of a request.
    pub(super) fn new(session: Session, view: &HeadView<'_>, is_trusted: bool) -> Self {
        use crate::routing::request_view::RequestView;
        let mut lines = view.head.fields.lines.iter().filter(|_| is_trusted);
        let said = lines.rfind(|field| field.known == Known::XForwardedProto);
        let scheme = said.map_or(view.scheme().as_bytes(), |field| field.value.of(view.buffer));
        Self { session, is_secure: scheme.eq_ignore_ascii_case(b"https") }
    }

    /// The session itself.
    pub(super) fn session(self) -> Session {
        self.session
    }
}

/// Adds what the client gets of its pin to a final response's head, which ends `out` with its empty line.
#[cold]
pub(super) fn add(out: &mut Vec<u8>, request: &Request, worker: &Worker) {
    let (Some(InSession { session, is_secure }), Some(arm)) = (request.session, request.arm) else { return };
    let table = &request.routed.table;
    let split = &table.splits[arm.0];
    let Some(sticky) = &split.settings.sticky else { return };
    let due = session.due(sticky.to, arm.1, request.lease.id);
    if due.is_none() && !session.has_field {
        return;
    }
    let Some(pin) = session.pin(table, arm, &request.lease) else { return };
    out.truncate(out.len() - b"\r\n".len());
    if let Some(why) = due {
        write_cookie(out, sticky, pin.as_bytes(), is_secure);
        session.count(&mut worker.routing.borrow_mut().series, &split.arms[arm.1], why);
    }
    if session.has_field {
        emit::line(out, b"X-Switchback-Pin", pin.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes `Set-Cookie` (RFC 6265 4.1).
fn write_cookie(out: &mut Vec<u8>, sticky: &Sticky, pin: &[u8], is_secure: bool) {
    for part in [b"Set-Cookie: ", sticky.cookie.as_bytes(), b"=", pin, b"; Path=", sticky.path.as_bytes()] {
        out.extend_from_slice(part);
    }
    if let Some(domain) = &sticky.domain {
        out.extend_from_slice(b"; Domain=");
        out.extend_from_slice(domain.as_bytes());
    }
    if let Some(ttl) = sticky.ttl {
        out.extend_from_slice(b"; Max-Age=");
        emit::decimal(out, ttl.as_secs().max(1));
    }
    if sticky.http_only {
        out.extend_from_slice(b"; HttpOnly");
    }
    // Browsers take no SameSite=None that is not Secure.
    if sticky.secure.unwrap_or(is_secure || sticky.same_site == SameSite::None) {
        out.extend_from_slice(b"; Secure");
    }
    out.extend_from_slice(match sticky.same_site {
        SameSite::Lax => b"; SameSite=Lax\r\n",
        SameSite::Strict => b"; SameSite=Strict\r\n",
        SameSite::None => b"; SameSite=None\r\n",
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_cookie_has_the_attributes_of_its_split() {
        let plain = Sticky::named("sb_shop");
        let full = Sticky {
            ttl: Some(Duration::from_secs(3600)),
            path: "/shop".into(),
            domain: Some("example.com".into()),
            http_only: false,
            same_site: SameSite::Strict,
            ..plain.clone()
        };
        let none = Sticky { same_site: SameSite::None, ..plain.clone() };
        for (sticky, is_secure, line) in [
            (&plain, false, "sb_shop=v1.x; Path=/; HttpOnly; SameSite=Lax"),
            (&plain, true, "sb_shop=v1.x; Path=/; HttpOnly; Secure; SameSite=Lax"),
            (
                &Sticky { secure: Some(false), ..plain.clone() },
                true,
                "sb_shop=v1.x; Path=/; HttpOnly; SameSite=Lax",
            ),
            (&full, false, "sb_shop=v1.x; Path=/shop; Domain=example.com; Max-Age=3600; SameSite=Strict"),
            (&none, false, "sb_shop=v1.x; Path=/; HttpOnly; Secure; SameSite=None"),
        ] {
            let mut out = Vec::new();
            write_cookie(&mut out, sticky, b"v1.x", is_secure);
            assert_eq!(String::from_utf8_lossy(&out), format!("Set-Cookie: {line}\r\n"));
        }
    }
}
