//! How many file descriptors the process may have, and how they are shared out.
//!
//! Invariant: the shares add up to no more than the limit, and each client's connection has one for the upstream
//! connection that its request may need. So neither clients nor probes nor names use the descriptors up, whatever they do,
//! and the admin API and the log have theirs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    admin::probes,
    config::Config,
    health::supervisor,
    proxy::{self, Allowance},
};

/// What is open whatever comes: the standard streams, the log, the admin socket, and what two runtimes and their signals
/// take (about a dozen).
const FIXED: u64 = 24;
/// What each worker's runtime takes.
const OF_A_WORKER: u64 = 4;
/// The most that the admin API's clients are given; it has no more places.
const MOST_ADMIN: u64 = 256;
/// The most that the pools' health checks are given: a thousand at once, and some ten thousand kept connections.
const MOST_CHECKS: u64 = 12 * 1024;
/// What a question to the name servers takes: two of them may be asked at the same time.
const OF_A_QUESTION: u64 = 2;
/// The most questions to name servers at once: enough for a thousand names, and no storm for a name server.
const MOST_QUESTIONS: u64 = 32;
/// The most that probes and scrapers are given.
const MOST_PROBES: u64 = probes::MAX_CONNECTIONS as u64;

/// Who may have how many descriptors at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    /// Of the data plane.
    pub(super) proxy: Allowance,
    /// Connections of the admin API's clients.
    pub(super) admin: usize,
    /// Connections of the pools' health checks.
    pub(super) checks: supervisor::Allowance,
    /// Questions to name servers at once.
    pub(super) questions: usize,
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
        // Which pools are checked does not change while the process lives.
        let is_checked = config.pools.iter().any(|pool| pool.health.is_some());
        let checks = if is_checked { (left / 8).min(MOST_CHECKS) } else { 0 };
        let at_once = checks.div_ceil(2);
        let questions = (left / 16 / OF_A_QUESTION).clamp(1, MOST_QUESTIONS);
        // What nobody has a share of: files.
        let spare = left / 16;
        let probes = if config.health.is_some() { (left / 16).clamp(1, MOST_PROBES) } else { 0 };
        let shared = admin + spare + checks + questions * OF_A_QUESTION + probes;
        let connections = left.saturating_sub(shared);
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
        let checks = supervisor::Allowance { at_once: size(at_once), kept: size(checks - at_once) };
        Ok(Self { proxy, admin: size(admin), checks, questions: size(questions), probes: size(probes) })
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

    fn config(listeners: usize, workers: usize, health: &str) -> Config {
        let mut text = format!("workers = {workers}\n[health]\nlisten = \"127.0.0.1:7999\"\n");
        for number in 0..listeners {
            text +=
                &format!("[[listener]]\nname = \"l{number}\"\nlisten = \"127.0.0.1:{}\"\n", 8000 + number);
        }
        text += "[[route]]\nname = \"all\"\npool = \"app\"\n[pool.app]\nendpoints = [\"127.0.0.1:1\"]\n";
        text += health;
        crate::config::parse("test.toml", &text).expect("a test's file is right").0
    }

    #[test]
    fn the_shares_never_add_up_to_more_than_the_limit() {
        let probed = "health = { tcp = true }";
        for (listeners, workers, health) in [(1, 1, ""), (1, 1, probed), (2, 4, probed), (16, 64, "")] {
            let config = config(listeners, workers, health);
            for limit in [64, 100, 256, 1024, 4096, 65_536, 1 << 20, u64::MAX] {
                let Ok(Shares { proxy, admin, checks, questions, probes }) = Shares::of(limit, &config)
                else {
                    assert!(limit < 40 + (workers * (4 + 2 * listeners)) as u64, "{limit} is enough");
                    continue;
                };
                let mut sum = 2 * proxy.connections as u128 + proxy.idle_upstream as u128;
                sum += (admin + probes + checks.at_once + checks.kept + 2 * questions) as u128;
                let open = FIXED as u128 + (workers * (4 + 2 * listeners)) as u128;
                assert!(sum + open <= u128::from(limit), "{limit}: {proxy:?} {admin}");
                assert!(proxy.connections > 0 && admin > 0, "{limit}: {proxy:?} {admin}");
                assert_eq!(checks.at_once > 0, !health.is_empty(), "{limit}: {checks:?}");
            }
        }
    }
}
