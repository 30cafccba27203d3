//! An access log that is not in force yet.
//!
//! Invariant: given up, it leaves no file behind that was not there before. A file in which anything stands is never removed.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::AccessLog;
use crate::{model::access_log::AccessLogSettings, telemetry::counter::Counter};

/// An access log that is open and may yet be given up, by dropping this.
#[derive(Debug)]
pub struct Trial {
    log: AccessLog,
    /// The file, if it was made for this.
    made: Option<Made>,
}

/// A file that did not exist.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    identity: (u64, u64),
    is_needed: bool,
}

impl Trial {
    /// Opens the file and starts the writer; see [`AccessLog::start`].
    pub fn start(settings: &AccessLogSettings, lost: Arc<Counter>) -> io::Result<Self> {
        let made = Made::at(&settings.path);
        Ok(Self { log: AccessLog::start(settings, lost)?, made })
    }

    /// The log, as long as it may be given up.
    pub fn log(&self) -> &AccessLog {
        &self.log
    }

    /// The log, which is in force from now on.
    pub fn accepted(self) -> AccessLog {
        let Self { log, mut made } = self;
        made.iter_mut().for_each(|made| made.is_needed = true);
        log
    }
}

impl Made {
    /// Makes the file, if it is not there. What hinders that hinders the log, too, which says it.
    fn at(path: &Path) -> Option<Self> {
        let made = (path != Path::new("-")).then(|| fs::File::create_new(path))?.ok()?;
        let identity = identity(&made.metadata().ok()?);
        Some(Self { path: path.to_owned(), identity, is_needed: false })
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let is_ours = |there: fs::Metadata| there.len() == 0 && identity(&there) == self.identity;
        if !self.is_needed && fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            // An empty file that stays harms nobody.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access_log::{AccessLogFormat, LogPiece};

    #[test]
    fn a_log_that_is_given_up_removes_only_an_empty_file_of_its_own() {
        let folder = std::env::temp_dir().join(format!("switchback-trial-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("access.log");
        let format = AccessLogFormat::Template(LogPiece::parse_template("{path}").unwrap());
        let settings = AccessLogSettings { path: path.clone(), format, sample: 1.0 };
        let start = || Trial::start(&settings, Arc::default()).unwrap();
        drop(start());
        assert!(!path.exists(), "it was made for this");
        drop(start().accepted());
        assert!(path.exists(), "it is in force");
        drop(start());
        assert!(path.exists(), "it was there before");
        fs::remove_file(&path).unwrap();
        let written = start();
        fs::write(&path, "a line\n").unwrap();
        drop(written);
        assert!(path.exists(), "something stands in it");
        fs::remove_file(&path).unwrap();
        let moved = start();
        fs::rename(&path, folder.join("access.log.1")).unwrap();
        fs::write(&path, "").unwrap();
        drop(moved);
        assert!(path.exists(), "it is another one");
        fs::remove_dir_all(folder).unwrap();
    }
}
