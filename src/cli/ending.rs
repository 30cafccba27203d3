//! How a command ends that goes on by itself: when it is interrupted, and when nobody reads what it prints any more.

use std::{io::stdout, process, thread};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, client::runtime};

/// From now on an interruption, or a reader that goes away, ends the process with exit code 0: that is how somebody says
/// that he has seen enough.
pub fn end_well() -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("signals can't be heard: {error}"));
    let runtime = runtime()?;
    let (mut interrupted, mut terminated) = {
        let _within = runtime.enter();
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?)
    };
    // In threads of their own: whoever prints may be held up by a reader that has stopped.
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
        });
        process::exit(0);
    });
    thread::spawn(|| {
        let out = stdout();
        // Nothing is asked for: what is told anyway is that the other end of a pipe is closed.
        let mut ends = [PollFd::new(&out, PollFlags::empty())];
        while let Ok(_) | Err(rustix::io::Errno::INTR) = poll(&mut ends, None) {
            let told = ends[0].revents();
            if told.intersects(PollFlags::ERR | PollFlags::HUP) {
                process::exit(0);
            }
            if !told.is_empty() {
                return;
            }
        }
    });
    Ok(())
}
