//! Opening a database: its lock, its files, what is checked, and the take-over.
//!
//! Invariant: nobody but the user that Switchback runs as can read or lock the files, which hold the texts of applied
//! configuration files; and nothing is written into a database before it was found sound and whole.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};
use rustix::fs::FlockOperation;

use super::{
    StoreError, copy,
    sqlite::{Place, damaged, fault},
    steps,
};

/// Read and written by the owner alone.
pub const PRIVATE: u32 = 0o600;
/// How long another program that looks into the database may keep it locked.
pub const BUSY: Duration = Duration::from_secs(2);
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

/// The links that may lead to a database, as the kernel bounds them.
const MAX_LINKS: u32 = 40;

/// The one path of a database, wherever links have led: the names of the files beside it, its lock above all, go by that.
pub fn resolved(path: &Path) -> Result<PathBuf, StoreError> {
    let unfit = |why: &str| StoreError::Unfit { path: path.to_owned(), why: why.to_owned() };
    let failing = |error: io::Error| StoreError::Failing { path: path.to_owned(), why: error.to_string() };
    let mut wanted = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::canonicalize(&wanted) {
            Ok(path) => {
                let found = fs::metadata(&path).map_err(failing)?;
                if !found.is_file() {
                    return Err(unfit("it is not a regular file"));
                }
                if found.nlink() > 1 {
                    // The log is found by the name of the database, so by each name another one.
                    return Err(unfit(
                        "the file has several names (hard links), each of which would have a lock and a log of its own: \
                         remove all but one",
                    ));
                }
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failing(error)),
        }
        // It is yet to be made: in a folder that is there, or where a link leads that has nothing at its end.
        let folder =
            wanted.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = fs::canonicalize(folder).map_err(failing)?;
        match fs::read_link(&wanted) {
            Ok(target) => wanted = folder.join(target),
            Err(_) => {
                let name = wanted.file_name().ok_or_else(|| unfit("it has no name of a file"))?;
                return Ok(folder.join(name));
            }
        }
    }
    Err(unfit("too many links lead to it"))
}

/// Takes the lock that keeps two processes from serving from one database.
pub fn locked(path: &Path, place: &Place) -> Result<File, StoreError> {
    let failing =
        |error: std::io::Error| StoreError::Failing { path: path.to_owned(), why: error.to_string() };
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(PRIVATE);
    let file = file.open(path).map_err(failing)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::InUse { path: place.path() }),
        Err(error) => return Err(failing(error.into())),
    }
    keep_private(path);
    Ok(file)
}

/// Makes the file of a database if there is none. What is there already, of an earlier version perhaps, becomes private.
pub fn made(path: &Path) -> std::io::Result<()> {
    // SQLite gives its log the permissions of the database. Nobody in this process has it open: closing a file here would
    // end the locks that SQLite holds on it.
    drop(OpenOptions::new().write(true).create(true).truncate(false).mode(PRIVATE).open(path)?);
    for file in ["", "-wal", "-shm", copy::COPY, copy::DRAFT] {
        keep_private(&copy::beside(path, file));
    }
    Ok(())
}

fn keep_private(path: &Path) {
    // A file of another user's that may be used stays as its owner wants it.
    if fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o777 != PRIVATE) {
        let _ = fs::set_permissions(path, Permissions::from_mode(PRIVATE));
    }
}

/// Connects to a database.
pub fn connected(place: &Place) -> Result<Connection, StoreError> {
    let fault = |error| fault(place, error);
    let connection = match place {
        Place::Memory => Connection::open_in_memory().map_err(fault)?,
        Place::File(path) => {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
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

/// Connects to a database that is open for writing in this process, to read it alone.
pub fn reading(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// What SQLite finds wrong with a database; `None` if it is sound.
pub fn unsoundness(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((said != "ok").then_some(said))
}

/// Refuses a database that is damaged.
pub fn check_soundness(place: &Place, connection: &Connection) -> Result<(), StoreError> {
    match unsoundness(connection).map_err(|error| fault(place, error))? {
        Some(why) => Err(damaged(place, why)),
        None => Ok(()),
    }
}

/// Refuses a database of a later version.
pub fn check_form(place: &Place, connection: &Connection) -> Result<(), StoreError> {
    let fault = |error| fault(place, error);
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(fault)?;
    if format > FORMAT {
        let why =
            format!("it has the form {format}, of a later version of Switchback; this one knows {FORMAT}");
        return Err(StoreError::Failing { path: place.path(), why });
    }
    Ok(())
}

/// Makes the tables if need be, and begins a new epoch. Answers it, and the last attempt.
pub fn take_over(connection: &mut Connection) -> rusqlite::Result<(i64, i64)> {
    let write = connection.transaction()?;
    write.execute_batch(TABLES)?;
    write.execute_batch(steps::TABLE)?;
    write.pragma_update(None, "user_version", FORMAT)?;
    write.execute("UPDATE meta SET epoch = epoch + 1", [])?;
    let taken =
        write.query_row("SELECT epoch, attempt FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    write.commit()?;
    Ok(taken)
}
