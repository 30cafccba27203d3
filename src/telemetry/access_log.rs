//! The access log: one line for each request, written by a thread of its own.
//!
//! Invariant: the request path never waits for the log. It hands a record over through a bounded queue, and one that
//! finds the queue full is dropped and counted by the caller. Nothing that the disk does stops the process or a worker:
//! what can't be written is dropped, counted and warned of at most once a minute.

mod line;
mod record;
mod writer;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

pub use record::Record;

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
    sender: Sender,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// One worker's end of the queue.
#[derive(Debug, Clone)]
pub struct Sender(SyncSender<Record>);

/// What the writer's thread and the others both see.
#[derive(Debug, Default)]
struct Shared {
    reopen: AtomicBool,
    lost: AtomicU64,
}

impl AccessLog {
    /// Opens the file (at its end, new if there is none) and starts the writer.
    ///
    /// Which requests are logged (`sample`) is the caller's draw, so that no record is made for the others.
    pub fn start(settings: &AccessLogSettings) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Writer::open(settings)?;
        let (sender, records) = sync_channel(QUEUE);
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(&records, writer, &for_thread))?;
        Ok(Self { sender: Sender(sender), shared, thread })
    }

    /// A worker's end of the queue.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Opens the file anew before the next line, so that it can be renamed away first (log rotation).
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
    }

    /// Lines that were taken from the queue and could not be written.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything that was sent has been written. It returns once all senders are gone.
    pub fn finish(self) {
        let Self { sender, thread, .. } = self;
        drop(sender);
        if thread.join().is_err() {
            tracing::error!("the access log's writer has panicked");
        }
    }
}

impl Sender {
    /// Hands a record over; false if the queue is full (or the writer gone), so that the caller counts it as dropped.
    #[inline]
    #[must_use]
    pub fn try_send(&self, record: Record) -> bool {
        self.0.try_send(record).is_ok()
    }
}

/// The writer's thread: lines are gathered while records wait, and flushed as soon as none does.
fn write_all(records: &Receiver<Record>, mut writer: Writer, shared: &Shared) {
    loop {
        let next = match records.try_recv() {
            Err(TryRecvError::Empty) => {
                writer.flush(&shared.lost);
                records.recv_timeout(IDLE)
            }
            Ok(record) => Ok(record),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
        };
        if shared.reopen.swap(false, Ordering::AcqRel) {
            writer.reopen(&shared.lost);
        }
        match next {
            Ok(record) => writer.write(&record, &shared.lost),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    writer.flush(&shared.lost);
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
        let log = AccessLog::start(&settings(scratch.file())).unwrap();
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let sender = log.sender();
                thread::spawn(move || {
                    (0..500).filter(|n| sender.try_send(record(&format!("/{worker}/{n}")))).count()
                })
            })
            .collect();
        let sent: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!((sent, log.lost()), (2_000, 0), "the queue is longer than that");
        log.finish();
        let text = fs::read_to_string(scratch.file()).unwrap();
        assert_eq!(text.lines().count(), sent);
        let of_third: Vec<_> = text.lines().filter(|line| line.starts_with("/3/")).collect();
        let expected: Vec<_> = (0..500).map(|n| format!("/3/{n} 200")).collect();
        assert_eq!(of_third, expected, "one worker's lines keep their order");
    }

    #[test]
    fn a_renamed_file_is_left_behind_after_reopening() {
        let scratch = Scratch::new("reopen");
        let log = AccessLog::start(&settings(scratch.file())).unwrap();
        let sender = log.sender();
        assert!(sender.try_send(record("/before")));
        wait_until(|| fs::read_to_string(scratch.file()).is_ok_and(|text| text == "/before 200\n"));
        let rotated = scratch.0.join("access.log.1");
        fs::rename(scratch.file(), &rotated).unwrap();
        log.reopen();
        wait_until(|| scratch.file().exists());
        assert!(sender.try_send(record("/after")));
        drop(sender);
        log.finish();
        assert_eq!(fs::read_to_string(rotated).unwrap(), "/before 200\n");
        assert_eq!(fs::read_to_string(scratch.file()).unwrap(), "/after 200\n");
    }

    #[test]
    fn a_full_disk_loses_lines_and_stops_nothing() {
        let log = AccessLog::start(&settings("/dev/full".into())).unwrap();
        let sender = log.sender();
        for n in 1..=3 {
            assert!(sender.try_send(record("/")));
            wait_until(|| log.lost() == n);
        }
        drop(sender);
        log.finish();
    }

    #[test]
    fn a_file_that_can_t_be_opened_is_an_error_at_the_start() {
        assert!(AccessLog::start(&settings("/nonexistent/folder/access.log".into())).is_err());
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "waited in vain");
            thread::yield_now();
        }
    }
}
