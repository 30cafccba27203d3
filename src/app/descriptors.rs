//! How many file descriptors the process may have, and how they are shared out.
//!
//! Invariant: the shares add up to no more than the limit, and each client's connection has one for the upstream
//! connection that its request may need. So clients alone can't use the descriptors up, whatever they do, and the admin
//! API and the log have theirs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    admin::probes,
    config::Config,
    proxy::{self, Allowance},
};

/// What is open whatever comes: the standard streams, the log, the admin socket, and what two runtimes and their signals
/// take (about a dozen).
const FIXED: u64 = 24;
/// What each worker's runtime takes.
const OF_A_WORKER: u64 = 4;
/// The most that the admin API's clients are given; it has no more places.
const MOST_ADMIN: u64 = 256;

/// The most that probes and scrapers are given.
const MOST_PROBES: u64 = probes::MAX_CONNECTIONS as u64;

/// Who may have how many descriptors at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    /// Of the data plane.
    pub(super) proxy: Allowance,
    /// Connections of the admin API's clients.
    pub(super) admin: usize,
    /// Connections to the address for probes and scrapers; none without it.
    pub(super) probes: usize,
}

/// Raises the soft limit to the hard one, and answers it.
pub(super) fn limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // No limit at all is possible, too.
    if raised.is_ok() { maximum } else { current }.unwrap_or(u64::MAX)
}

impl Shares {
    /// Shares a limit out; an error if it is too low to serve anybody.
    pub(super) fn of(limit: u64, config: &Config) -> anyhow::Result<Self> {
        let workers = proxy::workers(config) as u64;
        // A listener has a socket on each worker, and may accept one connection more than there is room for, because the
        // workers look at the count and accept independently of each other.
        let fixed = FIXED + workers * (OF_A_WORKER + 2 * config.listeners.len() as u64);
        let left = limit.saturating_sub(fixed);
        let admin = (left / 8).min(MOST_ADMIN);
        // What nobody has a share of: files, name resolution.
        let spare = left / 16;
        let probes = if config.health.is_some() { (left / 16).clamp(1, MOST_PROBES) } else { 0 };
        let connections = left.saturating_sub(admin + spare + probes);
        let idle = connections / 8;
        let clients = (connections - idle) / 2;
        if clients == 0 || admin == 0 {
            anyhow::bail!(
                "the limit of open files (ulimit -n) is {limit}; {workers} workers need at least {}",
                fixed + 8
            );
        }
        let size = |share: u64| usize::try_from(share).unwrap_or(usize::MAX);
        let proxy = Allowance { connections: size(clients), idle_upstream: size(idle) };
        Ok(Self { proxy, admin: size(admin), probes: size(probes) })
    }

    /// Tells the log, and warns of listeners that want more than there is.
    pub(super) fn announce(&self, limit: u64, config: &Config) {
        let most = self.proxy.connections;
        for listener in &config.listeners {
            if listener.max_connections > most
                && listener.max_connections != crate::config::defaults::MAX_CONNECTIONS
            {
                tracing::warn!(
                    listener = %listener.name,
                    max_connections = listener.max_connections,
                    descriptors = limit,
                    "the limit of open files (ulimit -n) allows {most} connections only, over all listeners"
                );
            }
        }
        tracing::info!(descriptors = limit, connections = most, "file descriptors are shared out");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listeners: usize, workers: usize) -> Config {
        let mut text = format!("workers = {workers}\n[health]\nlisten = \"127.0.0.1:7999\"\n");
        for number in 0..listeners {
            text +=
                &format!("[[listener]]\nname = \"l{number}\"\nlisten = \"127.0.0.1:{}\"\n", 8000 + number);
        }
        text += "[pool.app]\nendpoints = [\"127.0.0.1:1\"]\n[[route]]\nname = \"all\"\npool = \"app\"\n";
        crate::config::parse("test.toml", &text).expect("a test's file is right").0
    }

    #[test]
    fn the_shares_never_add_up_to_more_than_the_limit() {
        for (listeners, workers) in [(1, 1), (2, 4), (16, 64)] {
            let config = config(listeners, workers);
            for limit in [64, 100, 256, 1024, 4096, 65_536, 1 << 20, u64::MAX] {
                let Ok(Shares { proxy, admin, probes }) = Shares::of(limit, &config) else {
                    assert!(limit < 40 + (workers * (4 + 2 * listeners)) as u64, "{limit} is enough");
                    continue;
                };
                let sum =
                    2 * proxy.connections as u128 + proxy.idle_upstream as u128 + (admin + probes) as u128;
                let open = FIXED as u128 + (workers * (4 + 2 * listeners)) as u128;
                assert!(sum + open <= u128::from(limit), "{limit}: {proxy:?} {admin}");
                assert!(proxy.connections > 0 && admin > 0, "{limit}: {proxy:?} {admin}");
            }
        }
    }
}
