//! The write-ahead log of a database: how long it was before a commit, and folding it in.
//!
//! Invariant: nobody who looks into the database makes a commit wait: folding in never waits for a reader, and what it can't
//! fold in yet stays in the log, which loses nothing by it.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read as _},
    path::Path,
    time::Duration,
};

use rusqlite::Connection;

use super::opening::BUSY;

/// The length from which on a log is folded in, and by which it grows before the next try where that failed.
const FOLD_BYTES: u64 = 4 << 20;
/// The bytes of its header: what tells a log that was begun anew.
const HEADER: usize = 32;

/// A log as it was before a commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Before {
    length: u64,
    header: [u8; HEADER],
}

impl Before {
    /// Looks at a log. One that is not there is empty.
    pub fn of(log: &Path) -> io::Result<Self> {
        let mut file = match File::open(log) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let mut header = [0; HEADER];
        if length >= HEADER as u64 {
            file.read_exact(&mut header)?;
        }
        Ok(Self { length, header })
    }

    /// The bytes of the log.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Cuts the log back to what it was. One that was begun anew by the commit goes whole: SQLite does that only when all
    /// of it is in the database, and synced there.
    pub fn restore(&self, log: &Path) -> io::Result<()> {
        let now = Self::of(log)?;
        let length = if now.header == self.header { self.length } else { 0 };
        if now.length <= length {
            return Ok(());
        }
        OpenOptions::new().write(true).open(log)?.set_len(length)
    }
}

/// When a log is folded in.
#[derive(Debug)]
pub struct Folding {
    from: u64,
}

impl Default for Folding {
    fn default() -> Self {
        Self { from: FOLD_BYTES }
    }
}

impl Folding {
    /// Folds a log in if it is long.
    pub fn fold_if_long(&mut self, connection: &Connection, length: u64) {
        if length < self.from {
            return;
        }
        match fold(connection) {
            Ok(true) => *self = Self::default(),
            // Somebody reads what is older. What could be folded in is; the log grows meanwhile.
            Ok(false) => self.from = length + FOLD_BYTES,
            Err(error) => {
                self.from = length + FOLD_BYTES;
                tracing::warn!(%error, "the log of the state's database could not be folded in; it is tried again");
            }
        }
    }
}

/// Folds a log into its database as far as nobody is in the way, and empties it if that is all of it. Answers whether.
pub fn fold(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(Duration::ZERO)?;
    let folded =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0));
    connection.busy_timeout(BUSY)?;
    folded
}
