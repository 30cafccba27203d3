//! Where frames begin and end in the bytes of a connection (RFC 9113 4.1): for who counts them.
//!
//! Invariant: it judges nothing. What is no frame is found out by who reads it.

/// Follows the frames of one direction.
#[derive(Debug)]
pub(super) struct Frames {
    head: [u8; 9],
    have: usize,
    /// Bytes of the frame in progress that are still to come.
    left: usize,
    /// Whether the frame in progress holds field lines.
    has_fields: bool,
    /// Whether a block of fields is to be continued in the next frame.
    is_continued: bool,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// The length of its payload.
    pub(super) length: usize,
    /// What it is.
    pub(super) kind: Kind,
    /// Whether it has `END_STREAM` (or, of PING and SETTINGS, `ACK`).
    pub(super) is_last: bool,
}

/// What a frame is (RFC 9113 6), as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Continuation,
    ResetStream,
    GoAway,
    Other,
}

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Frames {
    /// Frames that begin after so many bytes.
    pub(super) fn after(bytes: usize) -> Self {
        Self { head: [0; 9], have: 0, left: bytes, has_fields: false, is_continued: false }
    }

    /// Whether a block of fields has begun and not ended.
    pub(super) fn is_within_fields(&self) -> bool {
        self.is_continued || self.has_fields && self.left > 0
    }

    /// Whether another frame may stand here: the last is whole, and no block of fields is to be continued.
    pub(super) fn is_between(&self) -> bool {
        self.left == 0 && self.have == 0 && !self.is_continued
    }

    /// Follows bytes, and says which frames begin in them.
    pub(super) fn follow(&mut self, mut bytes: &[u8], mut each: impl FnMut(FrameHead)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let taken = (self.head.len() - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < self.head.len() {
                return;
            }
            each(self.begin());
        }
    }

    fn begin(&mut self) -> FrameHead {
        let [a, b, c, kind, flags, ..] = self.head;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            3 => Kind::ResetStream,
            7 => Kind::GoAway,
            9 => Kind::Continuation,
            _ => Kind::Other,
        };
        self.have = 0;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.has_fields = matches!(kind, Kind::Headers | Kind::Continuation);
        if self.has_fields {
            self.is_continued = flags & END_HEADERS == 0;
        }
        FrameHead { length: self.left, kind, is_last: flags & END_STREAM != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let bytes = [
            b"preface".to_vec(),
            frame(4, 0, &[]),
            frame(1, 0, &[7; 300]),
            frame(9, 4, &[1]),
            frame(0, 1, &[0; 20]),
            frame(3, 0, &[0; 4]),
        ]
        .concat();
        for cut in 1..bytes.len() {
            let mut frames = Frames::after(7);
            let mut found = Vec::new();
            for part in bytes.chunks(cut) {
                frames.follow(part, |head| found.push((head.kind, head.length, head.is_last)));
            }
            let expected = [
                (Kind::Other, 0, false),
                (Kind::Headers, 300, false),
                (Kind::Continuation, 1, false),
                (Kind::Data, 20, true),
                (Kind::ResetStream, 4, false),
            ];
            assert_eq!(found, expected, "cut every {cut} bytes");
        }
    }

    #[test]
    fn a_block_of_fields_lasts_until_its_last_byte() {
        let bytes = [frame(1, 0, &[7; 3]), frame(9, 4, &[1, 2])].concat();
        let mut frames = Frames::after(0);
        // Of its first frame's head nothing is known before that is whole.
        for at in 0..bytes.len() {
            frames.follow(&bytes[at..=at], |_| {});
            assert_eq!(frames.is_within_fields(), (8..bytes.len() - 1).contains(&at), "after byte {at}");
        }
    }
}
