//! The last good copy of the database, beside it: what there is to go back to if the database is ever damaged.
//!
//! Invariant: the copy is replaced as a whole, by a newer one that was read out of a sound database. It is made on a thread
//! of its own, so that no change waits for it, and it is given up where the database is.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{
    gate::{Copying, Gate},
    mark::Mark,
    opening::{self, PRIVATE},
};

/// What the name of the copy ends with.
pub const COPY: &str = ".copy";
/// What the name of one that is being made ends with; a killed process leaves it.
pub const DRAFT: &str = ".copy-new";

/// Why there is no new copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The database could not be read, or the copy not be written.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    /// The database is damaged, so the copy before is the last good one.
    #[error("the state's database is damaged ({0}): the last good copy stays; stop, and go back to it")]
    Unsound(String),
    /// The copy could not be put in its place.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// Where the copy of a database is.
pub fn path(database: &Path) -> PathBuf {
    beside(database, COPY)
}

/// Has a copy of a database made, in place of the one before, unless one is being made.
pub fn begin(database: PathBuf, gate: &Gate) {
    let Some(copying) = gate.copy() else { return };
    let work = move || match make(&database, &copying) {
        Ok(true) => {}
        Ok(false) => tracing::debug!("the copy of the state's database was given up: the database is"),
        Err(error) => tracing::warn!(%error, "no copy of the state's database could be made"),
    };
    if let Err(error) = thread::Builder::new().name("copy".into()).spawn(work) {
        tracing::warn!(%error, "no copy of the state's database could be made");
    }
}

/// Makes a copy and answers whether it is in its place; it is not if another is being made.
#[cfg(test)]
pub fn made_now(database: &Path, gate: &Gate) -> bool {
    gate.copy().is_some_and(|copying| make(database, &copying).unwrap())
}

/// Makes a copy. Answers whether it is in its place: it is not if the gate was shut meanwhile.
fn make(database: &Path, copying: &Copying) -> Result<bool, CopyError> {
    let draft = beside(database, DRAFT);
    let Some(leave) = copying.gate().enter() else { return Ok(false) };
    let began = leave.times();
    let connection = opening::reading(database)?;
    let written = copying.with(&connection, |connection| write(connection, &draft));
    drop(connection);
    drop(leave);
    match written {
        Err(CopyError::Database(error))
            if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) =>
        {
            return Ok(false);
        }
        written => written?,
    }
    File::open(&draft)?.sync_all()?;
    let copy = path(database);
    // Whoever has had the database since may have made a newer one.
    let Some(_leave) = copying.gate().enter().filter(|leave| leave.times() == began) else {
        return Ok(false);
    };
    fs::rename(&draft, &copy)?;
    if let Some(folder) = copy.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(true)
}

/// Writes all that is in a sound database into a new file.
fn write(connection: &Connection, draft: &Path) -> Result<(), CopyError> {
    if let Some(why) = opening::unsoundness(connection)? {
        return Err(CopyError::Unsound(why));
    }
    // What a killed process has left.
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let Some(name) = draft.to_str() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "its path is not UTF-8").into());
    };
    // SQLite takes an empty file for none, and would make one that everybody may read.
    drop(OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(draft)?);
    connection.execute("VACUUM INTO ?1", [name])?;
    Ok(())
}

/// The copy of a database, if it is sound, and the newest revision in it.
pub fn newest(database: &Path) -> Option<(PathBuf, u64)> {
    let copy = path(database);
    let connection = Connection::open_with_flags(&copy, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let is_sound = opening::unsoundness(&connection).ok()?.is_none();
    let revision: i64 =
        connection.query_row("SELECT max(number) FROM revisions", [], |row| row.get(0)).ok()?;
    is_sound.then_some((copy, revision.unsigned_abs()))
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
