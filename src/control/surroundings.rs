//! The port by which a load of a file reaches what the control plane does not know: listeners, the access log, keys of pins.
//! The composition fills it.
//!
//! Invariant: what is made ready is not in force, and dropping it leaves no trace, but for connections that a new address has
//! taken meanwhile: they are reset. Putting it in force can't fail, so the file is refused before anything has moved, or in
//! force whole.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use super::refusal::FileFault;
use crate::config::Config;

/// How long opening what a file names may take. A disk takes milliseconds; a file system whose server is away, forever.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// Loads that may hang in this way at a time: each holds a thread.
const MAX_HANGING: usize = 4;

/// What has to follow the file, beside the table.
pub trait Surroundings: fmt::Debug + Send + Sync {
    /// Makes everything ready that `next` needs and `now` had not: sockets are bound, files opened. Called on a thread that may
    /// be held up.
    fn prepare(&self, now: &Config, next: &Config) -> Result<Box<dyn Ready>, Vec<FileFault>>;
}

/// What is ready for a file. Dropped, it is given up.
pub trait Ready: Send {
    /// Puts it in force. The table of the file is already. What is answered ends when everybody knows, so that who changes a
    /// file and is answered sees the change with the next connection.
    fn put_in_force(self: Box<Self>) -> Told;
}

/// Ends when everybody knows.
pub type Told = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The surroundings, once there are some. Every clone is the same one.
#[derive(Debug, Clone)]
pub struct Port {
    surroundings: Arc<std::sync::OnceLock<Arc<dyn Surroundings>>>,
    turns: Arc<Semaphore>,
}

impl Default for Port {
    fn default() -> Self {
        Self { surroundings: Arc::default(), turns: Arc::new(Semaphore::new(MAX_HANGING)) }
    }
}

impl Port {
    /// Connects the surroundings. Only the first ones count.
    pub fn connect(&self, surroundings: Arc<dyn Surroundings>) {
        // They stay as long as the process does.
        let _ = self.surroundings.set(surroundings);
    }

    /// Makes them ready for a file. What hangs is left behind, and given up should it ever end.
    pub(super) async fn prepare(
        &self,
        now: Arc<Config>,
        next: Arc<Config>,
    ) -> Result<Box<dyn Ready>, Vec<FileFault>> {
        let Some(surroundings) = self.surroundings.get().map(Arc::clone) else {
            return Err(fault("the process is still starting".into(), "try again in a moment"));
        };
        let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else {
            let message = "files that earlier loads have named are still being opened".into();
            return Err(fault(message, "see that the file system of the access log and the keys answers"));
        };
        let prepared = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            surroundings.prepare(&now, &next)
        });
        match tokio::time::timeout(OPEN_WITHIN, prepared).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(error)) => {
                let message = format!("a fault in Switchback stopped the load: {error}");
                Err(fault(message, "the log says more; what was in force still is"))
            }
            Err(_) => {
                let seconds = OPEN_WITHIN.as_secs();
                let message = format!("opening what the file names takes longer than {seconds} s");
                Err(fault(message, "see that the file system of the access log and the keys answers"))
            }
        }
    }
}

/// A fault of the file as a whole.
fn fault(message: String, help: &str) -> Vec<FileFault> {
    vec![FileFault { pointer: String::new(), message, help: help.into() }]
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError, mpsc};

    use super::*;
    use crate::control::samples::config;

    /// Hangs until the other end of the channel is dropped.
    #[derive(Debug)]
    struct Hanging(Mutex<mpsc::Receiver<()>>);

    impl Surroundings for Hanging {
        fn prepare(&self, _: &Config, _: &Config) -> Result<Box<dyn Ready>, Vec<FileFault>> {
            let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
            Err(fault("it has ended".into(), ""))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_hangs_is_a_fault_of_the_file_and_holds_few_threads() {
        let (hold, held) = mpsc::channel();
        let port = Port::default();
        port.connect(Arc::new(Hanging(Mutex::new(held))));
        let file = Arc::new(config(&[95, 5]));
        let asked = || {
            let (port, file) = (port.clone(), Arc::clone(&file));
            let asked = tokio::spawn(async move { port.prepare(Arc::clone(&file), file).await });
            async move {
                tokio::task::yield_now().await;
                tokio::time::advance(OPEN_WITHIN).await;
                asked.await.expect("no panic").err().expect("it hangs")[0].message.clone()
            }
        };
        for _ in 0..MAX_HANGING {
            let said = asked().await;
            assert!(said.contains("takes longer than 10 s"), "{said}");
        }
        let said = asked().await;
        assert!(said.contains("are still being opened"), "{said}");
        drop(hold);
        while port.turns.available_permits() < MAX_HANGING {
            tokio::task::yield_now().await;
        }
        let ended = port.prepare(Arc::clone(&file), file).await.err().expect("it is refused");
        assert_eq!(ended[0].message, "it has ended");
    }
}
