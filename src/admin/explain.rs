//! `POST /v1/explain`: what a request would get, and why, without sending it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
};
use serde_json::Value;

use super::{
    body::{self, refuse_any, short},
    problem::{Fault, Problem, pointer_to},
    query,
    router::Admin,
};
use crate::{
    health::{board::Health, report::EndpointReport},
    model::{host, name::Name, path},
    routing::{
        explain::{self, Explanation},
        request_view::RequestView,
    },
};

/// The most header lines of a request that is explained: as many as a real one may have.
const MAX_HEADERS: usize = 100;
/// The longest path with its query: as long as a real request's may be.
const MAX_TARGET: usize = 8 << 10;

/// A request that is only talked about.
#[derive(Debug, PartialEq, Eq)]
struct Imagined {
    method: String,
    scheme: String,
    host: String,
    /// The host as it was given, with its port.
    authority: String,
    /// Bytes of the path and query as they were given.
    target_length: usize,
    path: Vec<u8>,
    query: Option<Vec<u8>>,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    client: IpAddr,
}

/// Explains.
pub async fn explain(
    State(admin): State<Admin>,
    request: Request<Body>,
) -> Result<Json<Explanation>, Problem> {
    query::none(request.uri())?;
    let members =
        body::object(request).await?.members(["method", "scheme", "host", "path", "headers", "client"])?;
    let imagined = Imagined::read(members)?;
    let snapshot = admin.control.snapshot();
    let underscores = snapshot.config.listeners.iter().any(|listener| listener.allow_underscores);
    Ok(Json(match imagined.refusal(underscores) {
        Some((status, why)) => explain::refused(&snapshot.table, status, why),
        None => {
            let mut story = explain::explain(&snapshot.table, &imagined, &imagined.authority);
            tell_health(&mut story, &admin.health);
            story
        }
    }))
}

/// Adds what is known of why endpoints take no requests.
fn tell_health(story: &mut Explanation, health: &Health) {
    let out = story.endpoints.iter().filter(|endpoint| !endpoint.healthy || endpoint.ejected);
    let pools: BTreeSet<Name> = out.map(|endpoint| endpoint.pool.clone()).collect();
    for pool in pools {
        let reports = health.endpoints(pool.as_str());
        for endpoint in story.endpoints.iter_mut().filter(|endpoint| endpoint.pool == pool) {
            endpoint.why = reports.get(&endpoint.address).and_then(EndpointReport::why_out);
        }
    }
}

impl Imagined {
    /// Reads the members of the body: everything has a default.
    fn read([method, scheme, host, path, headers, client]: [Option<Value>; 6]) -> Result<Self, Problem> {
        let faults = &mut Vec::new();
        let method = text("method", method, "GET", faults);
        if method.is_empty() || !method.bytes().all(is_token) {
            faults.push(Fault::at("/method", "a method is a token such as GET"));
        }
        let scheme = text("scheme", scheme, "http", faults);
        if !matches!(scheme.as_str(), "http" | "https") {
            faults.push(
                Fault::at("/scheme", "the scheme is not one of those allowed").allowing(["http", "https"]),
            );
        }
        let headers = header_lines(headers, faults);
        // Without a host of its own it is the field's, as for a request that has no URL in its first line.
        let field = headers.iter().find(|(name, _)| name == "host").map_or("", |(_, value)| value);
        let authority = text("host", host, field, faults);
        let host = normal_host(&authority, faults);
        let target = text("path", path, "/", faults);
        let target_length = target.len();
        let (path, query) = normal_path(&target, faults);
        let loopback = Ipv4Addr::LOCALHOST.to_string();
        let client = text("client", client, &loopback, faults).parse().unwrap_or_else(|_| {
            faults.push(Fault::at("/client", "the client is an IP address without a port"));
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        });
        refuse_any(std::mem::take(faults))?;
        Ok(Self { method, scheme, host, authority, target_length, path, query, headers, client })
    }

    /// The status and the reason with which a listener would refuse it before any route is looked for (the rules are
    /// those of `docs/http.md`). `underscores`: whether any listener takes names with underscores.
    fn refusal(&self, underscores: bool) -> Option<(u16, &'static str)> {
        let has = |name| self.header(name, 0).is_some();
        let is_length = |value: &[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if self.target_length > MAX_TARGET {
            return Some((414, "its path and query have over 8 KiB"));
        }
        if matches!(self.method.as_str(), "CONNECT" | "TRACE") {
            return Some((405, "CONNECT and TRACE are not for a reverse proxy"));
        }
        let malformed = if self.path == b"*" && self.method != "OPTIONS" {
            "only OPTIONS may ask for *"
        } else if self.header("host", 1).is_some() {
            "it has Host twice"
        } else if self
            .header("host", 0)
            .is_some_and(|host| !host.eq_ignore_ascii_case(self.authority.as_bytes()))
        {
            "its Host field names another host than its URL"
        } else if has("content-length") && has("transfer-encoding") {
            "it has both Content-Length and Transfer-Encoding"
        } else if self.header("content-length", 0).is_some_and(|value| !is_length(value)) {
            "its Content-Length is no number"
        } else if self
            .header("transfer-encoding", 0)
            .is_some_and(|value| !value.eq_ignore_ascii_case(b"chunked"))
        {
            "its Transfer-Encoding is not chunked alone"
        } else if !underscores && self.headers.iter().any(|(name, _)| name.contains('_')) {
            "a field name has an underscore, which no listener allows"
        } else {
            return None;
        };
        Some((400, malformed))
    }
}

fn text(name: &str, value: Option<Value>, default: &str, faults: &mut Vec<Fault>) -> String {
    match value {
        None => default.to_owned(),
        Some(Value::String(text)) => text,
        Some(other) => {
            faults.push(Fault::at(pointer_to(name), format!("{} is not a text", short(&other))));
            default.to_owned()
        }
    }
}

/// The host in the form in which a request's is routed. An empty one is an HTTP/1.0 request's that has none.
fn normal_host(text: &str, faults: &mut Vec<Fault>) -> String {
    if text.is_empty() {
        return String::new();
    }
    match host::parse(text.as_bytes()) {
        Ok(parsed) => parsed.host.into_owned(),
        Err(error) => {
            faults.push(Fault::at("/host", error.to_string()));
            String::new()
        }
    }
}

/// The path in the form in which a request's is routed, and the query behind its `?`.
fn normal_path(text: &str, faults: &mut Vec<Fault>) -> (Vec<u8>, Option<Vec<u8>>) {
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query.as_bytes().to_vec())),
        None => (text, None),
    };
    if path == "*" {
        return (path.into(), query);
    }
    let mut normal = Vec::new();
    match path::normalise(path.as_bytes(), &mut normal) {
        Ok(true) => {}
        Ok(false) => normal = path.into(),
        Err(error) => faults.push(Fault::at("/path", error.to_string())),
    }
    (normal, query)
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
        if name.is_empty() || !name.bytes().all(is_token) {
            faults.push(Fault::at(pointer, "this is not the name of a header"));
            continue;
        }
        let values = if let Value::Array(values) = value { values } else { vec![value] };
        for value in values {
            match value {
                Value::String(text) if !text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') => {
                    lines.push((name.to_ascii_lowercase(), text.trim().to_owned()));
                }
                other => faults.push(Fault::at(
                    pointer.clone(),
                    format!("{} is not the value of a header: a text without control characters, or a list of them", short(&other)),
                )),
            }
        }
    }
    if lines.len() > MAX_HEADERS {
        faults.push(Fault::at("/headers", format!("a request has at most {MAX_HEADERS} header lines")));
    }
    lines
}

/// Whether a byte may stand in a token (RFC 9110 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl RequestView for Imagined {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn scheme(&self) -> &str {
        &self.scheme
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn path(&self) -> &[u8] {
        &self.path
    }

    fn query(&self) -> Option<&[u8]> {
        self.query.as_deref()
    }

    fn header(&self, name: &str, nth: usize) -> Option<&[u8]> {
        let mut lines = self.headers.iter().filter(|(of, _)| of == name);
        lines.nth(nth).map(|(_, value)| value.as_bytes())
    }

    fn client(&self) -> IpAddr {
        self.client
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        assert_eq!((read.method(), read.scheme(), read.host()), (&b"GET"[..], "http", "shop.example.com"));
        assert_eq!((read.path(), read.query()), (&b"/a/b"[..], Some(&b"x=1"[..])));
        assert_eq!((read.cookie("b"), read.header("canary", 0)), (Some(&b"2"[..]), Some(&b"true"[..])));
        assert!(read.client().is_ipv6());
        let named = self::read(json!({"headers": {"Host": "A.b"}})).unwrap();
        assert_eq!((named.host(), named.refusal(false)), ("a.b", None));
    }

    #[test]
    fn what_a_listener_would_refuse_has_its_status() {
        let status = |body: Value| read(body).unwrap().refusal(false).map(|(status, _)| status);
        for (body, expected) in [
            (json!({"host": "a.b:80", "headers": {"host": "A.B:80", "content-length": "1"}}), None),
            (json!({"method": "OPTIONS", "path": "*"}), None),
            (json!({"method": "TRACE"}), Some(405)),
            (json!({"method": "CONNECT"}), Some(405)),
            (json!({"path": format!("/{}", "a".repeat(8192))}), Some(414)),
            (json!({"path": "*"}), Some(400)),
            (json!({"host": "a.b", "headers": {"Host": "c.d"}}), Some(400)),
            (json!({"host": "a.b", "headers": {"Host": ["a.b", "a.b"]}}), Some(400)),
            (json!({"headers": {"content-length": "1", "transfer-encoding": "chunked"}}), Some(400)),
            (json!({"headers": {"content-length": "+1"}}), Some(400)),
            (json!({"headers": {"transfer-encoding": "gzip, chunked"}}), Some(400)),
            (json!({"headers": {"a_b": "c"}}), Some(400)),
        ] {
            assert_eq!(status(body.clone()), expected, "{body}");
        }
        assert_eq!(read(json!({"headers": {"a_b": "c"}})).unwrap().refusal(true), None);
    }

    #[test]
    fn what_no_request_could_be_is_refused() {
        for bad in [
            json!({"method": "G T"}),
            json!({"method": 1}),
            json!({"scheme": "ftp"}),
            json!({"host": "a b"}),
            json!({"path": "/../.."}),
            json!({"path": "a"}),
            json!({"headers": ["a"]}),
            json!({"headers": {"a b": "c"}}),
            json!({"headers": {"a": "c\r\nd: e"}}),
            json!({"headers": {"a": 1}}),
            json!({"headers": {"a": vec!["x"; 101]}}),
            json!({"client": "1.2.3.4:5"}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
