//! The wall clock is set a day ahead and a day back under a running process: no timeout, no drain and no order of revisions
//! follows it, and what does follow it does so as the documents say.
//!
//! The real binary runs under libfaketime, which leaves the monotonic clock alone, as who sets a machine's clock does.

#[path = "../support/mod.rs"]
mod support;

mod kept;
mod running;
mod sessions;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use self::support::{Switchback, wait_until};

/// A wall clock that a test sets, for the processes that are started by it.
struct WallClock {
    folder: PathBuf,
    /// The processes that go by it.
    started: Mutex<Vec<u32>>,
}

/// Where the clock is set to, from where the machine's own one stands.
const SHIFTS: [&str; 2] = ["+86400", "-86400"];

impl WallClock {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("switchback-clock-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        let clock = Self { folder, started: Mutex::default() };
        clock.write("+0");
        clock
    }

    /// A file beside it.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, shift: &str) {
        // In one step: it is read with each look at the clock.
        let (beside, file) = (self.file("next"), self.file("shift"));
        fs::write(&beside, shift).expect("a writable folder");
        fs::rename(beside, file).expect("a file beside it");
    }

    /// Starts a process by it, from a configuration.
    fn start(&self, config: &str) -> Switchback {
        let file = self.file("switchback.toml");
        fs::write(&file, config).expect("a writable folder");
        self.start_again(&file)
    }

    /// The same from a file that is there.
    fn start_again(&self, file: &Path) -> Switchback {
        let environment = format!(
            "LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1",
            library(),
            self.file("shift").display()
        );
        let started =
            Switchback::run("", &format!("exec env {environment} \"$0\" run -c '{}'", file.display()));
        self.started.lock().expect("no panic holds it").push(started.pid());
        started
    }

    /// Sets the clock, and waits until a process goes by it.
    fn set(&self, shift: &str, of: &Switchback) {
        let before = day(of);
        self.write(shift);
        wait_until("the process has the new time", || day(of) != before);
    }
}

impl Drop for WallClock {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
        // The library shares memory by the number of each process, which those that are killed leave behind.
        for pid in self.started.lock().iter().flat_map(|started| started.iter()) {
            for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
                fs::remove_file(Path::new("/dev/shm").join(name)).ok();
            }
        }
    }
}

/// The day that a process has, by an answer of its own. (The admin API's library goes on to say the day that it had, where
/// the clock was set back.)
fn day(of: &Switchback) -> String {
    let answer = of.client().exchange("nonsense\r\n\r\n");
    assert_eq!(answer.status, 400);
    answer.head.one("date").expect("a response is dated")[..16].to_owned()
}

/// The library, as the program of its package names it to the loader.
fn library() -> &'static str {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let mut said = String::new();
        // It gives what it shares a name by the number of its process, and fails where a killed one has left that name.
        for _ in 0..10 {
            let output = Command::new("faketime").args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]).output();
            let output = output.expect("faketime is installed: tests/install tests");
            let library = String::from_utf8(output.stdout).expect("a path").trim().to_owned();
            if library.contains("libfaketime") {
                return library;
            }
            said = format!("{library:?}, {}", String::from_utf8_lossy(&output.stderr));
        }
        panic!("faketime names no library: {said}");
    })
}
