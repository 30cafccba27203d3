//! The little that a decision needs to know of a request, whatever protocol it came in.

use std::net::IpAddr;

/// What the head of a request says of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnouncedBody {
    /// There is none.
    None,
    /// It has so many bytes.
    Length(u64),
    /// How long it is only its end will tell.
    Unknown,
}

/// A request as the routing layer sees it. Hosts and paths are normalised before they come here.
pub trait RequestView {
    /// The method, as written.
    fn method(&self) -> &[u8];
    /// `http` or `https`.
    fn scheme(&self) -> &str;
    /// The host: lower case, without port, IPv6 in brackets; empty if there is none.
    fn host(&self) -> &str;
    /// The path, normalised; `*` for `OPTIONS *`.
    fn path(&self) -> &[u8];
    /// The query without its `?`, as written; `None` without a `?`.
    fn query(&self) -> Option<&[u8]>;
    /// The value of the `nth` (from 0) field line of a name (given in lower case), without white space around it.
    fn header(&self, name: &str, nth: usize) -> Option<&[u8]>;
    /// The client's address, behind trusted proxies.
    fn client(&self) -> IpAddr;
    /// What is to be expected of its body.
    fn body(&self) -> AnnouncedBody;
    /// Whether it asks to change to one of the protocols in its `Upgrade` fields, and may.
    fn asks_to_upgrade(&self) -> bool;

    /// The value of a cookie: of the first pair with that name.
    fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.cookies(name).next()
    }

    /// The values of all cookies of a name, in order.
    fn cookies<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let lines = (0..).map_while(|nth| self.header("cookie", nth));
        let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
        pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }
}
