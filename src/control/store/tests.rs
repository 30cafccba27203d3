//! What waits for what: changes for nothing but the disk, and nothing that is read for a copy.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::SystemTime,
};

use super::{
    document::Document,
    sqlite::{Place, Sqlite},
    *,
};
use crate::control::{
    change::{Kind, Origin},
    command::Command,
    samples::config,
    start,
};

static MADE: AtomicU32 = AtomicU32::new(0);

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("switchback-store-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn database(&self) -> PathBuf {
        self.0.join("s.db")
    }

    fn open(&self) -> Sqlite {
        Sqlite::open(Place::File(self.database())).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A revision with so many bytes of a state.
fn entry(revision: u64, bytes: usize) -> Entry {
    let author = Origin::Api.into();
    let at = SystemTime::UNIX_EPOCH;
    let change = Change { revision, kind: Kind::Restore, author, at, effects: Vec::new() };
    Entry { change, state: Some("x".repeat(bytes)), applied: None, receipt: None }
}

/// A store whose tidying takes until the test says so.
struct Slow {
    store: Sqlite,
    begun: Sender<()>,
    go_on: Receiver<()>,
}

impl Backend for Slow {
    fn load(&mut self) -> Result<Option<Kept>, StoreError> {
        self.store.load()
    }

    fn commit(&mut self, entry: &Entry) -> Result<(), StoreError> {
        self.store.commit(entry)
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        self.store.reader()
    }

    fn page(&mut self, before: Option<u64>, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.store.page(before, limit)
    }

    fn find(&mut self, revision: u64) -> Result<Option<(Change, String)>, StoreError> {
        self.store.find(revision)
    }

    fn recall(&mut self, key: &str) -> Result<Option<Receipt>, StoreError> {
        self.store.recall(key)
    }

    fn tidy(&mut self) {
        self.begun.send(()).unwrap();
        // The test's end ends it, too.
        let _ = self.go_on.recv();
        self.store.tidy();
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.store.close()
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.store.reopen()
    }
}

#[tokio::test]
async fn a_change_is_answered_before_anything_is_tidied_and_the_history_is_read_meanwhile() {
    let folder = Folder::new();
    let (begun, begins) = channel();
    let (go, go_on) = channel();
    let (store, thread) = Store::start(Slow { store: folder.open(), begun, go_on });
    store.commit(entry(1, 9)).await.expect("it is answered");
    begins.recv().expect("it is tidied after the answer");
    let page = store.page(None, 10).await.expect("it is read while the writer is busy");
    assert_eq!(page.len(), 1);
    assert_eq!(store.find(1).await.unwrap().expect("it is kept").1, "x".repeat(9));
    drop((go, store));
    thread.join().expect("it ends");
}

#[tokio::test]
async fn what_was_given_up_is_read_no_more_until_it_is_taken_back() {
    let folder = Folder::new();
    let (store, thread) = Store::start(folder.open());
    store.commit(entry(1, 9)).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(store.page(None, 10).await, Err(StoreError::Fenced { .. })));
    assert!(matches!(store.find(1).await, Err(StoreError::Fenced { .. })));
    // What was in force is what is kept: revision 1.
    let config = Arc::new(config(&[1, 0]));
    let declared = State::declared(&config, SystemTime::UNIX_EPOCH).0;
    let switch = Command::Switch { split: "shop".into(), to: "green".into(), pins: None };
    let (state, _) = declared.apply(&config, &switch, &Origin::Api.into(), SystemTime::UNIX_EPOCH).unwrap();
    store.reopen(Held { state, config }).await.unwrap();
    assert_eq!(store.page(None, 10).await.unwrap().len(), 1);
    drop(store);
    thread.join().expect("it ends");
}

#[test]
fn a_history_of_big_states_is_bounded_by_its_bytes() {
    const STATE: usize = 40_000;
    let folder = Folder::new();
    let mut store = folder.open();
    store.bounded_to(1 << 20);
    for revision in 1..=100 {
        store.commit(&entry(revision, STATE)).unwrap();
    }
    let kept: Vec<_> = store.page(None, 200).unwrap().iter().map(|change| change.revision).collect();
    assert!((15..=26).contains(&kept.len()), "{} of {STATE} bytes in 1 MiB", kept.len());
    assert!(kept.iter().copied().eq((101 - kept.len() as u64..=100).rev()), "the newest are kept: {kept:?}");
    // A state that is larger than all that is kept is kept alone.
    for revision in 101..=110 {
        store.commit(&entry(revision, 2 << 20)).unwrap();
    }
    assert_eq!(store.page(None, 200).unwrap().len(), 1);
    assert_eq!(store.find(110).unwrap().expect("it is kept").1.len(), 2 << 20);
}

#[test]
fn who_reads_the_database_is_not_waited_for_and_nothing_is_lost() {
    let folder = Folder::new();
    let mut store = folder.open();
    store.commit(&entry(1, 9)).unwrap();
    let log = || fs::metadata(folder.0.join("s.db-wal")).unwrap().len();
    let reader = rusqlite::Connection::open(folder.database()).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count =
        || reader.query_row("SELECT count(*) FROM revisions", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 1);
    for revision in 2..=12 {
        store.commit(&entry(revision, 1 << 20)).unwrap();
        store.tidy();
    }
    assert_eq!(count(), 1, "it goes on reading what it began with");
    assert!(log() > 11 << 20, "the log can't be folded in as long as it is read");
    reader.execute_batch("COMMIT").unwrap();
    for revision in 13..=18 {
        store.commit(&entry(revision, 1 << 20)).unwrap();
        store.tidy();
    }
    assert!(log() < 8 << 20, "it is folded in when nobody reads it any more: {}", log());
    assert_eq!(store.page(None, 200).unwrap().len(), 18);
}

#[test]
fn a_copy_is_given_up_with_its_database_and_never_replaces_a_newer_one() {
    let folder = Folder::new();
    let mut store = folder.open();
    store.commit(&entry(1, 9)).unwrap();
    let copy_of = |store: &Sqlite| copy::made_now(&folder.database(), store.gate());
    while !copy_of(&store) {
        // The one of the start is being made.
        std::thread::yield_now();
    }
    let (path, revision) = copy::newest(&folder.database()).expect("it is there");
    assert_eq!(revision, 1);
    let before = fs::read(&path).unwrap();
    store.commit(&entry(2, 9)).unwrap();
    store.close().unwrap();
    assert!(!copy_of(&store), "it was given up");
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn what_a_split_s_rollback_needs_outlives_the_revisions_that_made_it() {
    let folder = Folder::new();
    let mut store = folder.open();
    store.bounded_to(64 << 10);
    let config = Arc::new(config(&[95, 5]));
    let (mut state, change) = State::declared(&config, SystemTime::UNIX_EPOCH);
    let keep = |store: &mut Sqlite, state: &State, change: Change| {
        let state = Some(Document::of(state).to_text());
        store.commit(&Entry { change, state, applied: None, receipt: None }).unwrap();
    };
    keep(&mut store, &state, change);
    let put = |green: u64| {
        let weights = vec![("blue".to_owned(), 100), ("green".to_owned(), green)];
        Command::SetWeights { split: "shop".into(), weights, pins: None }
    };
    for green in [10, 20] {
        let (next, change) =
            state.apply(&config, &put(green), &Origin::Api.into(), SystemTime::UNIX_EPOCH).unwrap();
        keep(&mut store, &next, change);
        state = next;
    }
    // Something else fills the history.
    let document = Document::of(&state).to_text();
    for revision in 3..=60 {
        let Entry { mut change, .. } = entry(revision, 0);
        change.author.reason = Some("x".repeat(5_000));
        let state = Some(document.clone());
        store.commit(&Entry { change, state, applied: None, receipt: None }).unwrap();
    }
    assert!(store.find(2).unwrap().is_none(), "the revisions of the split are gone");
    drop(store);
    let again = start::state(&mut folder.open(), Vec::new(), &config, SystemTime::UNIX_EPOCH).unwrap().state;
    let shop = super::super::state::Object::Split(crate::model::name::Name::new("shop").unwrap());
    let blue = super::super::state::Object::Pool(crate::model::name::Name::new("blue").unwrap());
    assert_eq!((again.touched(&shop), state.touched(&shop)), (2, 2), "its ETag does not go back");
    assert_eq!(again.touched(&blue), state.touched(&blue));
    let (then, now) = (again.history("shop").unwrap(), state.history("shop").unwrap());
    assert!(then.newest_first().eq(now.newest_first()), "{then:?}");
    assert_eq!(then.before_last_rise(), now.before_last_rise());
}
