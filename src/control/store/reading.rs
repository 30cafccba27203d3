//! Reading the history, on a connection that can't write and on a thread of its own.
//!
//! Invariant: what is read is never waited for by a commit. While only the writer can tell what holds, nothing is read here.

use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension};

use super::{
    Found, Reader, StoreError,
    gate::Gate,
    opening,
    sqlite::{Place, damaged, fault},
};
use crate::control::change::Change;

/// The history of a database in a file.
#[derive(Debug)]
pub struct History {
    database: PathBuf,
    gate: Gate,
}

impl History {
    /// The history of a database, as far as the gate lets it be read.
    pub fn of(database: PathBuf, gate: Gate) -> Self {
        Self { database, gate }
    }

    fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let Some(_leave) = self.gate.enter() else { return Ok(None) };
        // Opened anew each time, which is quick: a connection that stayed would keep the log's index.
        let read = opening::reading(&self.database).and_then(|connection| query(&connection));
        read.map(Some).map_err(|error| fault(&self.place(), error))
    }

    fn place(&self) -> Place {
        Place::File(self.database.clone())
    }
}

impl Reader for History {
    fn page(&mut self, before: Option<u64>, limit: usize) -> Result<Option<Vec<Change>>, StoreError> {
        let texts = self.read(|connection| page(connection, before, limit))?;
        texts.map(|texts| changes(&self.place(), &texts)).transpose()
    }

    fn find(&mut self, revision: u64) -> Result<Option<Found>, StoreError> {
        let Some(row) = self.read(|connection| find(connection, revision))? else { return Ok(None) };
        row.map(|(text, state)| Ok((change(&self.place(), &text)?, state))).transpose().map(Some)
    }
}

/// The texts of the changes before a revision, newest first.
pub fn page(connection: &Connection, before: Option<u64>, limit: usize) -> rusqlite::Result<Vec<String>> {
    let mut read =
        connection.prepare("SELECT change FROM revisions WHERE number < ?1 ORDER BY number DESC LIMIT ?2")?;
    let before = before.map_or(i64::MAX, number);
    read.query_map([before, number(limit as u64)], |row| row.get(0))?.collect()
}

/// The texts of a revision's change and state.
pub fn find(connection: &Connection, revision: u64) -> rusqlite::Result<Option<(String, String)>> {
    let read = "SELECT change, state FROM revisions WHERE number = ?1";
    connection.query_row(read, [number(revision)], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// Reads changes that were written down.
pub fn changes(place: &Place, texts: &[String]) -> Result<Vec<Change>, StoreError> {
    texts.iter().map(|text| change(place, text)).collect()
}

/// Reads a change that was written down.
pub fn change(place: &Place, text: &str) -> Result<Change, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| damaged(place, format!("a revision in it can't be read: {error}")))
}

/// A number as SQLite keeps it; revisions never come near its end.
pub fn number(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}
