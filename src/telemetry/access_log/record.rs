//! What is logged of one request.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use crate::model::access_log::LogField;

/// How many of the fields are texts.
const TEXTS: usize = 21;
/// A text is cut off after so many bytes. Targets may have 8 KiB; a line that long helps nobody.
const MAX_TEXT: usize = 2048;

/// One request as it is logged. All of its texts share one allocation.
#[derive(Debug, Clone)]
pub struct Record {
    /// When the request's head had come.
    pub time: SystemTime,
    /// The client, behind trusted proxies.
    pub client: Option<SocketAddr>,
    /// The status that was sent; 0 if none was.
    pub status: u16,
    /// The endpoint of the last attempt.
    pub endpoint: Option<SocketAddr>,
    /// Attempts, the first one included; 0 if nothing was forwarded.
    pub attempts: u32,
    /// The generation of the routing table that decided it.
    pub generation: u64,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// From the request's head to the response's head; `None` if there was none.
    pub first_byte: Option<Duration>,
    /// From the request's head to the end.
    pub duration: Duration,
    /// The texts, one after the other, by `spans`.
    texts: Vec<u8>,
    /// Where the text of each field begins and ends in `texts`.
    spans: [(u16, u16); TEXTS],
}

impl Default for Record {
    fn default() -> Self {
        Self {
            time: SystemTime::UNIX_EPOCH,
            client: None,
            status: 0,
            endpoint: None,
            attempts: 0,
            generation: 0,
            bytes_received: 0,
            bytes_sent: 0,
            first_byte: None,
            duration: Duration::ZERO,
            texts: Vec::new(),
            spans: [(0, 0); TEXTS],
        }
    }
}

impl Record {
    /// An empty record with room for so many bytes of text, so that setting its texts allocates once.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { texts: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Sets a text, of at most 2 KiB: what is beyond is cut off. A field that is no text (see the public fields) is
    /// left alone.
    pub fn set(&mut self, field: LogField, text: &[u8]) {
        let Some(place) = place(field) else {
            debug_assert!(false, "{field:?} is no text");
            return;
        };
        let text = &text[..text.len().min(MAX_TEXT)];
        let position = |length: usize| u16::try_from(length);
        // A field that is set again and again could fill the room; the first so many are kept.
        if let (Ok(start), Ok(end)) = (position(self.texts.len()), position(self.texts.len() + text.len())) {
            self.texts.extend_from_slice(text);
            self.spans[place] = (start, end);
        }
    }

    /// A text that was set, else the empty one.
    pub(super) fn text(&self, field: LogField) -> &[u8] {
        let (start, end) = place(field).map_or((0, 0), |place| self.spans[place]);
        &self.texts[usize::from(start)..usize::from(end)]
    }
}

/// Where a text field's span stands; `None` for a field that is no text.
fn place(field: LogField) -> Option<usize> {
    Some(match field {
        LogField::Listener => 0,
        LogField::Method => 1,
        LogField::Scheme => 2,
        LogField::Host => 3,
        LogField::Path => 4,
        LogField::Query => 5,
        LogField::Version => 6,
        LogField::Route => 7,
        LogField::Split => 8,
        LogField::Pool => 9,
        LogField::RequestId => 10,
        LogField::UserAgent => 11,
        LogField::Referer => 12,
        LogField::Outcome => 13,
        LogField::Timeout => 14,
        LogField::TlsVersion => 15,
        LogField::TlsCipher => 16,
        LogField::Sni => 17,
        LogField::ClientSubject => 18,
        LogField::ClientNames => 19,
        LogField::ClientFingerprint => 20,
        LogField::Time
        | LogField::Client
        | LogField::Status
        | LogField::Endpoint
        | LogField::Attempts
        | LogField::Generation
        | LogField::BytesReceived
        | LogField::BytesSent
        | LogField::FirstByteSeconds
        | LogField::DurationSeconds => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_apart_and_cut_off() {
        let mut record = Record::with_capacity(64);
        record.set(LogField::Host, b"a.b");
        record.set(LogField::Path, &[b'x'; 5_000]);
        record.set(LogField::Query, b"");
        assert_eq!(record.text(LogField::Host), b"a.b");
        assert_eq!(record.text(LogField::Path).len(), MAX_TEXT);
        assert_eq!(record.text(LogField::Query), b"");
        assert_eq!(record.text(LogField::Referer), b"");
        for _ in 0..100 {
            record.set(LogField::Path, &[b'y'; MAX_TEXT]);
        }
        assert!(record.texts.len() <= usize::from(u16::MAX));
        assert_eq!(record.text(LogField::Host), b"a.b");
    }
}
