//! The port by which a load of a file reaches what the control plane does not know: listeners, the access log, keys of pins.
//! The composition fills it.
//!
//! Invariant: what is made ready is not in force, and dropping it leaves no trace, but for connections that a new address has
//! taken meanwhile: they are reset. Putting it in force can't fail, so the file is refused before anything has moved, or in
//! force whole.

use std::{fmt, pin::Pin, sync::Arc};

use super::refusal::FileFault;
use crate::config::Config;

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
#[derive(Debug, Clone, Default)]
pub struct Port(Arc<std::sync::OnceLock<Arc<dyn Surroundings>>>);

impl Port {
    /// Connects the surroundings. Only the first ones count.
    pub fn connect(&self, surroundings: Arc<dyn Surroundings>) {
        // They stay as long as the process does.
        let _ = self.0.set(surroundings);
    }

    /// Makes them ready for a file.
    pub(super) async fn prepare(
        &self,
        now: Arc<Config>,
        next: Arc<Config>,
    ) -> Result<Box<dyn Ready>, Vec<FileFault>> {
        let Some(surroundings) = self.0.get().map(Arc::clone) else {
            let message = "the process is still starting".to_owned();
            let help = "try again in a moment".to_owned();
            return Err(vec![FileFault { pointer: String::new(), message, help }]);
        };
        let prepared = tokio::task::spawn_blocking(move || surroundings.prepare(&now, &next)).await;
        prepared.unwrap_or_else(|error| {
            let fault = FileFault {
                pointer: String::new(),
                message: format!("a fault in Switchback stopped the load: {error}"),
                help: "the log says more; what was in force still is".into(),
            };
            Err(vec![fault])
        })
    }
}
