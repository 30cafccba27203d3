//! How far a database has come, told from outside of it: by its mark, which is in the file that is locked while a process
//! serves from the database, and by its copy.
//!
//! Invariant: what a mark or a copy says was durable in the database before. So a database that is behind one of them has
//! lost what was answered; it is refused, and nothing of it is changed. One that is ahead has lost nothing: a process may
//! be killed between a commit and its mark, and a mark that is never synced may be older after a crash of the machine.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};

use super::{StoreError, copy};

/// The bytes of a mark: it is always written as a whole, over the one before, so it needs no room on the disk.
const LENGTH: usize = 80;

/// How far a database has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The newest attempt to write that was acknowledged.
    pub attempt: i64,
    /// The newest revision.
    pub revision: u64,
}

impl Mark {
    /// How far an open database has come; `None` if nothing was ever written into it.
    pub fn of(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('meta', 'revisions')";
        if connection.query_row(tables, [], |row| row.get::<_, i64>(0))? < 2 {
            return Ok(None);
        }
        let read = "SELECT attempt, (SELECT max(number) FROM revisions) FROM meta";
        let found = connection
            .query_row(read, [], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))
            .optional()?;
        Ok(found.map(|(attempt, revision)| Self { attempt, revision: revision.unwrap_or(0).unsigned_abs() }))
    }

    /// Writes it down.
    pub fn write(self, file: &File) -> io::Result<()> {
        file.write_all_at(self.to_text().as_bytes(), 0)
    }

    /// Reads what was written; `None` if nothing was.
    pub fn read(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; LENGTH];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "it is not as it was written");
        let text = str::from_utf8(&bytes).map_err(|_| malformed())?;
        let mut words = text.split_ascii_whitespace().skip(1).step_by(2);
        let attempt = words.next().and_then(|word| word.parse().ok());
        let revision = words.next().and_then(|word| word.parse().ok());
        let mark = attempt.zip(revision).map(|(attempt, revision)| Self { attempt, revision });
        mark.filter(|mark| mark.to_text() == text).map(Some).ok_or_else(malformed)
    }

    /// A line that people can read, with a sum by which a damaged one is known.
    fn to_text(self) -> String {
        let mut text = format!("attempt {:020} revision {:020} sum ", self.attempt, self.revision);
        let sum = Sha256::digest(text.as_bytes());
        for byte in &sum[..8] {
            write!(text, "{byte:02x}").expect("a text takes all that is written");
        }
        let width = LENGTH - 1;
        format!("{text:<width$}\n")
    }
}

/// What is known of a database from outside.
#[derive(Debug)]
pub struct Witness<'a> {
    database: &'a Path,
    mark: Option<Mark>,
    copy: Option<Mark>,
}

impl<'a> Witness<'a> {
    /// Reads what is known of a database. What can't be read is left out: it is no reason not to serve.
    pub fn of(database: &'a Path, lock: &File) -> Self {
        let mark = Mark::read(lock).unwrap_or_else(|error| {
            tracing::warn!(%error, "the mark beside the state's database can't be read; its copy alone tells what may be lost");
            None
        });
        Self { database, mark, copy: copy::mark(database) }
    }

    /// Refuses a database that is gone or empty though it was not, before anything makes a new one in its place.
    pub fn sees_a_file(&self) -> Result<(), StoreError> {
        let length = match fs::metadata(self.database) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => {
                return Err(StoreError::Failing { path: self.database.to_owned(), why: error.to_string() });
            }
        };
        if length > 0 {
            return Ok(());
        }
        if let Some((told, mark)) = self.furthest() {
            return Err(
                self.lost(format!("it is empty or gone, but {told} tells of revision {}", mark.revision))
            );
        }
        // SQLite would delete the log of an empty database.
        let log = copy::beside(self.database, "-wal");
        if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Err(self.lost(format!("it is empty or gone, but its log, {}, is there", log.display())));
        }
        Ok(())
    }

    /// Refuses a database that has come less far than is known.
    pub fn sees_all_in(&self, found: Option<Mark>) -> Result<(), StoreError> {
        let Some((told, known)) = self.furthest() else { return Ok(()) };
        let (attempt, held) = match found {
            Some(found) => (found.attempt, format!("the newest in it is {}", found.revision)),
            None => (-1, "nothing is in it".to_owned()),
        };
        if attempt >= known.attempt {
            return Ok(());
        }
        Err(self.lost(format!(
            "{told} tells of revision {}, but {held}: the file or its log, {}, is damaged, lost or older",
            known.revision,
            copy::beside(self.database, "-wal").display()
        )))
    }

    /// Who knows most.
    fn furthest(&self) -> Option<(&'static str, Mark)> {
        let told = [("the mark beside it", self.mark), ("the copy", self.copy)];
        let told = told.into_iter().filter_map(|(told, mark)| Some((told, mark?)));
        // Of equals the mark, which is first, has more to say: it knows of what came after the copy.
        told.rev().max_by_key(|(_, mark)| mark.attempt)
    }

    fn lost(&self, why: String) -> StoreError {
        StoreError::Damaged { path: self.database.to_owned(), why, copy: copy::newest(self.database) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_a_damaged_one_is_known() {
        let file = tempfile();
        assert_eq!(Mark::read(&file).unwrap(), None, "nothing was written");
        for (attempt, revision) in [(0, 0), (7, 5), (i64::MAX, u64::MAX)] {
            let mark = Mark { attempt, revision };
            mark.write(&file).unwrap();
            assert_eq!(Mark::read(&file).unwrap(), Some(mark));
        }
        assert_eq!(file.metadata().unwrap().len(), LENGTH as u64);
        for place in 0..LENGTH as u64 {
            let mark = Mark { attempt: 12, revision: 9 };
            mark.write(&file).unwrap();
            file.write_all_at(b"~", place).unwrap();
            assert!(Mark::read(&file).is_err(), "byte {place}");
        }
    }

    /// A file that is nobody else's, and has no name.
    fn tempfile() -> File {
        let path = std::env::temp_dir().join(format!("switchback-mark-{}", std::process::id()));
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        fs::remove_file(path).unwrap();
        file
    }
}
