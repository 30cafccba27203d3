//! The order in which a split's pools take turns: exact at low traffic and still random.
//!
//! Invariant: every single pick falls on a pool with a probability of exactly weight / sum, whatever its place in the
//! sequence, while the pools' counts never drift from their shares (see [`Sequence`] for the bound). It is integer
//! arithmetic throughout, allocates only when it is made, and shares nothing.

/// Draws the places (0 to m - 1) of a list of weights.
///
/// The weights above 0 are the leaves of a balanced binary tree, and each inner node shares what comes to it between
/// its two sides by [`Fork`]. A fork's left count is always its quota rounded down or up, so it is wrong by less than
/// 1, and it hands down at most what was wrong above it, times the share of the side. Hence, with d = ceil(log2 m)
/// for the m weights above 0:
///
/// * after N picks since the start, a place with share s has had between N s - d and N s + d picks, and these bounds
///   are not reached; for two pools that is less than 1 off;
/// * over any window of N picks, wherever it begins, it is off by less than 2 d;
/// * after each sum / gcd picks every count is exact again.
///
/// The forks' randomness is independent, so each pick has its exact probability at every place of the sequence: a
/// client that comes back at a fixed period sees the same shares as everybody else.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// The inner nodes as a heap: the children of node i are 2i and 2i + 1; 0 is unused.
    forks: Box<[Fork]>,
    /// The leaves: which places have a weight above 0.
    places: Box<[u32]>,
}

impl Sequence {
    /// A sequence over weights; `None` if none of them is above 0.
    ///
    /// The sum must be under 2^63, which any list of 32-bit weights is.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Option<Self> {
        let weighted = weights.into_iter().zip(0_u32..).filter(|(weight, _)| *weight > 0);
        let (weights, places): (Vec<u32>, Vec<u32>) = weighted.unzip();
        if places.is_empty() {
            return None;
        }
        let leaves = places.len().next_power_of_two();
        let mut sums = vec![0_u64; 2 * leaves];
        for (sum, weight) in sums[leaves..].iter_mut().zip(weights) {
            *sum = u64::from(weight);
        }
        for node in (1..leaves).rev() {
            sums[node] = sums[2 * node] + sums[2 * node + 1];
        }
        let forks = (0..leaves).map(|node| Fork::new(sums[2 * node], sums[node])).collect();
        Some(Self { forks, places: places.into() })
    }

    /// The next place.
    #[inline]
    pub fn pick(&mut self, rng: &mut fastrand::Rng) -> usize {
        let mut node = 1;
        while let Some(fork) = self.forks.get_mut(node) {
            node = 2 * node + usize::from(!fork.goes_left(rng));
        }
        self.places[node - self.forks.len()] as usize
    }
}

/// A share of `left` / `sum`, rounded at random but never by a whole turn.
///
/// After n turns the left side has had floor(n left / sum) or one more, the latter with a probability of exactly the
/// quota's fraction. The state is that fraction (`fraction` / `sum`) and whether the count is the higher of the two.
/// The step's probabilities are the only ones that lead from each of the two counts to a permitted one and keep the
/// fraction's law; the chance of a left turn comes out as left / sum in every step.
#[derive(Debug, Clone)]
struct Fork {
    left: u64,
    sum: u64,
    fraction: u64,
    higher: bool,
}

impl Fork {
    fn new(left: u64, sum: u64) -> Self {
        Self { left, sum, fraction: 0, higher: false }
    }

    #[inline]
    fn goes_left(&mut self, rng: &mut fastrand::Rng) -> bool {
        if self.left == self.sum {
            // The right side is empty: the tree's last leaves, when their number is no power of two.
            return true;
        }
        let before = self.fraction;
        let quota = before + self.left;
        if quota < self.sum {
            self.fraction = quota;
            // The higher count is still permitted, and another turn would be one too many.
            let left = !self.higher && rng.u64(0..self.sum - before) < self.left;
            self.higher |= left;
            left
        } else {
            self.fraction = quota - self.sum;
            // The lower count has just become too low.
            let left = !self.higher || rng.u64(0..before) < self.fraction;
            self.higher &= left;
            left
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Weights of 2 to 8 pools, zeros included, with a sum above 0.
    fn weights() -> impl Strategy<Value = Vec<u32>> {
        let weight = prop_oneof![1 => Just(0), 3 => 1_u32..10, 3 => 1_u32..=1_000_000];
        prop::collection::vec(weight, 2..=8)
            .prop_filter("a sum above 0", |weights| weights.iter().any(|weight| *weight > 0))
    }

    fn depth(weights: &[u32]) -> u32 {
        let above_0 = weights.iter().filter(|weight| **weight > 0).count();
        above_0.next_power_of_two().trailing_zeros()
    }

    fn sum(weights: &[u32]) -> i64 {
        weights.iter().map(|weight| i64::from(*weight)).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// All windows at once: the deviation of a window is the difference of two prefixes', so it is enough to
        /// follow the lowest and the highest one. Both sides are multiplied by the sum, so that all is exact.
        #[test]
        fn no_prefix_and_no_window_strays_beyond_the_bound(weights in weights(), seed: u64) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut sequence = Sequence::new(weights.iter().copied()).unwrap();
            let (sum, depth) = (sum(&weights), i64::from(depth(&weights)));
            let mut strays = vec![(0_i64, 0_i64, 0_i64); weights.len()];
            for _ in 0..3000 {
                let picked = sequence.pick(&mut rng);
                prop_assert!(weights[picked] > 0, "weight 0 was picked");
                for (place, (stray, lowest, highest)) in strays.iter_mut().enumerate() {
                    *stray += i64::from(place == picked) * sum - i64::from(weights[place]);
                    *lowest = (*lowest).min(*stray);
                    *highest = (*highest).max(*stray);
                    if depth == 0 {
                        prop_assert_eq!(*stray, 0);
                    } else {
                        prop_assert!(stray.abs() < depth * sum, "place {} after a prefix", place);
                        prop_assert!(*highest - *lowest < 2 * depth * sum, "place {} over a window", place);
                    }
                }
            }
        }

        #[test]
        fn a_whole_block_is_exact(weights in prop::collection::vec(0_u32..40, 2..=8), seed: u64) {
            let Some(mut sequence) = Sequence::new(weights.iter().copied()) else { return Ok(()) };
            let mut rng = fastrand::Rng::with_seed(seed);
            for _ in 0..3 {
                let mut counts = vec![0; weights.len()];
                (0..sum(&weights)).for_each(|_| counts[sequence.pick(&mut rng)] += 1);
                prop_assert_eq!(&counts, &weights);
            }
        }

        #[test]
        fn the_seed_is_all_that_makes_a_difference(weights in weights(), seed: u64) {
            let picks = || {
                let mut rng = fastrand::Rng::with_seed(seed);
                let mut sequence = Sequence::new(weights.iter().copied()).unwrap();
                (0..100).map(|_| sequence.pick(&mut rng)).collect::<Vec<_>>()
            };
            prop_assert_eq!(picks(), picks());
        }
    }

    #[test]
    fn no_weight_above_0_is_no_sequence() {
        assert!(Sequence::new([0, 0]).is_none());
        assert!(Sequence::new([]).is_none());
    }

    #[test]
    fn different_seeds_differ() {
        let picks = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut sequence = Sequence::new([50, 50]).unwrap();
            (0..64).map(|_| sequence.pick(&mut rng)).collect::<Vec<_>>()
        };
        assert_ne!(picks(1), picks(2));
    }

    /// The chi-square statistic of counts against equal expectations.
    fn chi_square(counts: &[u32], expected: f64) -> f64 {
        counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
    }

    /// Each of the 20 places of a 95/5 split's block is the minority's equally often, so a client that sends every
    /// 20th request, at whatever phase, sees 5 %. (A fixed order would give it all or nothing.)
    #[test]
    fn a_client_with_the_period_of_the_block_sees_the_same_share() {
        let mut rng = fastrand::Rng::with_seed(20);
        let mut sequence = Sequence::new([95, 5]).unwrap();
        let mut counts = [0; 20];
        for pick in 0..20 * 20_000 {
            counts[pick % 20] += u32::from(sequence.pick(&mut rng) == 1);
        }
        let statistic = chi_square(&counts, 1000.0);
        // 99.9 % of a chi-square with 19 degrees of freedom. Under it is random; near 0 would be a fixed order.
        assert!((5.0..43.8).contains(&statistic), "{statistic}: {counts:?}");
    }

    /// The same for more pools than two, and for periods that share factors with the block.
    #[test]
    fn other_periods_see_the_same_shares_too() {
        let weights = [50, 30, 15, 5];
        for period in [2, 3, 4, 5, 7, 10, 20, 100] {
            let mut rng = fastrand::Rng::with_seed(period);
            let mut sequence = Sequence::new(weights).unwrap();
            let mut counts = [0_u32; 4];
            let samples = 4000;
            for pick in 0..samples * period {
                let place = sequence.pick(&mut rng);
                counts[place] += u32::from(pick % period == 0);
            }
            for (count, weight) in counts.iter().zip(weights) {
                let share = f64::from(weight) / 100.0;
                let sigma = (samples as f64 * share * (1.0 - share)).sqrt();
                let stray = (f64::from(*count) - samples as f64 * share).abs();
                assert!(stray < 4.0 * sigma, "period {period}: {counts:?}");
            }
        }
    }
}
