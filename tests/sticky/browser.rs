//! A client with a cookie jar, as small as it can be.

use std::fmt::Write;

use crate::support::{Client, Response, Switchback, Upstream, config::blue_green, upstream::response};

/// What keeps one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jar {
    /// `name=value` of the cookie that was set last.
    pub cookie: Option<String>,
}

/// What a request of a session came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// What the upstream said: the name of its pool.
    pub pool: String,
    /// The whole `Set-Cookie`, if the response set one.
    pub issued: Option<String>,
}

impl Jar {
    /// Makes a request of this session and keeps the cookie that comes back.
    pub fn visit(&mut self, client: &mut Client) -> Visit {
        self.visit_with(client, "")
    }

    /// The same with further fields, each with its end.
    pub fn visit_with(&mut self, client: &mut Client, fields: &str) -> Visit {
        let (visit, _) = self.exchange(client, "/", fields);
        visit
    }

    /// The same for a target; answers the whole response, too.
    pub fn exchange(&mut self, client: &mut Client, target: &str, fields: &str) -> (Visit, Response) {
        let mut request = format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{fields}");
        if let Some(cookie) = &self.cookie {
            write!(request, "Cookie: {cookie}\r\n").expect("text grows");
        }
        request.push_str("\r\n");
        let response = client.exchange(request).whole();
        assert_eq!(response.status, 200, "{response:?}");
        let issued = response.head.one("set-cookie").map(str::to_owned);
        if let Some(issued) = &issued {
            self.cookie = Some(issued.split(';').next().unwrap_or_default().to_owned());
        }
        (Visit { pool: response.text(), issued }, response)
    }

    /// The pin itself.
    pub fn pin(&self) -> &str {
        let (_, pin) =
            self.cookie.as_deref().and_then(|cookie| cookie.split_once('=')).expect("a cookie was set");
        pin
    }
}

/// An upstream that answers with the name of its pool.
pub fn named(name: &'static str) -> Upstream {
    Upstream::answering(response(200, name.as_bytes()))
}

/// A Switchback with the sticky split `main` over `blue` and `green`; `sticky` is what stands in the braces.
pub fn sticky(
    workers: usize,
    weights: (u32, u32),
    sticky: &str,
    blue: &Upstream,
    green: &Upstream,
) -> Switchback {
    Switchback::start(&config(workers, weights, sticky, blue, green))
}

/// Its file.
pub fn config(
    workers: usize,
    weights: (u32, u32),
    sticky: &str,
    blue: &Upstream,
    green: &Upstream,
) -> String {
    blue_green(workers, weights, &format!("sticky = {{ {sticky} }}"), blue, green)
}

/// A session that is pinned to a pool: opened again and again until the draw falls on it.
pub fn session_on(pool: &str, client: &mut Client) -> Jar {
    for _ in 0..1000 {
        let mut jar = Jar::default();
        if jar.visit(client).pool == pool {
            return jar;
        }
    }
    panic!("no new session came to {pool}");
}
