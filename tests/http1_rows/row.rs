//! What the rows share: a Switchback with an upstream behind it, and the two outcomes that a request can have.

use crate::{
    explained,
    support::{Broken, Client, Message, Response, Setup, Switchback, Upstream, message::Head, shown},
};

/// The host that the requests of the rows name.
pub const HOST: &str = "a.example";

/// Switchback before an upstream that answers `ok`.
pub struct Row {
    pub switchback: Switchback,
    pub upstream: Upstream,
}

impl Row {
    pub fn new() -> Self {
        Self::with(Setup::new(), Upstream::ok())
    }

    pub fn with(setup: Setup, upstream: Upstream) -> Self {
        Self { switchback: setup.start(&upstream), upstream }
    }

    pub fn client(&self) -> Client {
        self.switchback.client()
    }

    /// The request is refused, and nothing of it reaches the upstream: whether it comes at once, in pieces, or with
    /// so much behind it that a hasty close would eat the answer. If `explain` can be asked about it, it says so, too.
    pub fn refuses(&self, statuses: &[u16], request: impl AsRef<[u8]>) {
        let request = request.as_ref();
        let before = self.upstream.total();
        let third = request.len() / 3;
        let answer = self.refused(statuses, request, |client| client.send(request));
        explained::agrees(&self.switchback, request, &answer);
        self.refused(statuses, request, |client| {
            client.send_split(request, &[1, third, 2 * third, request.len() - 1])
        });
        self.refused(statuses, request, |client| client.send(request).send(vec![b'A'; 60 << 10]));
        assert_eq!(self.upstream.total(), before, "something reached the upstream of {}", shown(request));
    }

    fn refused(
        &self,
        statuses: &[u16],
        request: &[u8],
        send: impl FnOnce(&mut Client) -> &mut Client,
    ) -> Response {
        let mut client = self.client();
        send(&mut client);
        let context = shown(request);
        // A refused HEAD has no body; the method is a known one in these requests, or the whole is refused.
        let method = if request.starts_with(b"HEAD ") { "HEAD" } else { "GET" };
        let response = client.try_response(method);
        let response =
            response.unwrap_or_else(|broken| panic!("{broken:?} instead of a refusal of {context}"));
        assert_refusal(&response, statuses, method == "HEAD", &context);
        assert!(response.closes(), "no `Connection: close` after {context}: {response:?}");
        client.expect_end(&context);
        response
    }

    /// The request is forwarded, and `explain` says so, too; gives what the upstream received. The client's answer is
    /// asserted here.
    pub fn forwards(&self, request: impl AsRef<[u8]>) -> Message {
        let request = request.as_ref();
        let before = self.upstream.messages().len();
        let mut client = self.client();
        let response = client.exchange(request);
        assert_eq!(response.status, 200, "{}: {response:?}", shown(request));
        assert_eq!(response.broken, None, "{}", shown(request));
        crate::support::wait_until("the upstream has read the request", || {
            self.upstream.messages().len() > before
        });
        let message = self.upstream.last();
        assert_eq!(message.broken, None, "{}: {}", shown(request), message.shown());
        assert_ours(&message.head, "127.0.0.1");
        explained::agrees(&self.switchback, request, &response);
        message
    }

    /// Either is right by the RFC; what is not is anything between: a refusal that leaks, or a message that is not
    /// canonical. Answers what was forwarded.
    pub fn refuses_or_forwards(&self, request: impl AsRef<[u8]>) -> Option<Message> {
        let request = request.as_ref();
        let response = self.client().exchange(request);
        if response.status == 200 {
            return Some(self.forwards(request));
        }
        self.refuses(&[400, 505], request);
        None
    }

    /// Ends Switchback, so that all that it ever sent is known, and asserts that it was canonical.
    pub fn finish(self) -> Upstream {
        drop(self.switchback);
        self.upstream.assert_canonical();
        self.upstream
    }
}

/// Asserts a refusal's status and its problem body.
pub fn assert_problem(response: &Response, statuses: &[u16], context: &str) {
    assert_refusal(response, statuses, false, context);
}

/// Asserts a refusal's status and its problem body, which only an answer to HEAD may lack.
fn assert_refusal(response: &Response, statuses: &[u16], to_head: bool, context: &str) {
    assert!(statuses.contains(&response.status), "{} instead of {statuses:?} for {context}", response.status);
    assert_eq!(response.broken, None, "the refusal was cut, of {context}");
    assert_eq!(response.head.one("content-type"), Some("application/problem+json"), "{context}");
    if to_head {
        assert!(response.body.bytes.is_empty(), "a body in answer to {context}");
        return;
    }
    let problem: serde_json::Value = serde_json::from_slice(&response.body.bytes)
        .unwrap_or_else(|error| panic!("{error} in the problem body of {context}: {}", response.text()));
    assert_eq!(problem["status"], response.status, "{context}: {problem}");
}

/// Asserts the fields that Switchback adds by default, for a client at this address.
pub fn assert_ours(head: &Head, client: &str) {
    assert_eq!(head.one("x-forwarded-for"), Some(client), "{head:?}");
    assert_eq!(head.one("x-forwarded-proto"), Some("http"), "{head:?}");
    assert_eq!(head.one("x-forwarded-host"), head.one("host"), "{head:?}");
    // The version is the client's (RFC 9110 7.6.3).
    let via = head.list("via");
    assert!(matches!(via.last().map(String::as_str), Some("1.1 switchback" | "1.0 switchback")), "{head:?}");
}

/// The fields that the client gave: without ours and without the framing.
pub fn client_fields(head: &Head) -> Vec<(&str, &str)> {
    const OURS: [&str; 6] = [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "via",
        "content-length",
        "transfer-encoding",
    ];
    let given = head.fields.iter().filter(|(name, _)| !OURS.contains(&name.to_ascii_lowercase().as_str()));
    given.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// A GET with further field lines, each with its CRLF.
pub fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")
}

/// A POST with further field lines, each with its CRLF, and what follows the head.
pub fn post(fields: &str, rest: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n{rest}")
}

/// Whether a connection ended without pretending that all is well.
pub fn is_cut(broken: Option<&Broken>) -> bool {
    matches!(broken, Some(Broken::Eof | Broken::Reset))
}
