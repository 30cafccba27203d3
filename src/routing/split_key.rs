//! What a split with a key buckets a request by.

use std::fmt;

use super::request_view::RequestView;
use crate::config::SplitKey;

/// What buckets a request, if it has it: an empty value is as good as none.
#[inline]
pub(super) fn key_of<'a>(
    key: &SplitKey,
    request: &'a impl RequestView,
    client: &'a mut ClientKey,
) -> Option<&'a [u8]> {
    let value = match key {
        SplitKey::Cookie(name) => request.cookie(name)?,
        SplitKey::Header(name) => request.header(name, 0)?,
        SplitKey::ClientIp => {
            // One client is one key, whether it came over IPv4 or over IPv4 in IPv6.
            fmt::write(client, format_args!("{}", request.client().to_canonical()))
                .expect("there is room for any address");
            &client.text[..client.length]
        }
    };
    (!value.is_empty()).then_some(value)
}

/// Room for a client address as text, so that taking it as a key allocates nothing.
#[derive(Debug)]
pub(super) struct ClientKey {
    text: [u8; Self::LEN],
    length: usize,
}

impl ClientKey {
    /// The longest text of an IP address.
    const LEN: usize = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".len();
}

impl Default for ClientKey {
    fn default() -> Self {
        Self { text: [0; Self::LEN], length: 0 }
    }
}

impl fmt::Write for ClientKey {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.text.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
