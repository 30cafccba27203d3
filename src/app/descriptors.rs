//! How many file descriptors the process may have, and how they are shared out.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// The share of all descriptors that clients can't take: a quarter is for upstreams, the admin API and files.
const RESERVED_SHARE: u64 = 4;

/// Raises the soft limit to the hard one, and answers how many connections of clients each listener may have.
///
/// Without this, clients that only connect could take the descriptors that their own upstream connections, and the
/// admin API's callers, need.
pub(super) fn connections(config: &Config) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // No limit at all is possible, too.
    let limit = if raised.is_ok() { maximum } else { current }.unwrap_or(u64::MAX);
    let most = usize::try_from(limit - limit / RESERVED_SHARE).unwrap_or(usize::MAX);
    for listener in &config.listeners {
        if listener.max_connections > most
            && listener.max_connections != crate::config::defaults::MAX_CONNECTIONS
        {
            tracing::warn!(
                listener = %listener.name,
                max_connections = listener.max_connections,
                descriptors = limit,
                "the limit of open files (ulimit -n) allows {most} connections only"
            );
        }
    }
    tracing::info!(descriptors = limit, connections = most, "file descriptors are shared out");
    most
}
