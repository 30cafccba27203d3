//! What is shown while a call waits: how much is left. On a terminal it is one line that is written over; elsewhere a
//! line now and then, so that whoever reads a log sees that something is under way.

use std::{
    io::{IsTerminal, Write as _, stderr},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Failure, client::Client, output};

/// How often it is shown on a terminal.
const ON_A_TERMINAL: Duration = Duration::from_millis(500);
/// How often elsewhere.
const IN_A_LOG: Duration = Duration::from_secs(5);

/// Makes a call, and shows meanwhile what is left, if it waits and people are to read it. `look` says it in a line, after
/// so long a wait; what can't be read now is told by the call itself.
pub fn during(
    client: &Client,
    waits: bool,
    look: impl Fn(Duration) -> Option<String> + Send,
    call: impl FnOnce() -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    if !waits || client.json {
        return call();
    }
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        scope.spawn(move || {
            let is_terminal = stderr().is_terminal();
            let every = if is_terminal { ON_A_TERMINAL } else { IN_A_LOG };
            let begun = Instant::now();
            let mut is_shown = false;
            while is_done.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let Some(line) = look(begun.elapsed()) else { continue };
                let line = output::harmless(&line);
                // To the line's start, and erase what stands on it.
                let _ = if is_terminal {
                    write!(stderr(), "\r\x1b[K{line}")
                } else {
                    writeln!(stderr(), "{line}")
                };
                is_shown = is_terminal;
            }
            if is_shown {
                let _ = write!(stderr(), "\r\x1b[K");
            }
        });
        let answer = call();
        drop(done);
        answer
    })
}
