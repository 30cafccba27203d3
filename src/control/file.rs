//! The configuration file of a running process: where it is, how it is read, and what came of the last reading.
//!
//! Invariant: a file that is wrong changes nothing but what is said of it here.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use tokio::sync::{Notify, watch};

use super::{
    change::Change, declaration::Source, fixed, handle::ControlError, refusal::FileFault, refusal::Refusal,
    snapshot::Snapshot,
};
use crate::config::{self, Config, Follow};
pub use crate::config::{ConfigErrors, Diagnostic, Warning};

/// What became of a reading of the file.
pub const OUTCOMES: [&str; 4] = ["applied", "unchanged", "refused", "failed"];

/// The file of this process. Every clone is the same one.
#[derive(Debug, Clone)]
pub struct File(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    trouble: watch::Sender<Option<Arc<Trouble>>>,
    /// When what is on disk was last found to be in force, in seconds of Unix time.
    loaded_at: AtomicU64,
    outcomes: [AtomicU64; OUTCOMES.len()],
    pub(super) asked: Notify,
}

/// Why the file on disk is not in force. What was in force before it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Since when.
    pub at: SystemTime,
    /// Everything, in words.
    pub detail: String,
    /// What is wrong with its text, each with its place.
    pub errors: Vec<Diagnostic>,
    /// What is right in it and can't come into force.
    pub refused: Vec<FileFault>,
}

/// Why a text is not in force.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The text is wrong.
    #[error(transparent)]
    Text(#[from] ConfigErrors),
    /// It could not be put in force.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// A text that was checked: its configuration, and what may surprise about it.
pub type Checked = Result<(Arc<Config>, Vec<Warning>), ConfigErrors>;

impl File {
    /// The file at a path. It was read when the process started.
    pub fn new(path: &Path) -> Self {
        let trouble = watch::Sender::new(None);
        let (loaded_at, outcomes, asked) = (AtomicU64::new(seconds()), Default::default(), Notify::new());
        Self(Arc::new(Shared { path: path.to_owned(), trouble, loaded_at, outcomes, asked }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Has it read at once, whether or not it seems to have changed. Does not wait.
    pub fn ask(&self) {
        self.0.asked.notify_one();
    }

    pub(super) async fn asked(&self) {
        self.0.asked.notified().await;
    }

    /// Reads and checks it, on a thread of its own: a file system that hangs must not hold up the control plane.
    pub async fn read(&self) -> Checked {
        let path = self.0.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            // Opening a pipe would wait for whoever writes to it.
            if std::fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
                return Err(ConfigErrors::of_file(&path, "the file can't be read: it is not a regular file"));
            }
            config::load(&path)
        });
        let failed = |error| Err(ConfigErrors::of_file(&self.0.path, &format!("it can't be read: {error}")));
        let (config, warnings) = read.await.unwrap_or_else(failed)?;
        Ok((Arc::new(config), warnings))
    }

    /// Takes down what became of a reading.
    pub fn note(&self, result: Result<&Change, &LoadError>) {
        let outcome = match result {
            Ok(change) if change.changed() => 0,
            Ok(_) => 1,
            Err(LoadError::Text(_) | LoadError::Control(ControlError::Refused(_))) => 2,
            Err(_) => 3,
        };
        self.0.outcomes[outcome].fetch_add(1, Relaxed);
        match result {
            Ok(_) => {
                self.0.loaded_at.store(seconds(), Relaxed);
                if self.0.trouble.send_replace(None).is_some() {
                    tracing::info!(file = %self.0.path.display(), "the file is good again");
                }
            }
            Err(error) => self.complain(error),
        }
    }

    /// Says once what is wrong.
    fn complain(&self, error: &LoadError) {
        let trouble = Trouble::of(error);
        let is_known = |known: &Trouble| known.detail == trouble.detail;
        if self.0.trouble.borrow().as_deref().is_some_and(is_known) {
            return;
        }
        let (file, error) = (self.0.path.display(), &trouble.detail);
        tracing::error!(%file, %error, "the file is not loaded; what was in force still is");
        self.0.trouble.send_replace(Some(Arc::new(trouble)));
    }

    /// Why what is on disk is not in force.
    pub fn trouble(&self) -> Option<Arc<Trouble>> {
        self.0.trouble.borrow().clone()
    }

    /// Sees each trouble as it comes and goes.
    pub fn troubles(&self) -> watch::Receiver<Option<Arc<Trouble>>> {
        self.0.trouble.subscribe()
    }

    /// When what is on disk was last found to be in force, in seconds of Unix time.
    pub fn loaded_at(&self) -> u64 {
        self.0.loaded_at.load(Relaxed)
    }

    /// How often it was read, by what came of it.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.into_iter().zip(&self.0.outcomes).map(|(name, count)| (name, count.load(Relaxed)))
    }
}

impl Trouble {
    fn of(error: &LoadError) -> Self {
        let (errors, refused) = match error {
            LoadError::Text(errors) => (errors.errors().to_vec(), Vec::new()),
            LoadError::Control(ControlError::Refused(Refusal::File(faults))) => (Vec::new(), faults.clone()),
            LoadError::Control(_) => (Vec::new(), Vec::new()),
        };
        Self { at: SystemTime::now(), detail: error.to_string(), errors, refused }
    }
}

/// Checks a text that came through the admin API, on a thread of its own: a large one takes a while.
pub async fn checked(text: String, in_force: &Snapshot) -> Checked {
    let known = Arc::clone(&in_force.config);
    let parse = move || config::parse_following("the text", &text, Follow::Known(&known.references));
    let parsed = tokio::task::spawn_blocking(parse).await;
    let failed =
        |error| Err(ConfigErrors::of_file(Path::new("the text"), &format!("it can't be read: {error}")));
    let (config, warnings) = parsed.unwrap_or_else(failed)?;
    Ok((Arc::new(config), warnings))
}

/// What of a checked text could not come into force now.
pub fn unloadable(config: &Config, source: Source, in_force: &Snapshot) -> Vec<FileFault> {
    fixed::faults(&in_force.config, config, source)
}

fn seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}
