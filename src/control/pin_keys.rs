//! The keys of pins: from their file, looked at again and again, or made for the life of the process.
//!
//! Invariant: keys that were once in use are only replaced by good ones. A file that is gone, half written or malformed
//! leaves them in force, and the log says so once.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::time::MissedTickBehavior;

use crate::{
    config::Pins,
    model::{key_lines::InvalidKeys, pin_keys::PinKeys},
    routing::pins::SharedKeys,
};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a change of it is left to settle.
const SETTLES_WITHIN: Duration = Duration::from_millis(100);
/// The largest file: the most keys, with comments, need a few kilobytes.
const MAX_BYTES: u64 = 64 << 10;
/// The permissions of others than the owner.
const OTHERS: u32 = 0o077;

/// A file of keys that is in use.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    keys: SharedKeys,
    /// What it held when it was last read, good or not, or why it could not be read.
    seen: Result<String, String>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file can't be read, or, where there is none, not be made.
    #[error("the keys of pins can't be had from {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is malformed.
    #[error("the keys of pins in {path} are refused: {error}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: InvalidKeys,
    },
    /// The system has no randomness to give.
    #[error("the system gives no random bytes for a key of pins: {0}")]
    Random(#[from] getrandom::Error),
}

/// The key of a process, and of those that succeed it, for where no file names any. Nothing shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct PassingKey([u8; PinKeys::LEAST]);

impl PassingKey {
    /// A new one.
    pub fn random() -> Result<Self, KeyFileError> {
        random().map(Self)
    }

    /// The key as a successor is told it.
    pub fn to_text(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// What a predecessor has told.
    pub fn from_text(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl std::fmt::Debug for PassingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PassingKey(..)")
    }
}

/// Keys that are ready to be used.
#[derive(Debug)]
pub struct Prepared {
    keys: PinKeys,
    /// The file that they are from, and its text.
    file: Option<(PathBuf, String)>,
}

/// Puts the keys in use that the settings name: those of the file, which is made if there is none, or the `own` one of
/// this process. Answers the file that is to be followed.
pub fn open(settings: &Pins, keys: SharedKeys, own: &PassingKey) -> Result<Option<KeyFile>, KeyFileError> {
    Ok(prepare(settings, own)?.put_in_force(&keys))
}

/// Reads the keys that the settings name, as [`open`] does. They are not in use yet.
pub fn prepare(settings: &Pins, own: &PassingKey) -> Result<Prepared, KeyFileError> {
    let Some(path) = settings.key_file.clone() else {
        return Ok(Prepared { keys: PinKeys::of(&own.0), file: None });
    };
    let text = match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = random()?;
            // Instances in containers of their own may share the folder and the number of their process.
            let name = u64::from_ne_bytes(*random()?.first_chunk().expect("a key is longer"));
            create(&path, &PinKeys::file_of(&key), name).and_then(|()| read(&path))
        }
        read => read,
    };
    let text = text.map_err(|error| KeyFileError::Unreadable { path: path.clone(), error })?;
    warn_if_open(&path);
    let keys = PinKeys::parse(&text).map_err(|error| KeyFileError::Invalid { path: path.clone(), error })?;
    Ok(Prepared { keys, file: Some((path, text)) })
}

impl Prepared {
    /// Puts the keys in use, and answers the file that is to be followed.
    pub fn put_in_force(self, shared: &SharedKeys) -> Option<KeyFile> {
        let Self { keys, file } = self;
        if let Some((path, _)) = &file {
            tracing::info!(file = %path.display(), keys = keys.count(), "the keys of pins are in use");
        }
        shared.publish(keys);
        file.map(|(path, text)| KeyFile { path, keys: shared.clone(), seen: Ok(text) })
    }
}

impl KeyFile {
    /// Looks at the file again and again, so that its keys can be changed without a restart. Never ends.
    pub async fn follow(mut self) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let found = self.read().await;
            if found == self.seen {
                continue;
            }
            // Who writes it in place may be in the middle: some of the keys are a good file, too.
            tokio::time::sleep(SETTLES_WITHIN).await;
            if self.read().await == found {
                self.take(found);
            }
        }
    }

    /// Reads on a thread of its own: a file system that hangs must not hold up the control plane.
    async fn read(&self) -> Result<String, String> {
        let path = self.path.clone();
        let found = tokio::task::spawn_blocking(move || read(&path)).await;
        found.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// Takes what was found and is something new.
    fn take(&mut self, read: Result<String, String>) {
        let file = self.path.display();
        match read.as_ref().map(|text| PinKeys::parse(text)) {
            Ok(Ok(keys)) => {
                let count = keys.count();
                self.keys.publish(keys);
                // Who reads this may go by it.
                tracing::info!(%file, keys = count, "the keys of pins have changed");
            }
            Ok(Err(error)) => {
                tracing::error!(%file, %error, "the keys of pins are refused; the old ones stay")
            }
            Err(error) => tracing::error!(%file, %error, "the keys of pins can't be read; the old ones stay"),
        }
        self.seen = read;
    }
}

fn random() -> Result<[u8; PinKeys::LEAST], KeyFileError> {
    let mut key = [0; PinKeys::LEAST];
    getrandom::fill(&mut key)?;
    Ok(key)
}

/// Reads a file of keys.
fn read(path: &Path) -> io::Result<String> {
    // A pipe or device could keep who opens it waiting.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is too large to be a file of keys"));
    }
    Ok(text)
}

/// Warns of a file that others than its owner may read or write: whoever knows a key can pin to any pool.
fn warn_if_open(path: &Path) {
    if fs::metadata(path).is_ok_and(|metadata| metadata.mode() & OTHERS != 0) {
        tracing::warn!(file = %path.display(), "others than its owner may use this file of keys: chmod 600");
    }
}

/// Makes a file of keys that its owner alone may read. It appears whole, and never in the place of one that another
/// instance has made meanwhile.
fn create(path: &Path, text: &str, name: u64) -> io::Result<()> {
    let mut whole = path.as_os_str().to_owned();
    whole.push(format!(".{name:016x}.new"));
    let whole = PathBuf::from(whole);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&whole)?;
    let linked = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let linked = linked.and_then(|()| fs::hard_link(&whole, path));
    fs::remove_file(&whole)?;
    match linked {
        Ok(()) => {
            tracing::info!(file = %path.display(), "a file with a new key of pins was made");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of the test's own, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("switchback-keys-{}-{test}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn key() -> PassingKey {
        PassingKey::random().unwrap()
    }

    fn signed(keys: &SharedKeys) -> Option<[u8; 32]> {
        keys.load().sign(b"text")
    }

    #[test]
    fn a_file_that_is_not_there_is_made_for_its_owner_alone_and_found_by_the_next_instance() {
        let folder = Folder::new("made");
        let settings = Pins { key_file: Some(folder.0.join("pins.keys")) };
        let [one, other] = [SharedKeys::default(), SharedKeys::default()];
        assert!(signed(&one).is_none());
        open(&settings, one.clone(), &key()).unwrap();
        open(&settings, other.clone(), &key()).unwrap();
        assert!(signed(&one).is_some());
        assert_eq!(signed(&one), signed(&other));
        let made: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(made.len(), 1, "nothing else is left: {made:?}");
        assert_eq!(made[0].metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn without_a_file_each_process_has_a_key_of_its_own() {
        let [one, other] = [SharedKeys::default(), SharedKeys::default()];
        for keys in [&one, &other] {
            assert!(open(&Pins::default(), keys.clone(), &key()).unwrap().is_none());
        }
        assert_ne!(signed(&one), signed(&other));
    }

    #[test]
    fn a_successor_goes_on_with_the_key_of_its_predecessor_and_nothing_shows_it() {
        let [one, other] = [SharedKeys::default(), SharedKeys::default()];
        let own = key();
        assert_eq!(format!("{own:?}"), "PassingKey(..)");
        let told = PassingKey::from_text(&own.to_text()).unwrap();
        open(&Pins::default(), one.clone(), &own).unwrap();
        open(&Pins::default(), other.clone(), &told).unwrap();
        assert_eq!(signed(&one), signed(&other));
        for wrong in ["", "c2hvcnQ=", "no key"] {
            assert_eq!(PassingKey::from_text(wrong), None);
        }
    }

    #[test]
    fn what_is_malformed_is_refused_at_the_start_and_changes_nothing_later() {
        let folder = Folder::new("malformed");
        let path = folder.0.join("pins.keys");
        let settings = Pins { key_file: Some(path.clone()) };
        fs::write(&path, "secret\n").unwrap();
        let said = open(&settings, SharedKeys::default(), &key()).unwrap_err().to_string();
        assert!(said.contains("line 1") && !said.contains("secret"), "{said}");
        let directory = Pins { key_file: Some(folder.0.clone()) };
        assert!(matches!(
            open(&directory, SharedKeys::default(), &key()),
            Err(KeyFileError::Unreadable { .. })
        ));

        fs::write(&path, "01".repeat(32)).unwrap();
        let keys = SharedKeys::default();
        let mut file = open(&settings, keys.clone(), &key()).unwrap().unwrap();
        let first = signed(&keys);
        for bad in [Ok("too short".to_owned()), Ok(String::new()), Err("it is gone".to_owned())] {
            file.take(bad);
            assert_eq!(signed(&keys), first);
        }
        file.take(Ok(format!("{}\n{}", "02".repeat(32), "01".repeat(32))));
        assert_ne!(signed(&keys), first, "the new key signs");
        assert!(keys.load().verify(b"text", &first.unwrap()), "and the old one is accepted");
    }
}
