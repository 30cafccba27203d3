//! Which pool a key belongs to: weighted rendezvous over a fixed, published hash.
//!
//! Invariant: the answer depends on the key, the names and the weights alone, never on the instance, the platform,
//! the time or the order of the file. `docs/splits.md` publishes the formula and test vectors; changing either moves
//! sessions of every user, so they are fixed for good.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::model::name::Name;

/// The seed of a pool in a split, by which each pool ranks keys in an order of its own:
/// XXH3-64 of the split's name, a zero byte, and the pool's name.
pub fn seed(split: &Name, pool: &Name) -> u64 {
    let mut text = [0; 2 * Name::MAX_LEN + 1];
    let (split, pool) = (split.as_str().as_bytes(), pool.as_str().as_bytes());
    let length = split.len() + 1 + pool.len();
    text[..split.len()].copy_from_slice(split);
    text[split.len() + 1..length].copy_from_slice(pool);
    xxh3_64(&text[..length])
}

/// How strongly a pool claims a key: the key goes to the pool with the highest score, and of equal ones to the pool
/// whose name is first in byte order. `None` for weight 0, which claims nothing.
///
/// `weight / -ln u`, with u uniform in (0, 1) by the key's hash, is the reciprocal of an exponential variable of
/// rate `weight`, so each pool has the highest with a probability of its weight over the sum (the
/// logarithmic method of Schindelhauer and Schomaker, Weighted Distributed Hash Tables, SPAA 2005). A pool's score rises with its own weight and depends on no other: raising a weight
/// moves keys to that pool only, and a pool that drops out leaves each of its keys to that key's next best.
///
/// The logarithm is `libm`'s, the same on every platform.
#[inline]
pub fn score(key: &[u8], seed: u64, weight: u32) -> Option<f64> {
    if weight == 0 {
        return None;
    }
    let hash = xxh3_64_with_seed(key, seed);
    // The upper 53 bits fit a double exactly; the half keeps u off 0 and 1.
    let uniform = ((hash >> 11) as f64 + 0.5) * (1.0 / (1_u64 << 53) as f64);
    Some(f64::from(weight) / -libm::log(uniform))
}

/// The highest of the scores of `(pool, seed, weight)`, and whose it is.
#[inline]
pub fn pick<'a, P>(key: &[u8], pools: impl IntoIterator<Item = (P, &'a Name, u64, u32)>) -> Option<P> {
    let mut best: Option<(P, &Name, f64)> = None;
    for (pool, name, seed, weight) in pools {
        let Some(score) = score(key, seed, weight) else { continue };
        let wins = match &best {
            None => true,
            Some((_, best_name, best_score)) => {
                score > *best_score || (score == *best_score && name < *best_name)
            }
        };
        if wins {
            best = Some((pool, name, score));
        }
    }
    best.map(|(pool, ..)| pool)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// The pool of a key in the split "shop".
    fn bucket<'a>(key: &[u8], weights: &[(&'a str, u32)]) -> Option<&'a str> {
        let pools: Vec<_> = weights.iter().map(|(pool, weight)| (*pool, name(pool), *weight)).collect();
        pick(
            key,
            pools.iter().map(|(pool, name, weight)| (*pool, name, seed(&self::name("shop"), name), *weight)),
        )
    }

    /// Computed with Python's xxhash, by the program in `docs/splits.md`.
    #[test]
    fn the_published_vectors_hold() {
        let seeds = ["blue", "green", "canary"].map(|pool| seed(&name("shop"), &name(pool)));
        assert_eq!(seeds, [0xe53d_ce43_2b00_ce8c, 0x094a_03bb_0a04_dbf4, 0x6ab1_1256_0fd4_566f]);
        let long = [b'x'; 300];
        let vectors: [(&[u8], u64, f64, [&str; 4]); 8] = [
            (b"", 0x189a_d358_04fe_8809, 40.55952656368818, ["blue", "green", "green", "green"]),
            (b"a", 0x7090_c826_f8f9_9724, 115.62217594654491, ["blue", "green", "green", "blue"]),
            (b"alice", 0x8f36_4a12_287b_3d8a, 163.55315359378298, ["blue", "blue", "green", "blue"]),
            (b"bob", 0x13ad_a72e_6e0b_6f85, 37.027519584563436, ["green", "green", "green", "green"]),
            (b"user-42", 0x9e99_c985_2ba6_7892, 198.4178681668013, ["blue", "green", "green", "blue"]),
            (b"203.0.113.7", 0xa077_0b1c_3eec_3c2b, 203.38191521179192, ["blue", "green", "green", "blue"]),
            (
                "zo\u{eb}".as_bytes(),
                0x1157_1aa2_1829_30f9,
                35.287819840292485,
                ["blue", "green", "green", "green"],
            ),
            (&long, 0x2cfc_48c1_31a4_764b, 54.634200594521886, ["blue", "green", "green", "blue"]),
        ];
        let [even, few] = [[("blue", 50), ("green", 50)], [("blue", 5), ("green", 95)]];
        for (key, hash, blue_95, pools) in vectors {
            assert_eq!(xxh3_64_with_seed(key, seeds[0]), hash, "{key:?}");
            let score = score(key, seeds[0], 95).unwrap();
            assert!((score / blue_95 - 1.0).abs() < 1e-12, "{key:?}: {score}");
            let got = [
                bucket(key, &[("blue", 95), ("green", 5)]),
                bucket(key, &even),
                bucket(key, &few),
                bucket(key, &[("blue", 70), ("green", 25), ("canary", 5)]),
            ];
            assert_eq!(got, pools.map(Some), "{key:?}");
        }
    }

    fn pools() -> impl Strategy<Value = Vec<(&'static str, u32)>> {
        let weight = prop_oneof![Just(0), 1_u32..100, 1_u32..=1_000_000];
        (2..=5_usize, prop::array::uniform5(weight))
            .prop_map(|(count, weights)| {
                ["blue", "green", "canary", "red", "x"].into_iter().zip(weights).take(count).collect()
            })
            .prop_filter("a sum above 0", |pools: &Vec<(_, u32)>| pools.iter().any(|(_, weight)| *weight > 0))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn raising_a_weight_moves_keys_to_that_pool_only(
            pools in pools(), key: Vec<u8>, which: prop::sample::Index, by in 1_u32..1_000_000,
        ) {
            let mut raised = pools.clone();
            let which = which.index(pools.len());
            raised[which].1 += by;
            let (before, after) = (bucket(&key, &pools), bucket(&key, &raised));
            prop_assert!(after == before || after == Some(pools[which].0));
        }

        #[test]
        fn the_order_of_the_pools_is_no_matter(pools in pools(), key: Vec<u8>) {
            let mut reversed = pools.clone();
            reversed.reverse();
            prop_assert_eq!(bucket(&key, &pools), bucket(&key, &reversed));
        }

        #[test]
        fn weight_0_gets_no_key(pools in pools(), key: Vec<u8>) {
            let chosen = bucket(&key, &pools).unwrap();
            prop_assert!(pools.iter().any(|(pool, weight)| *pool == chosen && *weight > 0));
        }

        #[test]
        fn a_pool_that_drops_out_moves_its_own_keys_only(
            pools in pools(), key: Vec<u8>, which: prop::sample::Index,
        ) {
            let which = which.index(pools.len());
            let mut left = pools.clone();
            left.remove(which);
            let before = bucket(&key, &pools).unwrap();
            if before != pools[which].0 {
                prop_assert_eq!(bucket(&key, &left), Some(before));
            }
        }
    }

    #[test]
    fn equal_scores_go_to_the_first_name() {
        let (a, b) = (name("a"), name("b"));
        for order in [[&a, &b], [&b, &a]] {
            assert_eq!(pick(b"key", order.map(|pool| (pool.as_str(), pool, 7, 5))), Some("a"));
        }
    }

    #[test]
    fn shares_follow_the_weights_also_those_that_a_missing_pool_leaves() {
        let weights = [("blue", 70), ("green", 25), ("canary", 5)];
        for (left, sum) in [(&weights[..], 100.0), (&weights[1..], 30.0)] {
            let keys = 100_000;
            for (pool, weight) in left {
                let count =
                    (0..keys).filter(|key| bucket(format!("user-{key}").as_bytes(), left) == Some(pool));
                let share = f64::from(*weight) / sum;
                let sigma = (f64::from(keys) * share * (1.0 - share)).sqrt();
                let stray = (count.count() as f64 - f64::from(keys) * share).abs();
                assert!(stray < 4.0 * sigma, "{pool}: {stray} off, sigma {sigma}");
            }
        }
    }
}
