//! A request that is only talked about: read from a call's JSON and written as the head that a client would send, so
//! that the data plane's own reader judges it.
//!
//! Invariant: what stands in one text of the call stays in its part of the head. No text with a control character is
//! taken, so that none of them can end its line and begin another.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::{
    body::{refuse_any, short},
    problem::{Fault, Problem, pointer_to},
};
use crate::{
    routing::head_view::HeadView,
    wire::{
        fields::LIMITS,
        request::{RequestError, RequestHead},
        target::{self, Target, TargetError},
    },
};

/// The schemes that a request may have.
const SCHEMES: [&str; 2] = ["http", "https"];

/// A request that is only talked about.
#[derive(Debug)]
pub(super) struct Imagined {
    /// Its head.
    bytes: Vec<u8>,
    scheme: &'static str,
    client: IpAddr,
}

/// Why a listener refuses it before any route is looked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Head(#[from] RequestError),
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl Refusal {
    /// The status that a client would get.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Head(error) => error.status(),
            Self::Target(error) => error.status(),
        }
    }
}

impl Imagined {
    /// Reads the members `method`, `scheme`, `host`, `path`, `headers` and `client` of a body: each has a default.
    pub(super) fn read(
        [method, scheme, host, path, headers, client]: [Option<Value>; 6],
    ) -> Result<Self, Problem> {
        let faults = &mut Vec::new();
        let method = text("method", method, "GET", faults);
        if !is_token(&method) {
            faults.push(Fault::at("/method", "a method is a token such as GET"));
        }
        let scheme = text("scheme", scheme, SCHEMES[0], faults);
        let scheme = SCHEMES.into_iter().find(|known| *known == scheme).unwrap_or_else(|| {
            faults.push(Fault::at("/scheme", "the scheme is not one of those allowed").allowing(SCHEMES));
            SCHEMES[0]
        });
        let headers = header_lines(headers, faults);
        let has_field = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = text("host", host, if has_field { "" } else { "localhost" }, faults);
        let path = text("path", path, "/", faults);
        let loopback = Ipv4Addr::LOCALHOST.to_string();
        let client = text("client", client, &loopback, faults).parse().unwrap_or_else(|_| {
            faults.push(Fault::at("/client", "the client is an IP address without a port"));
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        });
        refuse_any(std::mem::take(faults))?;
        // Who names a host and has the field besides asks for a whole URL, as clients ask a proxy.
        let target = match (has_field && !host.is_empty(), path.as_str()) {
            (true, "*") if method == "OPTIONS" => format!("{scheme}://{host}"),
            (true, rest) if rest.starts_with('/') => format!("{scheme}://{host}{rest}"),
            _ => path,
        };
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !has_field && !host.is_empty() {
            push_line(&mut head, "Host", &host);
        }
        headers.iter().for_each(|(name, value)| push_line(&mut head, name, value));
        head.push_str("\r\n");
        Ok(Self { bytes: head.into_bytes(), scheme, client })
    }

    /// Reads it as a listener would, into `head`, and answers what it addresses; `underscores`: whether names may hold any.
    pub(super) fn read_as_sent(
        &self,
        head: &mut RequestHead,
        underscores: bool,
    ) -> Result<Target<'_>, Refusal> {
        // A listener reads no further than this.
        let bytes = &self.bytes[..self.bytes.len().min(LIMITS.head)];
        head.parse(bytes, &LIMITS)?;
        if !underscores {
            head.refuse_underscores()?;
        }
        Ok(target::read(bytes, head, None)?)
    }

    /// The same as the routing layer sees it.
    pub(super) fn view<'a>(&'a self, head: &'a RequestHead, target: &'a Target<'a>) -> HeadView<'a> {
        HeadView { buffer: &self.bytes, head, target, scheme: self.scheme, client: self.client }
    }
}

/// A member that is a text, and can't break the line that it is written to.
fn text(name: &str, value: Option<Value>, default: &str, faults: &mut Vec<Fault>) -> String {
    let wrong = match value {
        None => return default.to_owned(),
        Some(Value::String(text)) if !text.bytes().any(|byte| byte.is_ascii_control()) => return text,
        Some(Value::String(_)) => "a control character has no place in it".to_owned(),
        Some(other) => format!("{} is not a text", short(&other)),
    };
    faults.push(Fault::at(pointer_to(name), wrong));
    default.to_owned()
}

/// `{"name": "value"}`, or a list of values for a field that is repeated.
fn header_lines(value: Option<Value>, faults: &mut Vec<Fault>) -> Vec<(String, String)> {
    let members = match value {
        None => return Vec::new(),
        Some(Value::Object(members)) => members,
        Some(other) => {
            faults.push(Fault::at("/headers", format!("{} is not an object of headers", short(&other))));
            return Vec::new();
        }
    };
    let mut lines = Vec::new();
    for (name, value) in members {
        let pointer = format!("/headers{}", pointer_to(&name));
        if !is_token(&name) {
            faults.push(Fault::at(pointer, "this is not the name of a header"));
            continue;
        }
        let values = if let Value::Array(values) = value { values } else { vec![value] };
        for value in values {
            match value {
                Value::String(text) if !text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') => {
                    lines.push((name.clone(), text));
                }
                other => faults.push(Fault::at(
                    pointer.clone(),
                    format!("{} is not the value of a header: a text without control characters, or a list of them", short(&other)),
                )),
            }
        }
    }
    lines
}

/// Whether a text is a token (RFC 9110 5.6.2).
fn is_token(text: &str) -> bool {
    let may = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(may)
}

fn push_line(head: &mut String, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        head.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::routing::request_view::RequestView;

    fn read(body: Value) -> Result<Imagined, Problem> {
        let Value::Object(mut members) = body else { panic!("a test's body is an object") };
        Imagined::read(
            ["method", "scheme", "host", "path", "headers", "client"].map(|name| members.remove(name)),
        )
    }

    #[test]
    fn is_brought_into_the_form_in_which_requests_are_routed() {
        let read = read(json!({
            "host": "Shop.Example.com:8080", "path": "/a/./%62?x=1",
            "headers": {"Cookie": ["a=1", "b=2"], "Canary": " true "}, "client": "::1",
        }))
        .unwrap();
        let mut head = RequestHead::default();
        let target = read.read_as_sent(&mut head, false).unwrap();
        let view = read.view(&head, &target);
        assert_eq!((view.method(), view.scheme(), view.host()), (&b"GET"[..], "http", "shop.example.com"));
        assert_eq!(target.authority, b"Shop.Example.com:8080");
        assert_eq!((view.path(), view.query()), (&b"/a/b"[..], Some(&b"x=1"[..])));
        assert_eq!((view.cookie("b"), view.header("canary", 0)), (Some(&b"2"[..]), Some(&b"true"[..])));
        assert!(view.client().is_ipv6());
    }

    #[test]
    fn its_host_is_the_members_or_the_fields_or_localhost() {
        for (body, host) in [
            (json!({}), "localhost"),
            (json!({"host": "a.b:80"}), "a.b"),
            (json!({"headers": {"Host": "A.b"}}), "a.b"),
            (json!({"host": "a.b:80", "headers": {"host": "A.B:80"}}), "a.b"),
            (json!({"method": "OPTIONS", "path": "*", "host": "a.b", "headers": {"host": "a.b"}}), "a.b"),
        ] {
            let read = read(body.clone()).unwrap();
            assert_eq!(read.read_as_sent(&mut RequestHead::default(), false).unwrap().host, host, "{body}");
        }
    }

    #[test]
    fn what_a_listener_would_refuse_has_its_status() {
        let status = |body: &Value, underscores: bool| {
            let read = read(body.clone()).unwrap();
            let refusal = read.read_as_sent(&mut RequestHead::default(), underscores).err();
            refusal.map(|refusal| refusal.status())
        };
        for (body, expected) in [
            (json!({"host": ""}), 400),
            (json!({"host": "a b"}), 400),
            (json!({"host": "a.b", "headers": {"Host": "c.d"}}), 400),
            (json!({"host": "a.b", "headers": {"Host": ["a.b", "a.b"]}}), 400),
            (json!({"path": "a"}), 400),
            (json!({"path": "*"}), 400),
            (json!({"path": "/../.."}), 400),
            (json!({"path": "/ HTTP/1.0"}), 400),
            (json!({"path": format!("/{}", "a".repeat(8192))}), 414),
            (json!({"headers": {"a": vec!["x"; 100]}}), 431),
            (json!({"headers": {"a": "x".repeat(1 << 17)}}), 431),
            (json!({"headers": {"a_b": "c"}}), 400),
        ] {
            assert_eq!(status(&body, false), Some(expected), "{body}");
        }
        assert_eq!(status(&json!({"headers": {"a_b": "c"}}), true), None);
        assert_eq!(status(&json!({"headers": {"a": vec!["x"; 99]}}), false), None);
    }

    #[test]
    fn what_can_not_be_written_as_a_head_is_no_request() {
        for (bad, pointer) in [
            (json!({"method": "G T"}), "/method"),
            (json!({"method": ""}), "/method"),
            (json!({"method": 1}), "/method"),
            (json!({"scheme": "ftp"}), "/scheme"),
            (json!({"host": "a\r\nb: c"}), "/host"),
            (json!({"path": "/ HTTP/1.1\r\na: b"}), "/path"),
            (json!({"path": "/\t"}), "/path"),
            (json!({"headers": ["a"]}), "/headers"),
            (json!({"headers": {"a b": "c"}}), "/headers/a b"),
            (json!({"headers": {"a\r\nb": "c"}}), "/headers/a\r\nb"),
            (json!({"headers": {"a": "c\r\nd: e"}}), "/headers/a"),
            (json!({"headers": {"a": ["c", "d\ne"]}}), "/headers/a"),
            (json!({"headers": {"a": "c\u{0}"}}), "/headers/a"),
            (json!({"headers": {"a": 1}}), "/headers/a"),
            (json!({"client": "1.2.3.4:5"}), "/client"),
        ] {
            let problem = format!("{:?}", read(bad.clone()).expect_err("a refusal"));
            assert!(problem.contains(&format!("{pointer:?}")), "{bad}: {problem}");
        }
    }
}
