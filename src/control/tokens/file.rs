//! The file of tokens on its disk: read strictly, and replaced whole.
//!
//! Invariant: at every moment the file is the old one or the new one, and two writers never lose each other's change:
//! whoever writes holds a lock of the folder, reads, and puts a new file, of its owner alone, in the old one's place.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

use crate::model::tokens::{InvalidTokens, TokenFault, Tokens};

/// The largest file: the most tokens need a quarter of it.
const MAX_BYTES: u64 = 1 << 20;
/// The permissions of others than the owner: to write, and to read.
const WRITE: u32 = 0o022;
const READ: u32 = 0o044;
/// How long another writer is waited for, and how often it is looked for.
const LOCK_WITHIN: Duration = Duration::from_secs(5);
const TRY_EVERY: Duration = Duration::from_millis(20);

/// Why the file could not be changed. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The change makes no sense with the tokens that there are.
    #[error(transparent)]
    Fault(#[from] TokenFault),
    /// What is in the file is malformed: it is not overwritten.
    #[error("the tokens in {} are refused: {error}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: InvalidTokens,
    },
    /// It could not be read or written.
    #[error("the file of tokens {} can't be changed: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The system has no randomness to give.
    #[error("the system gives no random bytes for a token: {0}")]
    Random(#[from] getrandom::Error),
}

impl EditError {
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }
}

/// Reads the file; `None` if it is not there.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    // A pipe or device could keep who opens it waiting.
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.mode() & WRITE != 0 {
        // Whoever can write it can give himself every right.
        return Err(io::Error::other("others than its owner may write it: chmod 600"));
    }
    let mut text = String::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?.take(MAX_BYTES + 1).read_to_string(&mut text)?,
    };
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is too large to be a file of tokens"));
    }
    Ok(Some(text))
}

/// Whether others than its owner may read it. They learn names, roles and hashes, from which no token can be found.
pub fn is_readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & READ != 0)
}

/// The tokens of the file, for who only looks.
pub fn tokens(path: &Path) -> Result<Tokens, EditError> {
    let text = read(path).map_err(|error| EditError::io(path, error))?;
    let parsed = Tokens::parse(&text.unwrap_or_default());
    parsed.map_err(|error| EditError::Invalid { path: path.to_owned(), error })
}

/// Changes the tokens of the file, which is made if it is not there, and answers its new text. What is answered is on
/// the disk.
pub fn edit(
    path: &Path,
    change: impl FnOnce(Tokens) -> Result<Tokens, TokenFault>,
) -> Result<String, EditError> {
    let failed = |error| EditError::io(path, error);
    // Where a link leads, so that the link stays.
    let target = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        target => target.map_err(failed)?,
    };
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(parent).map_err(failed)?;
    lock(&folder).map_err(failed)?;
    let text = change(tokens(&target)?)?.to_file();
    replace(&target, &text).and_then(|()| folder.sync_all()).map_err(failed)?;
    Ok(text)
}

/// Locks a folder for as long as its file is open, also against other processes.
fn lock(folder: &File) -> io::Result<()> {
    let deadline = Instant::now() + LOCK_WITHIN;
    loop {
        match flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(TRY_EVERY),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another process is changing it"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Puts a whole new file in the old one's place, with its owner and for him alone.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    // What a killed writer has left: the lock says that nobody else is at it.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        if let Ok(old) = fs::metadata(path) {
            let made = file.metadata()?;
            if (old.uid(), old.gid()) != (made.uid(), made.gid()) {
                // The superuser adds a token to the file of a service, which must go on to be able to read it.
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
        }
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::{control::tokens::make, model::role::Role};

    /// A folder of the test's own, removed at its end.
    pub struct Folder(pub PathBuf);

    impl Folder {
        pub fn new(test: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("switchback-tokens-{}-{test}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn add(path: &Path) -> Result<String, EditError> {
        let (_, token) = make(None, Role::Viewer, None).unwrap();
        edit(path, |tokens| tokens.with(token))
    }

    #[test]
    fn writers_at_once_lose_nothing_and_leave_nothing_behind() {
        let folder = Folder::new("writers");
        let path = folder.0.join("tokens.toml");
        fs::write(folder.0.join("tokens.toml.new"), "what a killed writer has left").unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| drop(add(&path).unwrap())));
            }
        });
        assert_eq!(tokens(&path).unwrap().iter().count(), 40);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_and_its_file_is_replaced() {
        let folder = Folder::new("link");
        let (file, link) = (folder.0.join("real.toml"), folder.0.join("tokens.toml"));
        add(&file).unwrap();
        symlink(&file, &link).unwrap();
        add(&link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(tokens(&file).unwrap().iter().count(), 2);
    }

    #[test]
    fn what_others_may_write_or_is_malformed_is_neither_believed_nor_overwritten() {
        let folder = Folder::new("others");
        let path = folder.0.join("tokens.toml");
        add(&path).unwrap();
        for mode in [0o620, 0o602, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("chmod 600"));
            assert!(matches!(add(&path), Err(EditError::Io { .. })));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path).unwrap().is_some() && is_readable_by_others(&path));
        fs::write(&path, "half a fi").unwrap();
        assert!(matches!(add(&path), Err(EditError::Invalid { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "half a fi");
        assert!(read(&folder.0).is_err(), "a folder is no file");
        assert!(matches!(add(&folder.0.join("not/there.toml")), Err(EditError::Io { .. })));
    }
}
