//! The targets of a service and their shares (RFC 2782).

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::ask::Service;
use crate::model::resolved::Target;

/// The largest weight that an address of a service gets. With it, the endpoint's declared weight has 16 bits of room.
const MAX_WEIGHT: u64 = 65_535;

/// The records of the lowest priority that there is, those of higher ones being for when these are gone; none if the
/// service says by an empty target that it is not to be had.
pub(super) fn in_force(records: &[Service]) -> Vec<&Service> {
    let usable = records.iter().filter(|record| !record.target.is_empty() && record.port > 0);
    let lowest = usable.clone().map(|record| record.priority).min();
    usable.filter(|record| Some(record.priority) == lowest).collect()
}

/// The addresses of a service with their weights. A target's weight is shared out evenly over its addresses; one that
/// is met twice has the sum.
///
/// A weight of 0 counts as 1. That is what the RFC's own procedure comes to: it draws from 0 up to and with the sum,
/// and of the `sum + 1` numbers one falls on a target of weight 0. If all are 0, all are alike.
pub(super) fn weighed<'r>(found: impl IntoIterator<Item = (&'r Service, Vec<IpAddr>)>) -> Vec<Target> {
    let found: Vec<_> = found.into_iter().filter(|(_, addresses)| !addresses.is_empty()).collect();
    // With the least common multiple of the numbers of addresses, every share is whole.
    let multiple = found
        .iter()
        .fold(1, |multiple, (_, addresses)| lcm(multiple, addresses.len() as u64).min(MAX_WEIGHT));
    let mut weights: BTreeMap<SocketAddr, u64> = BTreeMap::new();
    for (record, addresses) in &found {
        let share = u64::from(record.weight.max(1)) * multiple / addresses.len() as u64;
        for address in addresses {
            *weights.entry(SocketAddr::new(*address, record.port)).or_default() += share.max(1);
        }
    }
    let divisor = weights.values().copied().fold(0, gcd).max(1);
    let largest = weights.values().copied().max().unwrap_or(1) / divisor;
    let fitting = |weight: u64| {
        let weight = weight / divisor;
        let scaled = if largest > MAX_WEIGHT { weight * MAX_WEIGHT / largest } else { weight };
        u32::try_from(scaled.max(1)).expect("at most MAX_WEIGHT")
    };
    weights.into_iter().map(|(address, weight)| Target { address, weight: fitting(weight) }).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn lcm(a: u64, b: u64) -> u64 {
    a / gcd(a, b) * b
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> Service {
        Service { priority, weight, port: 80, target: target.into() }
    }

    fn addresses(of: u8, count: usize) -> Vec<IpAddr> {
        (0..count).map(|last| IpAddr::from([10, of, (last / 256) as u8, (last % 256) as u8])).collect()
    }

    fn weights(found: &[(u16, usize)]) -> Vec<u32> {
        let records: Vec<_> = found.iter().map(|(weight, _)| record(1, *weight, "t")).collect();
        let found = records
            .iter()
            .zip(found)
            .zip(0..)
            .map(|((record, (_, count)), of)| (record, addresses(of, *count)));
        weighed(found).iter().map(|target| target.weight).collect()
    }

    #[test]
    fn the_lowest_priority_alone_is_in_force() {
        let records = [record(20, 1, "c"), record(10, 1, "a"), record(10, 5, "b"), record(5, 1, "")];
        let targets: Vec<_> = in_force(&records).iter().map(|record| &*record.target).collect();
        assert_eq!(targets, ["a", "b"]);
        assert!(in_force(&[record(0, 0, "")]).is_empty(), "the service is not to be had");
        assert!(in_force(&[Service { port: 0, ..record(0, 0, "a") }]).is_empty());
    }

    #[test]
    fn a_targets_weight_is_shared_by_its_addresses() {
        assert_eq!(weights(&[(1, 1), (3, 1)]), [1, 3]);
        assert_eq!(weights(&[(10, 1), (30, 1)]), [1, 3]);
        assert_eq!(weights(&[(1, 2), (1, 1)]), [1, 1, 2]);
        assert_eq!(weights(&[(2, 3), (1, 1)]), [2, 2, 2, 3]);
        assert_eq!(weights(&[(0, 1), (0, 1)]), [1, 1], "all alike");
        assert_eq!(weights(&[(0, 1), (9, 1)]), [1, 9]);
        assert_eq!(weights(&[(1, 0), (9, 1)]), [1], "a target without an address has no share");
        assert_eq!(weights(&[(65_535, 1), (1, 1)]), [65_535, 1]);
        assert!(weights(&[]).is_empty());
    }

    #[test]
    fn an_address_that_two_records_name_has_the_sum() {
        let (a, b) = (record(1, 2, "a"), record(1, 3, "b"));
        let both = weighed([(&a, addresses(1, 1)), (&b, addresses(1, 1)), (&a, addresses(2, 1))]);
        assert_eq!(both.iter().map(|target| target.weight).collect::<Vec<_>>(), [5, 2]);
    }

    proptest! {
        /// Whatever a zone says: no weight is 0 or over the most, nobody is lost, and shares are right but for rounding.
        #[test]
        fn shares_follow_the_weights(found in prop::collection::vec((any::<u16>(), 1..60usize), 1..40)) {
            let weights = weights(&found);
            prop_assert_eq!(weights.len(), found.iter().map(|(_, count)| count).sum::<usize>());
            prop_assert!(weights.iter().all(|weight| (1..=65_535).contains(weight)));
            let mut rest = weights.as_slice();
            let sum = |weights: &[u32]| weights.iter().map(|weight| f64::from(*weight)).sum::<f64>();
            let wanted: f64 = found.iter().map(|(weight, _)| f64::from((*weight).max(1))).sum();
            for (weight, count) in &found {
                let (own, others) = rest.split_at(*count);
                rest = others;
                let (is, should) = (sum(own) / sum(&weights), f64::from((*weight).max(1)) / wanted);
                // A weight is rounded down by less than 1 or up to 1, of the largest's thousands.
                let slack = (count + weights.len()) as f64 / f64::from(*weights.iter().max().unwrap());
                prop_assert!((is - should).abs() <= slack, "{} for {} of {:?}", is, should, found);
            }
        }
    }
}
