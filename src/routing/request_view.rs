//! The little that a decision needs to know of a request, whatever protocol it came in.

use std::net::IpAddr;

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

    /// The value of a cookie: of the first pair with that name.
    fn cookie(&self, name: &str) -> Option<&[u8]> {
        let mut nth = 0;
        while let Some(line) = self.header("cookie", nth) {
            for pair in line.split(|byte| *byte == b';') {
                let pair = pair.trim_ascii();
                if let Some(value) =
                    pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
                {
                    return Some(value);
                }
            }
            nth += 1;
        }
        None
    }
}
