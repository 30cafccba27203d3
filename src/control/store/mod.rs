//! Where revisions are kept: one narrow port, and the thread on which it is used.
//!
//! Invariant: what [`Store::commit`] has answered with success is there after `kill -9`; what it has answered with an
//! error is not. It may take as long as a disk takes: the control plane goes on meanwhile.

use std::{
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::SystemTime,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    change::Change,
    state::State,
    taken_back::{self, Held},
};

pub(super) mod copy;
pub mod document;
mod gate;
mod log;
mod mark;
mod opening;
mod reading;
pub mod sqlite;
mod steps;

/// Commits and questions that may wait. The controller makes one commit at a time, so the rest are readers.
const MAX_WAITING: usize = 64;
/// The revisions that are kept; the oldest go first.
pub const MAX_REVISIONS: u64 = 10_000;
/// The most revisions of one page.
pub const MAX_PAGE: usize = 200;

/// Where revisions are kept.
pub trait Backend: Send + 'static {
    /// The newest revision's state, and all changes that are kept, oldest first; `None` if nothing was ever kept.
    fn load(&mut self) -> Result<Option<Kept>, StoreError>;

    /// Keeps an entry for good, or, where it fails, not at all.
    fn commit(&mut self, entry: &Entry) -> Result<(), StoreError>;

    /// What reads the history on another thread, if anything can.
    fn reader(&self) -> Option<Box<dyn Reader>>;

    /// The changes before a revision (without it; all if `None`), newest first.
    fn page(&mut self, before: Option<u64>, limit: usize) -> Result<Vec<Change>, StoreError>;

    /// A revision: the change, and the text of the state after it.
    fn find(&mut self, revision: u64) -> Result<Option<(Change, String)>, StoreError>;

    /// What was answered to an earlier call with this key.
    fn recall(&mut self, key: &str) -> Result<Option<Receipt>, StoreError>;

    /// Does what may wait until a commit is answered, and what no commit needs.
    fn tidy(&mut self);

    /// Lets another process take over: nothing is written any more, and no lock is left. What that process could not read
    /// itself can still be read here.
    fn close(&mut self) -> Result<(), StoreError>;

    /// Takes over again, from whoever had it meanwhile. What is open already stays so.
    fn reopen(&mut self) -> Result<(), StoreError>;
}

/// Reads the history beside the thread that makes commits. Every call answers `None` while only that one can tell.
pub trait Reader: Send + 'static {
    /// As [`Backend::page`].
    fn page(&mut self, before: Option<u64>, limit: usize) -> Result<Option<Vec<Change>>, StoreError>;

    /// As [`Backend::find`].
    fn find(&mut self, revision: u64) -> Result<Option<Found>, StoreError>;
}

/// A revision's change, and the text of the state after it, if there is such a revision.
pub type Found = Option<(Change, String)>;

/// What is kept at once.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What happened.
    pub change: Change,
    /// The text of the state after it, if that is a new revision.
    pub state: Option<String>,
    /// The text of a declaration that was applied and is in force from this revision on.
    pub applied: Option<String>,
    /// By what the caller may recognise it again.
    pub receipt: Option<Receipt>,
}

/// The answer that a key of the caller's stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The key.
    pub key: String,
    /// What was asked for, digested: a key that comes with something else is a mistake.
    pub asked: [u8; 32],
    /// What was answered.
    pub change: Change,
}

/// What a store holds at the start.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Where it is, as it is shown.
    pub path: PathBuf,
    /// The newest revision.
    pub revision: u64,
    /// The text of the state after it.
    pub state: String,
    /// The text of the declaration that was applied last.
    pub applied: Option<String>,
    /// The changes that are kept, oldest first; of those before them, what they say of splits.
    pub changes: Vec<Change>,
}

/// Why something was not kept, or can't be read. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no room.
    #[error("there is no room for it in {path}: make room on its disk, and try again")]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// The disk or the file fails.
    #[error("{path} can't be written or read ({why}): look at its disk, and try again")]
    Failing {
        /// The database.
        path: PathBuf,
        /// What was said.
        why: String,
    },
    /// What is there is no longer a sound database.
    #[error("{path} is damaged ({why}){}", way_on(.path, .copy.as_ref()))]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// The last good copy, and the newest revision in it.
        copy: Option<(PathBuf, u64)>,
    },
    /// What a predecessor has passed on does not go on from it.
    #[error(
        "{path} holds another history already, up to revision {revision}, so the live state can't go on there: name a path \
         where nothing is yet, or move it and every file whose name begins so to another folder"
    )]
    Other {
        /// The database.
        path: PathBuf,
        /// The newest revision in it.
        revision: u64,
    },
    /// What is there can't be a database.
    #[error("{path} can't be the state's database: {why}")]
    Unfit {
        /// The path.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Another process serves from it.
    #[error("{path} is in use by another process: stop that one first, or name another [state] path")]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// A successor has taken over.
    #[error("another process has taken over {path}: changes are made there")]
    Fenced {
        /// The database.
        path: PathBuf,
    },
    /// The process is ending.
    #[error("the store is closed: the process is ending")]
    Closed,
}

/// What somebody who reads of a damaged database can do.
fn way_on(path: &Path, copy: Option<&(PathBuf, u64)>) -> String {
    let path = path.display();
    match copy {
        Some((copy, revision)) => format!(
            ". The last good copy is {}, up to revision {revision}: to go on from there, move {path} and every file whose \
             name begins so to another folder, and from there the copy back to {path}; to begin anew from the file's \
             weights, move them all",
            copy.display()
        ),
        None => format!(
            ". There is no good copy of it: to begin anew from the file's weights, move {path} and every file whose name \
             begins so to another folder"
        ),
    }
}

/// The handle of a store that is used on threads of its own: one writes, one reads the history. Every clone is the same one.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    /// None where the history is read by the writer.
    reads: Option<mpsc::Sender<Read>>,
}

#[derive(Debug)]
enum Job {
    Commit(Box<Entry>, oneshot::Sender<Result<(), StoreError>>),
    Page { before: Option<u64>, limit: usize, answer: oneshot::Sender<Result<Vec<Change>, StoreError>> },
    Find { revision: u64, answer: oneshot::Sender<Result<Option<(Change, String)>, StoreError>> },
    Recall { key: String, answer: oneshot::Sender<Result<Option<Receipt>, StoreError>> },
    Close(oneshot::Sender<Result<(), StoreError>>),
    Reopen { held: Box<Held>, answer: oneshot::Sender<Result<Option<State>, StoreError>> },
}

/// What is read of the history; the answer is `None` where the writer has to be asked.
#[derive(Debug)]
enum Read {
    Page {
        before: Option<u64>,
        limit: usize,
        answer: oneshot::Sender<Result<Option<Vec<Change>>, StoreError>>,
    },
    Find {
        revision: u64,
        answer: oneshot::Sender<Result<Option<Found>, StoreError>>,
    },
}

impl Store {
    /// Starts the threads. They end, and close the store, when no handle is left.
    pub fn start(mut backend: impl Backend) -> (Self, JoinHandle<()>) {
        let (jobs, mut waiting) = mpsc::channel::<Job>(MAX_WAITING);
        let reads = backend.reader().map(reads);
        let serve = move || {
            while let Some(job) = waiting.blocking_recv() {
                job.done(&mut backend);
            }
            if let Err(error) = backend.close() {
                tracing::error!(%error, "the state's database could not be closed as it should be");
            }
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(serve);
        (Self { jobs, reads }, thread.expect("a process that has just started can start a thread"))
    }

    /// Keeps an entry for good.
    pub async fn commit(&self, entry: Entry) -> Result<(), StoreError> {
        self.ask(|answer| Job::Commit(Box::new(entry), answer)).await
    }

    /// The changes before a revision (all if `None`), newest first, at most [`MAX_PAGE`].
    pub async fn page(&self, before: Option<u64>, limit: usize) -> Result<Vec<Change>, StoreError> {
        let limit = limit.min(MAX_PAGE);
        match self.read(|answer| Read::Page { before, limit, answer }).await? {
            Some(page) => Ok(page),
            None => self.ask(|answer| Job::Page { before, limit, answer }).await,
        }
    }

    /// A revision: the change, and the text of the state after it.
    pub async fn find(&self, revision: u64) -> Result<Option<(Change, String)>, StoreError> {
        match self.read(|answer| Read::Find { revision, answer }).await? {
            Some(found) => Ok(found),
            None => self.ask(|answer| Job::Find { revision, answer }).await,
        }
    }

    /// What was answered to an earlier call with this key.
    pub async fn recall(&self, key: &str) -> Result<Option<Receipt>, StoreError> {
        let key = key.to_owned();
        self.ask(|answer| Job::Recall { key, answer }).await
    }

    /// Lets another process take over: see [`Backend::close`].
    pub async fn close(&self) -> Result<(), StoreError> {
        self.ask(Job::Close).await
    }

    /// Takes over again. Answers the state to go on with, if what is kept is no longer what was in force here.
    pub(super) async fn reopen(&self, held: Held) -> Result<Option<State>, StoreError> {
        self.ask(|answer| Job::Reopen { held: Box::new(held), answer }).await
    }

    async fn read<T>(
        &self,
        read: impl FnOnce(oneshot::Sender<Result<Option<T>, StoreError>>) -> Read,
    ) -> Result<Option<T>, StoreError> {
        let Some(reads) = &self.reads else { return Ok(None) };
        let (answer, answered) = oneshot::channel();
        reads.send(read(answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Starts the thread that reads. It ends when no handle is left.
fn reads(mut reader: Box<dyn Reader>) -> mpsc::Sender<Read> {
    let (reads, mut waiting) = mpsc::channel::<Read>(MAX_WAITING);
    let serve = move || {
        while let Some(read) = waiting.blocking_recv() {
            // Whoever asked may have gone.
            match read {
                Read::Page { before, limit, answer } => drop(answer.send(reader.page(before, limit))),
                Read::Find { revision, answer } => drop(answer.send(reader.find(revision))),
            }
        }
    };
    let thread = std::thread::Builder::new().name("history".into()).spawn(serve);
    thread.expect("a process that has just started can start a thread");
    reads
}

fn reopened(backend: &mut impl Backend, held: &Held) -> Result<Option<State>, StoreError> {
    backend.reopen()?;
    taken_back::state(backend, held, SystemTime::now())
}

impl Job {
    /// Does it. Whoever asked may have gone.
    fn done(self, backend: &mut impl Backend) {
        match self {
            Self::Commit(entry, answer) => {
                drop(answer.send(backend.commit(&entry)));
                backend.tidy();
            }
            Self::Page { before, limit, answer } => drop(answer.send(backend.page(before, limit))),
            Self::Find { revision, answer } => drop(answer.send(backend.find(revision))),
            Self::Recall { key, answer } => drop(answer.send(backend.recall(&key))),
            Self::Close(answer) => drop(answer.send(backend.close())),
            Self::Reopen { held, answer } => drop(answer.send(reopened(backend, &held))),
        }
    }
}

#[cfg(test)]
mod tests;
