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
    change::Change, declaration::Source, fixed, handle::ControlError, own_addresses::OwnAddresses,
    refusal::FileFault, refusal::Refusal, snapshot::Snapshot, turns::Turns,
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

/// For texts that come with a call.
static OF_TEXTS: Turns = Turns::new();
/// For calls that have the file read. Not the same: a file system that hangs must hold up no text.
static OF_READINGS: Turns = Turns::new();

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
        self.read_holding(()).await
    }

    /// Reads and checks it on a thread, which holds something until it is done.
    async fn read_holding(&self, held: impl Send + 'static) -> Checked {
        let path = self.0.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _held = held;
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

    /// The same for a caller, of whom there may be many: one after the other.
    pub async fn read_in_turn(&self) -> Result<(Arc<Config>, Vec<Warning>), LoadError> {
        let turn = OF_READINGS.take().await?;
        Ok(self.read_holding(turn).await?)
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

/// Checks a text that came through the admin API, on a thread of its own: a large one takes a while. One text after the other;
/// a caller who goes away meanwhile leaves his turn when his text is done with.
pub async fn checked_in_turn(
    text: String,
    in_force: &Snapshot,
) -> Result<(Arc<Config>, Vec<Warning>), LoadError> {
    let turn = OF_TEXTS.take().await?;
    Ok(checked_holding(text, in_force, turn).await?)
}

/// Checks a text that is in force already.
pub(super) async fn checked(text: String, in_force: &Snapshot) -> Checked {
    checked_holding(text, in_force, ()).await
}

/// Checks a text on a thread, which holds something until it is done.
async fn checked_holding(text: String, in_force: &Snapshot, held: impl Send + 'static) -> Checked {
    let known = Arc::clone(&in_force.config);
    let parse = move || {
        let _held = held;
        config::parse_following("the text", &text, Follow::Known(&known.references))
    };
    let parsed = tokio::task::spawn_blocking(parse).await;
    let failed =
        |error| Err(ConfigErrors::of_file(Path::new("the text"), &format!("it can't be read: {error}")));
    let (config, warnings) = parsed.unwrap_or_else(failed)?;
    Ok((Arc::new(config), warnings))
}

/// What of a checked text that came through the admin API could not come into force now.
pub fn unloadable(config: &Config, in_force: &Snapshot, own: &OwnAddresses) -> Vec<FileFault> {
    let fixed = fixed::faults(&in_force.config, config, Source::Applied);
    fixed.into_iter().chain(own.faults(&in_force.config, config)).collect()
}

fn seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}
