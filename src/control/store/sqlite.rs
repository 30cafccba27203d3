//! The store of one instance: a SQLite database in one file.
//!
//! Invariant: a commit that failed leaves nothing behind that a later start could take for an acknowledged one. SQLite
//! replays whatever is whole in its write-ahead log, and a transaction whose `fsync` failed may well be whole there. So
//! the log only ever grows between two commits (it is checkpointed by hand), its length before a commit is known, and
//! after a failure it is cut back to that length, and the attempt superseded, before anything else is written.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, config::DbConfig, ffi, params};
use rustix::fs::FlockOperation;

use super::{Backend, Entry, Kept, MAX_REVISIONS, Receipt, StoreError, copy};
use crate::control::change::Change;

/// The answers to calls with a key that are kept; the oldest go first.
const MAX_RECEIPTS: i64 = 10_000;
/// The length of the write-ahead log from which on it is folded into the database.
const CHECKPOINT_BYTES: u64 = 4 << 20;
/// Commits between two copies.
const COPY_EVERY: u64 = 500;
/// How long another program that looks into the database may keep it locked.
const BUSY: Duration = Duration::from_secs(2);
/// The form of the tables; a database of a later form is refused.
const FORMAT: i64 = 1;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (
    one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, attempt INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO meta VALUES (1, 0, 0);
CREATE TABLE IF NOT EXISTS revisions (
    number INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, at TEXT NOT NULL, origin TEXT NOT NULL, who TEXT,
    kind TEXT NOT NULL, reason TEXT, change TEXT NOT NULL, state TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS applied (one INTEGER PRIMARY KEY CHECK (one = 1), text TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS receipts (
    number INTEGER PRIMARY KEY AUTOINCREMENT, attempt INTEGER NOT NULL, key TEXT NOT NULL UNIQUE, asked BLOB NOT NULL,
    change TEXT NOT NULL
) STRICT;
";

/// A database that is open, and this process' alone.
#[derive(Debug)]
pub struct Sqlite {
    place: Place,
    connection: Connection,
    /// Counts this process' take-over; another one since fences it.
    epoch: i64,
    /// The newest attempt that was acknowledged; later ones never happened.
    attempt: i64,
    /// The last commit failed, and what it has left behind is not erased yet: how long the log was before.
    in_doubt: Option<u64>,
    commits: u64,
    /// Locked for as long as this process serves from the database.
    lock: Option<File>,
    /// Another process may serve from it.
    is_closed: bool,
}

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this file.
    File(PathBuf),
    /// In memory: it ends with the process.
    Memory,
}

impl Place {
    /// The path, as it is shown.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Memory => ":memory:".into(),
        }
    }

    fn beside(&self, suffix: &str) -> Option<PathBuf> {
        let Self::File(path) = self else { return None };
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        Some(name.into())
    }
}

impl Sqlite {
    /// Opens a database, or makes one where there is none, checks it, and takes it over.
    pub fn open(place: Place) -> Result<Self, StoreError> {
        let lock = place.beside(".lock").map(|path| locked(&path, &place)).transpose()?;
        let mut connection = connected(&place)?;
        let fault = |error| fault(&place, error);
        check(&place, &connection)?;
        let (epoch, attempt) = take_over(&mut connection).map_err(fault)?;
        let store =
            Self { place, connection, epoch, attempt, in_doubt: None, commits: 0, lock, is_closed: false };
        store.copy();
        Ok(store)
    }

    /// Begins a write only after what a failed one left behind is gone.
    fn settle(&mut self) -> Result<(), StoreError> {
        if self.is_closed && matches!(self.place, Place::File(_)) {
            return Err(StoreError::Fenced { path: self.place.path() });
        }
        let Some(length) = self.in_doubt else { return Ok(()) };
        let (acknowledged, epoch) = (self.attempt, self.epoch);
        let fault = {
            let place = self.place.clone();
            move |error| fault(&place, error)
        };
        if let Some(log) = self.place.beside("-wal") {
            // Closed without folding the log in: that would make the attempt part of the database.
            let memory = Connection::open_in_memory().map_err(&fault)?;
            drop(std::mem::replace(&mut self.connection, memory));
            if let Err(error) = cut_back(&log, length) {
                // What is written over it below erases it as well.
                tracing::warn!(%error, "the log of the state's database could not be cut back");
            }
            self.connection = connected(&self.place)?;
        }
        let write = self.connection.transaction().map_err(&fault)?;
        write.execute("DELETE FROM revisions WHERE attempt > ?1", [acknowledged]).map_err(&fault)?;
        write.execute("DELETE FROM receipts WHERE attempt > ?1", [acknowledged]).map_err(&fault)?;
        // A number that has not been used: this transaction is no empty one.
        let next = acknowledged + 2;
        let ours =
            write.execute("UPDATE meta SET attempt = ?1 WHERE epoch = ?2", [next, epoch]).map_err(&fault)?;
        if ours == 0 {
            return Err(StoreError::Fenced { path: self.place.path() });
        }
        write.commit().map_err(&fault)?;
        self.attempt = next;
        self.in_doubt = None;
        tracing::info!("the state's database is sound again; what could not be written is erased");
        Ok(())
    }

    /// Writes over what a failed attempt has left in the log.
    fn supersede(&mut self) -> rusqlite::Result<()> {
        let write = self.connection.transaction()?;
        write.execute("UPDATE meta SET attempt = ?1", [self.attempt + 1])?;
        write.commit()
    }

    fn write(&mut self, entry: &Entry) -> rusqlite::Result<bool> {
        let attempt = self.attempt + 1;
        let write = self.connection.transaction()?;
        if write.execute("UPDATE meta SET attempt = ?1 WHERE epoch = ?2", [attempt, self.epoch])? == 0 {
            return Ok(false);
        }
        let change = &entry.change;
        if let Some(state) = &entry.state {
            let at = humantime::format_rfc3339_micros(change.at).to_string();
            let (origin, kind) = (change.author.origin.name(), change.kind.name());
            let author = &change.author;
            write.execute(
                "INSERT INTO revisions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    number(change.revision),
                    attempt,
                    at,
                    origin,
                    author.who,
                    kind,
                    author.reason,
                    text(change),
                    state
                ],
            )?;
            let oldest = change.revision.saturating_sub(MAX_REVISIONS);
            write.execute("DELETE FROM revisions WHERE number <= ?1 AND ?1 > 0", [number(oldest)])?;
        }
        if let Some(text) = &entry.applied {
            write.execute("INSERT OR REPLACE INTO applied VALUES (1, ?1)", [text])?;
        }
        if let Some(receipt) = &entry.receipt {
            write.execute(
                "INSERT INTO receipts (attempt, key, asked, change) VALUES (?1, ?2, ?3, ?4)",
                params![attempt, receipt.key, receipt.asked, text(&receipt.change)],
            )?;
            let newest = write.last_insert_rowid();
            write.execute("DELETE FROM receipts WHERE number <= ?1", [newest - MAX_RECEIPTS])?;
        }
        write.commit()?;
        self.attempt = attempt;
        Ok(true)
    }

    /// Folds a long log into the database, and makes a copy now and then. Neither is needed for what was acknowledged.
    fn tidy(&mut self) {
        self.commits += 1;
        if self.log_length() > CHECKPOINT_BYTES {
            let fold = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            if let Err(error) = fold {
                tracing::warn!(%error, "the log of the state's database could not be folded in; it is tried again");
            }
        }
        if self.commits.is_multiple_of(COPY_EVERY) {
            self.copy();
        }
    }

    fn copy(&self) {
        let Place::File(path) = &self.place else { return };
        if let Err(error) = copy::make(&self.connection, path) {
            tracing::warn!(%error, "no copy of the state's database could be made");
        }
    }

    fn log_length(&self) -> u64 {
        let log = self.place.beside("-wal").and_then(|log| fs::metadata(log).ok());
        log.map_or(0, |log| log.len())
    }

    fn fault(&self, error: rusqlite::Error) -> StoreError {
        fault(&self.place, error)
    }
}

impl Backend for Sqlite {
    fn load(&mut self) -> Result<Option<Kept>, StoreError> {
        let newest = "SELECT number, state FROM revisions ORDER BY number DESC LIMIT 1";
        let newest = self.connection.query_row(newest, [], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)));
        let newest = newest.optional().map_err(|error| self.fault(error))?;
        let Some((revision, state)) = newest else { return Ok(None) };
        let changes = self.changes(
            "SELECT change FROM revisions WHERE number <= ?1 ORDER BY number LIMIT ?2",
            i64::MAX,
            MAX_REVISIONS,
        )?;
        let applied = self.connection.query_row("SELECT text FROM applied", [], |row| row.get(0)).optional();
        let applied = applied.map_err(|error| self.fault(error))?;
        Ok(Some(Kept { path: self.place.path(), revision: revision.unsigned_abs(), state, applied, changes }))
    }

    fn commit(&mut self, entry: &Entry) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(StoreError::Fenced { path: self.place.path() });
        }
        self.settle()?;
        let length = self.log_length();
        match self.write(entry) {
            Ok(true) => {
                self.tidy();
                Ok(())
            }
            Ok(false) => Err(StoreError::Fenced { path: self.place.path() }),
            Err(error) => {
                let why = self.fault(error);
                self.in_doubt = Some(length);
                tracing::error!(error = %why, "a change could not be made durable; nothing has changed");
                // At once, and by this connection, which writes where the attempt was written: a process that is
                // killed now must not leave it behind, even if nothing but writing succeeds.
                let _ = self.supersede();
                if let Err(error) = self.settle() {
                    tracing::error!(%error, "what could not be written is not erased yet; it is tried again");
                }
                Err(why)
            }
        }
    }

    fn page(&mut self, before: Option<u64>, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.settle()?;
        let before = before.map_or(i64::MAX, number);
        self.changes(
            "SELECT change FROM revisions WHERE number < ?1 ORDER BY number DESC LIMIT ?2",
            before,
            limit as u64,
        )
    }

    fn find(&mut self, revision: u64) -> Result<Option<(Change, String)>, StoreError> {
        self.settle()?;
        let read = "SELECT change, state FROM revisions WHERE number = ?1";
        let row = self
            .connection
            .query_row(read, [number(revision)], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
        let row = row.optional().map_err(|error| self.fault(error))?;
        row.map(|(change, state)| Ok((read_change(&self.place, &change)?, state))).transpose()
    }

    fn recall(&mut self, key: &str) -> Result<Option<Receipt>, StoreError> {
        self.settle()?;
        let read = "SELECT asked, change FROM receipts WHERE key = ?1";
        let row = self.connection.query_row(read, [key], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
        let row = row.optional().map_err(|error| self.fault(error))?;
        row.map(|(asked, change)| {
            Ok(Receipt { key: key.to_owned(), asked, change: read_change(&self.place, &change)? })
        })
        .transpose()
    }

    fn close(&mut self) -> Result<(), StoreError> {
        // A successor that can't know of an attempt in doubt must not find it.
        self.settle()?;
        // What is in memory alone is still to be read, as the successor must be told it.
        if matches!(self.place, Place::File(_)) {
            self.connection = Connection::open_in_memory().map_err(|error| self.fault(error))?;
            // Only now: nobody may take over what is still open here.
            self.lock = None;
        }
        self.is_closed = true;
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.is_closed && matches!(self.place, Place::File(_)) {
            *self = Self::open(self.place.clone())?;
        }
        self.is_closed = false;
        Ok(())
    }
}

impl Sqlite {
    fn changes(&self, query: &str, bound: i64, limit: u64) -> Result<Vec<Change>, StoreError> {
        let texts = || -> rusqlite::Result<Vec<String>> {
            let mut read = self.connection.prepare(query)?;
            read.query_map([bound, number(limit)], |row| row.get(0))?.collect()
        };
        let texts = texts().map_err(|error| self.fault(error))?;
        texts.iter().map(|text| read_change(&self.place, text)).collect()
    }
}

/// A number as SQLite keeps it; revisions never come near its end.
fn number(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn text(change: &Change) -> String {
    serde_json::to_string(change).expect("names, numbers and times always have a text")
}

fn read_change(place: &Place, text: &str) -> Result<Change, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| damaged(place, format!("a revision in it can't be read: {error}")))
}

/// Takes the lock that keeps two processes from serving from one database.
fn locked(path: &Path, place: &Place) -> Result<File, StoreError> {
    let failing =
        |error: std::io::Error| StoreError::Failing { path: path.to_owned(), why: error.to_string() };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failing)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse { path: place.path() }),
        Err(error) => Err(failing(error.into())),
    }
}

fn connected(place: &Place) -> Result<Connection, StoreError> {
    let fault = |error| fault(place, error);
    let connection = match place {
        Place::Memory => Connection::open_in_memory().map_err(fault)?,
        Place::File(path) => {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(fault)?;
            connection.busy_timeout(BUSY).map_err(fault)?;
            connection.pragma_update(None, "journal_mode", "WAL").map_err(fault)?;
            connection.pragma_update(None, "synchronous", "FULL").map_err(fault)?;
            connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(fault)?;
            connection
        }
    };
    Ok(connection)
}

/// Refuses a database that is damaged, or of a later version.
fn check(place: &Place, connection: &Connection) -> Result<(), StoreError> {
    let fault = |error| fault(place, error);
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fault)?;
    if said != "ok" {
        return Err(damaged(place, said));
    }
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(fault)?;
    if format > FORMAT {
        let why =
            format!("it has the form {format}, of a later version of Switchback; this one knows {FORMAT}");
        return Err(StoreError::Failing { path: place.path(), why });
    }
    Ok(())
}

/// Makes the tables if need be, and begins a new epoch. Answers it, and the last attempt.
fn take_over(connection: &mut Connection) -> rusqlite::Result<(i64, i64)> {
    let write = connection.transaction()?;
    write.execute_batch(TABLES)?;
    write.pragma_update(None, "user_version", FORMAT)?;
    write.execute("UPDATE meta SET epoch = epoch + 1", [])?;
    let taken =
        write.query_row("SELECT epoch, attempt FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    write.commit()?;
    Ok(taken)
}

/// Cuts a log back to what it was.
fn cut_back(log: &Path, length: u64) -> std::io::Result<()> {
    match OpenOptions::new().write(true).open(log) {
        Ok(file) => file.set_len(length),
        // It was never begun.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn fault(place: &Place, error: rusqlite::Error) -> StoreError {
    let path = place.path();
    let code = error.sqlite_error().map(|error| error.code);
    match code {
        Some(ffi::ErrorCode::DiskFull) => StoreError::Full { path },
        Some(ffi::ErrorCode::DatabaseCorrupt | ffi::ErrorCode::NotADatabase) => {
            damaged(place, error.to_string())
        }
        _ => StoreError::Failing { path, why: error.to_string() },
    }
}

fn damaged(place: &Place, why: String) -> StoreError {
    let copy = match place {
        Place::File(path) => copy::newest(path),
        Place::Memory => None,
    };
    StoreError::Damaged { path: place.path(), why, copy }
}
