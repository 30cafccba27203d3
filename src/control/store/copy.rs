//! The last good copy of the database, beside it: what there is to go back to if the database is ever damaged.
//!
//! Invariant: the copy is replaced as a whole, by a newer one that was read out of a sound database.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{mark::Mark, opening::PRIVATE};

/// Why there is no new copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The database could not be read, or the copy not be written.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    /// The copy could not be put in its place.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// Where the copy of a database is.
pub fn path(database: &Path) -> PathBuf {
    beside(database, ".copy")
}

/// Makes a copy of a database, in place of the one before.
pub fn make(connection: &Connection, database: &Path) -> Result<(), CopyError> {
    let (copy, draft) = (path(database), beside(database, ".copy-new"));
    // What a killed process has left.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let Some(name) = draft.to_str() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "its path is not UTF-8").into());
    };
    // SQLite takes an empty file for none, and would make one that everybody may read.
    drop(OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&draft)?);
    connection.execute("VACUUM INTO ?1", [name])?;
    File::open(&draft)?.sync_all()?;
    fs::rename(&draft, &copy)?;
    if let Some(folder) = copy.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// The copy of a database, if it is sound, and the newest revision in it.
pub fn newest(database: &Path) -> Option<(PathBuf, u64)> {
    let copy = path(database);
    let connection = Connection::open_with_flags(&copy, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).ok()?;
    let revision: i64 =
        connection.query_row("SELECT max(number) FROM revisions", [], |row| row.get(0)).ok()?;
    (said == "ok").then_some((copy, revision.unsigned_abs()))
}

/// How far the database had come when its copy was made; `None` if there is no copy, or none that can be read.
pub fn mark(database: &Path) -> Option<Mark> {
    let connection = Connection::open_with_flags(path(database), OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    // One in which nothing was ever written is nothing to go back to.
    Mark::of(&connection).ok().flatten().filter(|mark| mark.attempt > 0)
}

/// The path of a file that belongs to a database.
pub fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
