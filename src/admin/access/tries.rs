//! How often tokens were tried in vain, by peer and in all. Pure.
//!
//! Invariant: whatever is remembered here, it never keeps a good token out: it only says how a refused one is answered
//! and whether the log hears of it. That no token can be guessed is the doing of its 256 bits; the limit keeps a
//! guesser cheap, and the log short.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// The most peers that are remembered.
const MAX_PEERS: usize = 1_024;
/// What a peer may try at once, and how long one more takes to come.
const OF_A_PEER: Rate = Rate { burst: 10, every: Duration::from_secs(3) };
/// What all peers may try together.
const OF_ALL: Rate = Rate { burst: 100, every: Duration::from_millis(100) };

/// Who tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::admin) enum Who {
    /// An address; of IPv6 its network of 64 bits, all of which one client may have.
    Address(IpAddr),
    /// The processes of this machine, by a unix socket.
    Local,
}

impl Who {
    /// Who calls from an address; none is a unix socket.
    pub(in crate::admin) fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Local,
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Address(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            Some(four) => Self::Address(four),
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address @ IpAddr::V4(_)) => write!(f, "{address}"),
            Self::Address(network) => write!(f, "{network}/64"),
            Self::Local => f.write_str("a unix socket"),
        }
    }
}

/// What becomes of a try in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) struct Outcome {
    /// There were too many: when the next may come.
    pub(in crate::admin) retry_after: Option<Duration>,
    /// The log is to hear of it: it is the first of a burst.
    pub(in crate::admin) is_first: bool,
}

/// The tries that are remembered.
#[derive(Debug)]
pub(in crate::admin) struct Tries {
    peers: HashMap<Who, Bucket>,
    all: Bucket,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// What is left of a rate.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    rate: Rate,
    /// When it is full again; in the past, it is full. The further ahead, the less is left.
    full_at: Instant,
}

impl Bucket {
    fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, full_at: now }
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// Takes one out, or says when there is one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let next = self.full_at.max(now) + self.rate.every;
        let over = next.saturating_duration_since(now + self.rate.every * self.rate.burst);
        if over > Duration::ZERO {
            return Err(over);
        }
        self.full_at = next;
        Ok(())
    }
}

impl Tries {
    pub(in crate::admin) fn new(now: Instant) -> Self {
        Self { peers: HashMap::new(), all: Bucket::new(OF_ALL, now) }
    }

    /// A peer has tried in vain.
    pub(in crate::admin) fn failed(&mut self, who: Who, now: Instant) -> Outcome {
        self.make_room(who, now);
        let of_peer = self.peers.entry(who).or_insert_with(|| Bucket::new(OF_A_PEER, now));
        let is_first = of_peer.is_full(now);
        // Who has used up his own takes nothing from all.
        let taken = of_peer.take(now).and_then(|()| self.all.take(now));
        // Under a flood from everywhere the log gets what all may try, not a line for each peer.
        Outcome { retry_after: taken.err(), is_first: is_first && taken.is_ok() }
    }

    /// Forgets, at the limit, who has not tried for long, else who has tried least.
    fn make_room(&mut self, who: Who, now: Instant) {
        if self.peers.len() < MAX_PEERS || self.peers.contains_key(&who) {
            return;
        }
        self.peers.retain(|_, bucket| !bucket.is_full(now));
        if self.peers.len() >= MAX_PEERS
            && let Some((least, _)) = self.peers.iter().min_by_key(|(_, bucket)| bucket.full_at)
        {
            let least = *least;
            self.peers.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn peer(number: u32) -> Who {
        Who::of(Some(Ipv4Addr::from_bits(number).into()))
    }

    #[test]
    fn a_peer_has_a_burst_and_then_one_every_three_seconds() {
        let start = Instant::now();
        let mut tries = Tries::new(start);
        for number in 0..10 {
            let outcome = tries.failed(peer(1), start);
            assert_eq!(outcome, Outcome { retry_after: None, is_first: number == 0 });
        }
        let full = tries.failed(peer(1), start);
        assert_eq!(full, Outcome { retry_after: Some(Duration::from_secs(3)), is_first: false });
        assert_eq!(tries.failed(peer(2), start).retry_after, None, "another peer has his own");
        let later = start + Duration::from_secs(3);
        assert_eq!(tries.failed(peer(1), later).retry_after, None);
        assert!(tries.failed(peer(1), later).retry_after.is_some());
        let rested = later + Duration::from_secs(30);
        assert!(tries.failed(peer(1), rested).is_first, "a new burst is told of");
    }

    #[test]
    fn all_peers_together_have_a_limit_and_so_has_what_is_remembered() {
        let start = Instant::now();
        let mut tries = Tries::new(start);
        let outcomes: Vec<_> = (0..5_000).map(|number| tries.failed(peer(number), start)).collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.retry_after.is_none()).count(), 100);
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_first).count(), 100);
        assert_eq!(tries.peers.len(), MAX_PEERS);
        // Who keeps on trying is not washed out by the others.
        let mut tries = Tries::new(start);
        for number in std::iter::repeat_n(7, 20).chain(100..5_000) {
            tries.failed(peer(number), start);
        }
        assert!(tries.failed(peer(7), start).retry_after.is_some());
        assert!(tries.peers.contains_key(&peer(7)));
    }

    #[test]
    fn one_network_of_ipv6_is_one_peer() {
        let of = |text: &str| Who::of(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_eq!(of("2001:db8::1").to_string(), "2001:db8::/64");
        assert_eq!(Who::of(None).to_string(), "a unix socket");
    }
}
