//! The access log: one line for each request, written by a thread of its own.
//!
//! Invariant: the request path never waits for the log. It hands a record over through a bounded queue, and one that
//! finds the queue full is dropped and counted by the caller. Nothing that the disk does stops the process or a worker:
//! what can't be written is dropped, counted and warned of at most once a minute, and a write that does not end is left
//! behind at the end of the process.

mod line;
mod record;
mod trial;
mod writer;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, channel, sync_channel},
    },
    thread,
    time::Duration,
};

pub use record::Record;
pub use trial::Trial;

use super::counter::Counter;
use crate::model::access_log::AccessLogSettings;
use writer::Writer;

/// Records that wait to be written. With about 300 bytes each they take under 5 MiB, and they bridge a pause of the
/// disk of a tenth of a second at 160,000 requests a second.
const QUEUE: usize = 16_384;
/// How often the writer looks whether it is to reopen the file while no record comes.
const IDLE: Duration = Duration::from_millis(250);

/// A running access log. Dropping it lets the writer end once every [`Sender`] is gone; see [`AccessLog::finish`].
#[derive(Debug)]
pub struct AccessLog {
    queue: SyncSender<Record>,
    shared: Arc<Shared>,
    /// Disconnected when the writer's thread has ended.
    ended: Receiver<()>,
}

/// One worker's end of the queue.
#[derive(Debug)]
pub struct Sender {
    queue: SyncSender<Record>,
    sent: Arc<Counter>,
}

/// What the writer's thread and the others both see.
#[derive(Debug, Default)]
struct Shared {
    reopen: AtomicBool,
    /// Lines that could not be written.
    lost: Arc<Counter>,
    /// Lines that were written.
    written: Counter,
    /// What each [`Sender`] has put into the queue.
    sent: Mutex<Vec<Arc<Counter>>>,
}

impl AccessLog {
    /// Opens the file (at its end, new if there is none) and starts the writer.
    ///
    /// Which requests are logged (`sample`) is the caller's draw, so that no record is made for the others. Lines that
    /// were taken from the queue and could not be written are counted in `lost`.
    pub fn start(settings: &AccessLogSettings, lost: Arc<Counter>) -> io::Result<Self> {
        let shared = Arc::new(Shared { lost, ..Shared::default() });
        let writer = Writer::open(settings)?;
        let (queue, records) = sync_channel(QUEUE);
        let (ending, ended) = channel();
        let for_thread = Arc::clone(&shared);
        thread::Builder::new().name("access-log".into()).spawn(move || {
            // Dropped when the thread ends, however it does.
            let _ending: std::sync::mpsc::Sender<()> = ending;
            write_all(&records, writer, &for_thread);
        })?;
        Ok(Self { queue, shared, ended })
    }

    /// A worker's end of the queue.
    pub fn sender(&self) -> Sender {
        let sent = Arc::new(Counter::default());
        self.shared.senders().push(Arc::clone(&sent));
        Sender { queue: self.queue.clone(), sent }
    }

    /// Opens the file anew before the next line, so that it can be renamed away first (log rotation).
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
    }

    /// Waits until everything that was sent has been written, once all senders are gone; but no longer than `limit`,
    /// since a reader that has stopped reading would hold the end of the process up for as long as it likes. Answers how
    /// many lines were left behind.
    pub fn finish(self, limit: Duration) -> u64 {
        let Self { queue, shared, ended } = self;
        drop(queue);
        if ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout) {
            return 0;
        }
        let sent: u64 = shared.senders().iter().map(|sent| sent.value()).sum();
        sent.saturating_sub(shared.written.value() + shared.lost.value())
    }
}

impl Shared {
    fn senders(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Counter>>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// Hands a record over; false if the queue is full (or the writer gone), so that the caller counts it as dropped.
    #[inline]
    #[must_use]
    pub fn try_send(&self, record: Record) -> bool {
        let is_sent = self.queue.try_send(record).is_ok();
        self.sent.add(u64::from(is_sent));
        is_sent
    }
}

/// The writer's thread: lines are gathered while records wait, and flushed as soon as none does.
fn write_all(records: &Receiver<Record>, mut writer: Writer, shared: &Shared) {
    loop {
        let next = match records.try_recv() {
            Err(TryRecvError::Empty) => {
                writer.flush(shared);
                records.recv_timeout(IDLE)
            }
            Ok(record) => Ok(record),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
        };
        if shared.reopen.swap(false, Ordering::AcqRel) {
            writer.reopen(shared);
        }
        match next {
            Ok(record) => writer.write(&record, shared),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    writer.flush(shared);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, time::Instant};

    use super::*;
    use crate::model::access_log::{AccessLogFormat, LogField, LogPiece};

    /// A file in a folder of its own, removed with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("switchback-log-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn file(&self) -> PathBuf {
            self.0.join("access.log")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Far longer than any of these tests takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn settings(path: PathBuf) -> AccessLogSettings {
        let format = AccessLogFormat::Template(LogPiece::parse_template("{path} {status}").unwrap());
        AccessLogSettings { path, format, sample: 1.0 }
    }

    fn record(path: &str) -> Record {
        let mut record = Record::with_capacity(path.len());
        record.status = 200;
        record.set(LogField::Path, path.as_bytes());
        record
    }

    #[test]
    fn what_was_sent_is_in_the_file_when_the_log_is_finished() {
        let scratch = Scratch::new("finish");
        let lost = Arc::new(Counter::default());
        let log = AccessLog::start(&settings(scratch.file()), Arc::clone(&lost)).unwrap();
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let sender = log.sender();
                thread::spawn(move || {
                    (0..500).filter(|n| sender.try_send(record(&format!("/{worker}/{n}")))).count()
                })
            })
            .collect();
        let sent: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(sent, 2_000, "the queue is longer than that");
        assert_eq!((log.finish(PATIENCE), lost.value()), (0, 0));
        let text = fs::read_to_string(scratch.file()).unwrap();
        assert_eq!(text.lines().count(), sent);
        let of_third: Vec<_> = text.lines().filter(|line| line.starts_with("/3/")).collect();
        let expected: Vec<_> = (0..500).map(|n| format!("/3/{n} 200")).collect();
        assert_eq!(of_third, expected, "one worker's lines keep their order");
    }

    #[test]
    fn a_renamed_file_is_left_behind_after_reopening() {
        let scratch = Scratch::new("reopen");
        let log = AccessLog::start(&settings(scratch.file()), Arc::default()).unwrap();
        let sender = log.sender();
        assert!(sender.try_send(record("/before")));
        wait_until(|| fs::read_to_string(scratch.file()).is_ok_and(|text| text == "/before 200\n"));
        let rotated = scratch.0.join("access.log.1");
        fs::rename(scratch.file(), &rotated).unwrap();
        log.reopen();
        wait_until(|| scratch.file().exists());
        assert!(sender.try_send(record("/after")));
        drop(sender);
        assert_eq!(log.finish(PATIENCE), 0);
        assert_eq!(fs::read_to_string(rotated).unwrap(), "/before 200\n");
        assert_eq!(fs::read_to_string(scratch.file()).unwrap(), "/after 200\n");
    }

    #[test]
    fn a_full_disk_loses_lines_and_stops_nothing() {
        let lost = Arc::new(Counter::default());
        let log = AccessLog::start(&settings("/dev/full".into()), Arc::clone(&lost)).unwrap();
        let sender = log.sender();
        for n in 1..=3 {
            assert!(sender.try_send(record("/")));
            wait_until(|| lost.value() == n);
        }
        drop(sender);
        assert_eq!(log.finish(PATIENCE), 0);
    }

    #[test]
    fn a_reader_that_has_stopped_reading_does_not_hold_the_end_up() {
        let scratch = Scratch::new("stalled");
        let made = std::process::Command::new("mkfifo").arg(scratch.file()).status().unwrap();
        assert!(made.success(), "{made}");
        // Open for both, so that neither side waits for the other to open it; nobody reads.
        let _held = fs::OpenOptions::new().read(true).write(true).open(scratch.file()).unwrap();
        let log = AccessLog::start(&settings(scratch.file()), Arc::default()).unwrap();
        let sender = log.sender();
        let long = format!("/{}", "x".repeat(1000));
        let sent = (0..1_000).filter(|_| sender.try_send(record(&long))).count() as u64;
        drop(sender);
        let left = log.finish(Duration::from_millis(300));
        // The pipe holds 64 KiB, and what was not all taken counts as left.
        assert!(sent == 1_000 && (900..=1_000).contains(&left), "{left} of {sent}");
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_an_error_at_once_and_one_with_a_reader_is_written() {
        let scratch = Scratch::new("pipe");
        let made = std::process::Command::new("mkfifo").arg(scratch.file()).status().unwrap();
        assert!(made.success(), "{made}");
        let start = || AccessLog::start(&settings(scratch.file()), Arc::default());
        let error = start().expect_err("nobody reads");
        assert!(error.to_string().contains("nobody reads"), "{error}");
        let file = scratch.file();
        let reader = thread::spawn(move || fs::read_to_string(file).unwrap());
        let mut log = None;
        wait_until(|| {
            log = start().ok();
            log.is_some()
        });
        let log = log.expect("it is read");
        let sender = log.sender();
        // More than a pipe holds: the writer waits for the reader.
        let long = format!("/{}", "x".repeat(1000));
        assert!((0..500).all(|_| sender.try_send(record(&long))));
        drop(sender);
        assert_eq!(log.finish(PATIENCE), 0);
        assert_eq!(reader.join().unwrap().lines().count(), 500);
    }

    #[test]
    fn a_file_that_can_t_be_opened_is_an_error_at_the_start() {
        assert!(
            AccessLog::start(&settings("/nonexistent/folder/access.log".into()), Arc::default()).is_err()
        );
    }

    fn wait_until(mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "waited in vain");
            thread::yield_now();
        }
    }
}
