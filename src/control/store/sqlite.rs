//! The store of one instance: a SQLite database in one file.
//!
//! Invariant: a commit that failed leaves nothing behind that a later start could take for an acknowledged one. SQLite
//! replays whatever is whole in its write-ahead log, and a transaction whose `fsync` failed may well be whole there. So
//! the log is folded in by hand, what it was before a commit is known, and after a failure it is cut back to that, and the
//! attempt superseded, before anything else is written.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, ffi, params};

use super::{
    Backend, Entry, Kept, MAX_REVISIONS, Reader, Receipt, StoreError, copy,
    gate::Gate,
    log::{self, Before, Folding},
    mark::{Mark, Witness},
    opening,
    reading::{self, History, number},
    steps,
};
use crate::control::change::Change;

/// The answers to calls with a key that are kept; the oldest go first.
const MAX_RECEIPTS: i64 = 10_000;
/// The bytes of the database from which on the oldest revisions and answers go, however few they are.
const MAX_BYTES: u64 = 256 << 20;
/// The most revisions, and answers, that go with one commit for the bytes that they take.
const MOST_PRUNED: u32 = 8;
/// No epoch: they begin at 1.
const UNTAKEN: i64 = 0;
/// Commits between two copies.
const COPY_EVERY: u64 = 500;

/// A database that is open, and this process' alone.
#[derive(Debug)]
pub struct Sqlite {
    place: Place,
    connection: Connection,
    /// Counts this process' take-over; another one since fences it. It is [`UNTAKEN`] as long as there is no room for it.
    epoch: i64,
    /// The newest attempt that was acknowledged; later ones never happened.
    attempt: i64,
    /// The newest revision.
    revision: u64,
    /// The last commit failed, and what it has left behind is not erased yet: the log before.
    in_doubt: Option<Before>,
    folding: Folding,
    /// It was begun by this process.
    is_new: bool,
    commits: u64,
    /// The bytes from which on the oldest revisions go.
    most_bytes: u64,
    gate: Gate,
    /// Locked for as long as this process serves from the database; the mark is in it.
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

    /// The same place, by the one path that it has.
    pub fn resolved(self) -> Result<Self, StoreError> {
        match self {
            Self::File(path) => opening::resolved(&path).map(Self::File),
            Self::Memory => Ok(Self::Memory),
        }
    }

    fn beside(&self, suffix: &str) -> Option<PathBuf> {
        let Self::File(path) = self else { return None };
        Some(copy::beside(path, suffix))
    }
}

impl Sqlite {
    /// Opens a database, or makes one where there was none, checks it, and takes it over.
    pub fn open(place: Place) -> Result<Self, StoreError> {
        Self::opened(place, Gate::default(), true)
    }

    /// Opens a database that another process has just given up, and had checked: there is no time to read all of it.
    pub fn inherit(place: Place) -> Result<Self, StoreError> {
        Self::opened(place, Gate::default(), false)
    }

    fn opened(place: Place, gate: Gate, is_checked: bool) -> Result<Self, StoreError> {
        let place = place.resolved()?;
        let lock = place.beside(".lock").map(|path| opening::locked(&path, &place)).transpose()?;
        let (mut connection, found) = match (&place, &lock) {
            (Place::File(path), Some(lock)) => whole(path, lock, is_checked)?,
            _ => (opening::connected(&place)?, None),
        };
        let taken = opening::take_over(&mut connection).map_err(|error| fault(&place, error));
        let (epoch, attempt) = match (taken, found) {
            (Err(why @ StoreError::Full { .. }), Some(found)) => {
                tracing::error!(error = %why, "changes are refused until there is room; what was kept is in force");
                (UNTAKEN, found.attempt)
            }
            (taken, _) => taken?,
        };
        let store = Self {
            place,
            connection,
            epoch,
            attempt,
            revision: found.map_or(0, |found| found.revision),
            in_doubt: None,
            folding: Folding::default(),
            is_new: found.is_none_or(|found| found.attempt == 0),
            commits: 0,
            most_bytes: MAX_BYTES,
            gate,
            lock,
            is_closed: false,
        };
        store.fold();
        store.gate.open();
        store.copy();
        Ok(store)
    }

    /// Bounds what is kept by less than usual.
    #[cfg(test)]
    pub(super) fn bounded_to(&mut self, bytes: u64) {
        self.most_bytes = bytes;
    }

    /// The way in for others.
    #[cfg(test)]
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Begins a write only after what a failed one left behind is gone.
    fn settle(&mut self) -> Result<(), StoreError> {
        if self.is_closed && matches!(self.place, Place::File(_)) {
            return Err(StoreError::Fenced { path: self.place.path() });
        }
        if self.epoch == UNTAKEN {
            // What an attempt at this leaves in the log is at most an epoch without anything in it.
            let taken = opening::take_over(&mut self.connection);
            (self.epoch, self.attempt) = taken.map_err(|error| self.fault(error))?;
            tracing::info!("there is room again: changes are taken");
        }
        let Some(before) = self.in_doubt.clone() else { return Ok(()) };
        let (acknowledged, epoch) = (self.attempt, self.epoch);
        let fault = {
            let place = self.place.clone();
            move |error| fault(&place, error)
        };
        if let Some(log) = self.place.beside("-wal") {
            // Closed without folding the log in: that would make the attempt part of the database.
            let memory = Connection::open_in_memory().map_err(&fault)?;
            drop(std::mem::replace(&mut self.connection, memory));
            if let Err(error) = before.restore(&log) {
                // What is written over it below erases it as well.
                tracing::warn!(%error, "the log of the state's database could not be cut back");
            }
            self.connection = opening::connected(&self.place)?;
        }
        let write = self.connection.transaction().map_err(&fault)?;
        write.execute("DELETE FROM revisions WHERE attempt > ?1", [acknowledged]).map_err(&fault)?;
        write.execute("DELETE FROM steps WHERE attempt > ?1", [acknowledged]).map_err(&fault)?;
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
        self.gate.open();
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
        }
        if entry.state.is_some() {
            steps::keep(&write, change, attempt)?;
        }
        if let Some(text) = &entry.applied {
            write.execute("INSERT OR REPLACE INTO applied VALUES (1, ?1)", [text])?;
        }
        if let Some(receipt) = &entry.receipt {
            write.execute(
                "INSERT INTO receipts (attempt, key, asked, change) VALUES (?1, ?2, ?3, ?4)",
                params![attempt, receipt.key, receipt.asked, text(&receipt.change)],
            )?;
        }
        prune(&write, self.most_bytes)?;
        write.commit()?;
        self.attempt = attempt;
        Ok(true)
    }

    /// Marks how far the database has come. What was committed stands without it, too.
    fn mark(&mut self, entry: &Entry) {
        if entry.state.is_some() {
            self.revision = entry.change.revision;
        }
        let mark = Mark { attempt: self.attempt, revision: self.revision };
        if let Some(Err(error)) = self.lock.as_ref().map(|lock| mark.write(lock)) {
            tracing::warn!(%error, "the mark beside the state's database could not be written");
        }
    }

    /// Folds the log in: what is in the database itself can't be lost with the log.
    fn fold(&self) {
        if let (Place::File(_), Err(error)) = (&self.place, log::fold(&self.connection)) {
            tracing::warn!(%error, "the log of the state's database could not be folded in");
        }
    }

    fn copy(&self) {
        if let Place::File(path) = &self.place {
            copy::begin(path.clone(), &self.gate);
        }
    }

    /// The log as it is.
    fn log(&self) -> Result<Before, StoreError> {
        let Some(log) = self.place.beside("-wal") else { return Ok(Before::default()) };
        Before::of(&log).map_err(|error| StoreError::Failing { path: log, why: error.to_string() })
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
        let Some((revision, state)): Option<(i64, String)> = newest else { return Ok(None) };
        let all = usize::try_from(MAX_REVISIONS).expect("it is small");
        let texts = reading::page(&self.connection, None, all).map_err(|error| self.fault(error))?;
        let kept = reading::changes(&self.place, &texts)?;
        let oldest = kept.last().map_or(revision.unsigned_abs(), |oldest| oldest.revision);
        let steps = steps::before(&self.connection, oldest).map_err(|error| self.fault(error))?;
        let mut changes = reading::changes(&self.place, &steps)?;
        changes.extend(kept.into_iter().rev());
        let applied = self.connection.query_row("SELECT text FROM applied", [], |row| row.get(0)).optional();
        let applied = applied.map_err(|error| self.fault(error))?;
        Ok(Some(Kept { path: self.place.path(), revision: revision.unsigned_abs(), state, applied, changes }))
    }

    fn commit(&mut self, entry: &Entry) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(StoreError::Fenced { path: self.place.path() });
        }
        self.settle()?;
        let before = self.log()?;
        match self.write(entry) {
            Ok(true) => {
                self.mark(entry);
                Ok(())
            }
            Ok(false) => Err(StoreError::Fenced { path: self.place.path() }),
            Err(error) => {
                let why = self.fault(error);
                self.in_doubt = Some(before);
                self.gate.shut();
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

    fn reader(&self) -> Option<Box<dyn Reader>> {
        let Place::File(path) = &self.place else { return None };
        Some(Box::new(History::of(path.clone(), self.gate.clone())))
    }

    fn page(&mut self, before: Option<u64>, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.settle()?;
        let texts = reading::page(&self.connection, before, limit).map_err(|error| self.fault(error))?;
        reading::changes(&self.place, &texts)
    }

    fn find(&mut self, revision: u64) -> Result<Option<(Change, String)>, StoreError> {
        self.settle()?;
        let row = reading::find(&self.connection, revision).map_err(|error| self.fault(error))?;
        row.map(|(change, state)| Ok((reading::change(&self.place, &change)?, state))).transpose()
    }

    fn recall(&mut self, key: &str) -> Result<Option<Receipt>, StoreError> {
        self.settle()?;
        let read = "SELECT asked, change FROM receipts WHERE key = ?1";
        let row = self.connection.query_row(read, [key], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
        let row = row.optional().map_err(|error| self.fault(error))?;
        row.map(|(asked, change)| {
            Ok(Receipt { key: key.to_owned(), asked, change: reading::change(&self.place, &change)? })
        })
        .transpose()
    }

    fn tidy(&mut self) {
        if self.is_closed || self.in_doubt.is_some() {
            return;
        }
        self.commits += 1;
        if let Ok(log) = self.log() {
            self.folding.fold_if_long(&self.connection, log.length());
        }
        // The copy that is made at a start has nothing of a new database in it, which is small.
        let is_early = self.is_new && self.commits.is_power_of_two();
        if is_early || self.commits.is_multiple_of(COPY_EVERY) {
            self.copy();
        }
    }

    fn close(&mut self) -> Result<(), StoreError> {
        if self.is_closed {
            return Ok(());
        }
        // A successor that can't know of an attempt in doubt must not find it.
        self.settle()?;
        self.gate.shut();
        self.fold();
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
            *self = Self::opened(self.place.clone(), self.gate.clone(), false)?;
        }
        self.is_closed = false;
        Ok(())
    }
}

/// Connects to a database in a file if that is all that it ever was. Answers how far it has come.
fn whole(path: &Path, lock: &File, is_checked: bool) -> Result<(Connection, Option<Mark>), StoreError> {
    let place = Place::File(path.to_owned());
    let witness = Witness::of(path, lock);
    witness.sees_a_file()?;
    opening::made(path)
        .map_err(|error| StoreError::Failing { path: path.to_owned(), why: error.to_string() })?;
    let connection = opening::connected(&place)?;
    if is_checked {
        opening::check_soundness(&place, &connection)?;
    }
    opening::check_form(&place, &connection)?;
    let found = Mark::of(&connection).map_err(|error| fault(&place, error))?;
    witness.sees_all_in(found)?;
    Ok((connection, found))
}

/// Removes what is more than is kept. A database that is far above its bound comes down step by step, so that no change
/// waits for all of it.
fn prune(write: &Connection, most_bytes: u64) -> rusqlite::Result<()> {
    const REVISIONS: &str = "DELETE FROM revisions WHERE number <= (SELECT max(number) FROM revisions) - ?1";
    const RECEIPTS: &str = "DELETE FROM receipts WHERE number <= (SELECT max(number) FROM receipts) - ?1";
    const OLDEST: [&str; 2] = [
        "DELETE FROM revisions WHERE number = (SELECT min(number) FROM revisions)
         AND number < (SELECT max(number) FROM revisions)",
        "DELETE FROM receipts WHERE number = (SELECT min(number) FROM receipts)
         AND number < (SELECT max(number) FROM receipts)",
    ];
    write.execute(REVISIONS, [number(MAX_REVISIONS)])?;
    write.execute(RECEIPTS, [MAX_RECEIPTS])?;
    let pragma = |name: &str| write.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let page = pragma("page_size")?;
    for _ in 0..MOST_PRUNED {
        let used = (pragma("page_count")? - pragma("freelist_count")?) * page;
        if used.unsigned_abs() <= most_bytes {
            break;
        }
        for oldest in OLDEST {
            write.execute(oldest, [])?;
        }
    }
    Ok(())
}

fn text(change: &Change) -> String {
    serde_json::to_string(change).expect("names, numbers and times always have a text")
}

pub(super) fn fault(place: &Place, error: rusqlite::Error) -> StoreError {
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

pub(super) fn damaged(place: &Place, why: String) -> StoreError {
    let copy = match place {
        Place::File(path) => copy::newest(path),
        Place::Memory => None,
    };
    StoreError::Damaged { path: place.path(), why, copy }
}
