//! The table by which a key finds its endpoint: Maglev hashing.
//!
//! Invariant: the table depends on the addresses and the weights alone, never on their order, the instance, the
//! platform or the time. `docs/balancing.md` publishes how it is made and test vectors; changing it moves the keys of
//! every user, so it is fixed for good.

use std::{cmp::Reverse, collections::BinaryHeap, net::SocketAddr, sync::atomic::AtomicU64};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The sizes that a table has: primes just above powers of two. The first that is at least [`SLOTS_EACH`] times the
/// number of endpoints is taken, and the last for any number above. Few steps, because a step moves most keys.
const SIZES: [u32; 3] = [4_099, 65_537, 1_048_583];
/// With a hundred slots for each endpoint their shares are within a hundredth of each other.
const SLOTS_EACH: usize = 100;

/// What a key finds its endpoint by.
///
/// Each endpoint has a permutation of the slots, by two hashes of its address; in turns, each takes the next free slot
/// of its own until none is left. One that leaves gives its slots to the others and hardly moves any else, and all
/// shares differ by one slot at most. (Eisenbud et al., Maglev: A Fast and Reliable Software Network Load Balancer,
/// NSDI 2016, section 3.4.) An endpoint of a lower weight has fewer turns: those in which what it has saved up,
/// its weight in each round, comes to the highest weight.
#[derive(Debug)]
pub struct Maglev {
    /// Which endpoint each slot belongs to; empty if none has a weight above 0.
    slots: Box<[u32]>,
    /// Two hashes of each endpoint's address.
    pub(super) identities: Box<[[u64; 2]]>,
    /// The sum of the weights that may be used, as it was found last: see [`super::bounded`].
    pub(super) usable: AtomicU64,
}

/// An endpoint while the table is filled.
struct Turns {
    index: u32,
    weight: u64,
    taken: u64,
    slot: u64,
    skip: u64,
}

impl Maglev {
    /// The table of endpoints with their weights.
    pub fn new(endpoints: impl Iterator<Item = (SocketAddr, u32)>) -> Self {
        let named: Vec<(String, u32, [u64; 2])> = endpoints
            .map(|(address, weight)| {
                let text = address.to_string();
                let identity = [0, 1].map(|seed| xxh3_64_with_seed(text.as_bytes(), seed));
                (text, weight, identity)
            })
            .collect();
        let identities = named.iter().map(|(.., identity)| *identity).collect();
        let mut order: Vec<u32> = (0..).take(named.len()).collect();
        order.sort_by(|a, b| named[*a as usize].0.cmp(&named[*b as usize].0));
        order.retain(|index| named[*index as usize].1 > 0);
        let size = size(order.len());
        let turns = order.into_iter().map(|index| {
            let (_, weight, [first, second]) = &named[index as usize];
            Turns {
                index,
                weight: u64::from(*weight),
                taken: 0,
                slot: first % u64::from(size),
                skip: second % u64::from(size - 1) + 1,
            }
        });
        let slots = fill(turns.collect(), size);
        Self { slots, identities, usable: AtomicU64::new(0) }
    }

    /// The endpoints in the order in which a key with this hash asks them, with repetitions.
    #[inline]
    pub fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        let size = self.slots.len();
        let start = if size == 0 { 0 } else { (hash % size as u64) as usize };
        self.slots[start..].iter().chain(&self.slots[..start]).map(|index| *index as usize)
    }
}

fn size(endpoints: usize) -> u32 {
    let wanted = endpoints.saturating_mul(SLOTS_EACH);
    SIZES.into_iter().find(|size| *size as usize >= wanted).unwrap_or(SIZES[SIZES.len() - 1])
}

/// Fills the slots in the order of the turns: by their rounds, and within a round by the addresses' texts.
fn fill(mut endpoints: Vec<Turns>, size: u32) -> Box<[u32]> {
    let Some(highest) = endpoints.iter().map(|endpoint| endpoint.weight).max() else { return Box::default() };
    const FREE: u32 = u32::MAX;
    let mut slots = vec![FREE; size as usize];
    // What an endpoint has saved up comes to the highest weight for the k-th time in this round.
    let round = |endpoint: &Turns| ((endpoint.taken + 1) * highest).div_ceil(endpoint.weight);
    let mut next: BinaryHeap<_> =
        endpoints.iter().enumerate().map(|(order, endpoint)| Reverse((round(endpoint), order))).collect();
    for _ in 0..size {
        let Reverse((_, order)) = next.pop().expect("each endpoint is put back");
        let endpoint = &mut endpoints[order];
        while slots[endpoint.slot as usize] != FREE {
            endpoint.slot = (endpoint.slot + endpoint.skip) % u64::from(size);
        }
        slots[endpoint.slot as usize] = endpoint.index;
        endpoint.taken += 1;
        next.push(Reverse((round(endpoint), order)));
    }
    slots.into()
}
