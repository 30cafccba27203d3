//! The file behind the access log.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    io::Errno,
};

use super::{Shared, line, record::Record};
use crate::model::access_log::{AccessLogFormat, AccessLogSettings};

/// Lines are gathered up to this many bytes before they are written.
const BUFFER: usize = 64 * 1024;
/// A disk that stays full is warned of this often.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// Lines on their way to the file.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    format: AccessLogFormat,
    target: Target,
    buffer: Vec<u8>,
    /// How many lines the buffer holds.
    lines: u64,
    warned: Option<Instant>,
}

#[derive(Debug)]
enum Target {
    File(File),
    StandardOutput,
}

impl Writer {
    pub(super) fn open(settings: &AccessLogSettings) -> io::Result<Self> {
        Ok(Self {
            path: settings.path.clone(),
            format: settings.format.clone(),
            target: Target::open(&settings.path)?,
            buffer: Vec::with_capacity(2 * BUFFER),
            lines: 0,
            warned: None,
        })
    }

    pub(super) fn write(&mut self, record: &Record, shared: &Shared) {
        line::append(&mut self.buffer, &self.format, record);
        self.lines += 1;
        if self.buffer.len() >= BUFFER {
            self.flush(shared);
        }
    }

    /// Writes what is gathered. What can't be written is dropped: keeping it would grow without bound.
    pub(super) fn flush(&mut self, shared: &Shared) {
        if self.lines == 0 {
            return;
        }
        let (result, cut) = self.target.write_all(&self.buffer);
        let written = self.buffer[..cut].iter().filter(|byte| **byte == b'\n').count() as u64;
        if let Err(error) = result {
            // What ended a cut line is no line of these.
            let written = written.min(self.lines);
            shared.written.add(written);
            let dropped = self.lines - written;
            shared.lost.add(dropped);
            self.warn(&error, dropped);
            // A line that was begun and cut off is ended, so that the next one stands for itself.
            let is_cut = self.buffer[..cut].last().is_some_and(|byte| *byte != b'\n');
            self.buffer.clear();
            if is_cut {
                self.buffer.push(b'\n');
            }
        } else {
            shared.written.add(self.lines);
            self.buffer.clear();
        }
        self.lines = 0;
    }

    /// Opens the file anew. If that fails, the old one goes on being written.
    pub(super) fn reopen(&mut self, shared: &Shared) {
        self.flush(shared);
        match Target::open(&self.path) {
            Ok(target) => {
                self.target = target;
                // What was to end a cut line of the old file.
                self.buffer.clear();
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the access log can't be reopened; the old file stays");
            }
        }
    }

    fn warn(&mut self, error: &io::Error, dropped: u64) {
        let now = Instant::now();
        if self.warned.is_none_or(|before| now.duration_since(before) >= BETWEEN_WARNINGS) {
            self.warned = Some(now);
            tracing::warn!(path = %self.path.display(), %error, dropped, "the access log can't be written");
        }
    }
}

impl Target {
    fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::StandardOutput);
        }
        open_at_end(path).map(Self::File)
    }

    /// Writes all, and says how many bytes went out even if it fails.
    fn write_all(&mut self, bytes: &[u8]) -> (io::Result<()>, usize) {
        let mut written = 0;
        while written < bytes.len() {
            let result = match self {
                Self::File(file) => file.write(&bytes[written..]),
                Self::StandardOutput => io::stdout().write(&bytes[written..]),
            };
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), written),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), written),
            }
        }
        let flushed = match self {
            Self::File(_) => Ok(()),
            Self::StandardOutput => io::stdout().flush(),
        };
        (flushed, written)
    }
}

/// Opens a file at its end, without waiting for anybody: a pipe that nobody reads is refused.
fn open_at_end(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let opened = OpenOptions::new().create(true).append(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == Errno::NXIO.raw_os_error() => {
            io::Error::new(error.kind(), "it is a pipe that nobody reads, or a socket")
        }
        _ => error,
    })?;
    let kind = file.metadata()?.file_type();
    if !(kind.is_file() || kind.is_char_device() || kind.is_fifo()) {
        return Err(io::Error::other("it is not a file, a pipe or a character device"));
    }
    // From here on the writer's own thread alone may be kept waiting: a pipe that is full would lose lines otherwise.
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}
