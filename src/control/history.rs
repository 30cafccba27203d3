//! The weights that a split has had, and which of them a rollback goes back to. Pure.

use std::{cmp::Ordering, collections::VecDeque, sync::Arc, time::SystemTime};

use super::change::{Author, Kind};
use crate::model::{name::Name, weights::Weights};

/// One acknowledged change of a split's weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its number; 0 is the file's weights at the start. Numbers are shared by all splits.
    pub number: u64,
    /// When it was made.
    pub at: SystemTime,
    /// Who made it.
    pub author: Author,
    /// What made it.
    pub kind: Kind,
    /// The weights that it put in force.
    pub weights: Weights,
    /// The pools whose pins it released.
    pub released: Vec<Name>,
}

/// A split's revisions, oldest first. There is always one, and neighbours differ in their weights,
/// or the later one released pins.
#[derive(Debug, Clone)]
pub struct History(VecDeque<Arc<Revision>>);

impl History {
    /// The most revisions that are kept of a split; the oldest go first.
    pub const MAX: usize = 256;

    /// A history that begins with a revision.
    pub fn new(first: Revision) -> Self {
        Self(VecDeque::from([Arc::new(first)]))
    }

    /// This history and one revision more.
    #[must_use]
    pub fn with(&self, next: Revision) -> Self {
        let mut revisions = self.0.clone();
        if revisions.len() == Self::MAX {
            revisions.pop_front();
        }
        revisions.push_back(Arc::new(next));
        Self(revisions)
    }

    /// The revision in force.
    pub fn current(&self) -> &Revision {
        self.0.back().expect("a history begins with a revision and never loses its last")
    }

    /// The oldest revision that is kept.
    pub fn oldest(&self) -> &Revision {
        self.0.front().expect("a history begins with a revision and never loses its last")
    }

    /// What was in force when revision `number`, of this or of another split, had been made; `None` if that is
    /// before the oldest that is kept.
    pub fn at(&self, number: u64) -> Option<&Revision> {
        self.0.iter().rev().find(|revision| revision.number <= number).map(Arc::as_ref)
    }

    /// The revisions, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Revision> {
        self.0.iter().rev().map(Arc::as_ref)
    }

    /// The weights before the last unbroken run of changes that raised the pool which gained last: 0 -> 5 -> 25 ->
    /// 50 goes back to 0. `None` if no pool has gained since the start, or since the last rollback.
    ///
    /// A pool gains when its share (weight / sum) rises; of several, the one that gained most counts, of equals the
    /// first declared. A change that moves no share (1:1 to 50:50) neither belongs to a run nor breaks it. A
    /// rollback always ends a run: that is what makes repeating it change nothing, and what keeps a later one from
    /// bringing back the weights that this one left.
    pub fn before_last_rise(&self) -> Option<&Weights> {
        let mut raised: Option<&Name> = None;
        let mut before = None;
        for (later, earlier) in self.newest_first().zip(self.newest_first().skip(1)) {
            if later.kind == Kind::Rollback {
                break;
            }
            let gainer = gained_most(&earlier.weights, &later.weights);
            match (raised, gainer) {
                (_, None) => {}
                (None, Some(pool)) => {
                    raised = Some(pool);
                    before = Some(&earlier.weights);
                }
                (Some(pool), Some(_)) if gain(pool, &earlier.weights, &later.weights) > 0 => {
                    before = Some(&earlier.weights);
                }
                (Some(_), Some(_)) => break,
            }
        }
        before
    }
}

/// The pool whose share rose most; `None` if no share moved.
fn gained_most<'a>(earlier: &Weights, later: &'a Weights) -> Option<&'a Name> {
    let mut best: Option<(i128, &Name)> = None;
    for (pool, _) in later.iter() {
        let gain = gain(pool, earlier, later);
        if gain > 0 && best.is_none_or(|(most, _)| gain.cmp(&most) == Ordering::Greater) {
            best = Some((gain, pool));
        }
    }
    best.map(|(_, pool)| pool)
}

/// By how much a pool's share rose, in units of 1 / (sum of `earlier` x sum of `later`): exact, and comparable
/// between pools.
pub(super) fn gain(pool: &Name, earlier: &Weights, later: &Weights) -> i128 {
    let part = |of: &Weights, other: &Weights| {
        i128::from(of.of(pool.as_str()).unwrap_or(0)) * i128::from(other.sum())
    };
    part(later, earlier) - part(earlier, later)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::change::Origin;

    fn weights(set: &[u32]) -> Weights {
        let name = |index: usize| Name::new(["blue", "green", "red"][index]).unwrap();
        Weights::new(set.iter().enumerate().map(|(index, weight)| (name(index), *weight)).collect()).unwrap()
    }

    fn history(steps: &[(Kind, &[u32])]) -> History {
        let revision = |number: usize| Revision {
            number: number as u64,
            at: SystemTime::UNIX_EPOCH,
            author: Origin::Api.into(),
            kind: steps[number].0,
            weights: weights(steps[number].1),
            released: Vec::new(),
        };
        (1..steps.len()).fold(History::new(revision(0)), |history, number| history.with(revision(number)))
    }

    #[test]
    fn goes_back_over_the_run_that_raised_the_pool_which_gained_last() {
        use Kind::{Declared, Rollback, Switch, Weights};
        type Case<'a> = (&'a [(Kind, &'a [u32])], Option<&'a [u32]>);
        let cases: &[Case<'_>] = &[
            (&[(Declared, &[100, 0])], None),
            (
                &[(Declared, &[100, 0]), (Weights, &[95, 5]), (Weights, &[75, 25]), (Weights, &[50, 50])],
                Some(&[100, 0]),
            ),
            // Green was lowered on the way: its run began after that.
            (
                &[(Declared, &[100, 0]), (Weights, &[75, 25]), (Weights, &[90, 10]), (Weights, &[50, 50])],
                Some(&[90, 10]),
            ),
            // Blue gained last.
            (&[(Declared, &[100, 0]), (Weights, &[75, 25]), (Switch, &[100, 0])], Some(&[75, 25])),
            // A share rises though the pool's weight stays.
            (&[(Declared, &[95, 5]), (Weights, &[45, 5])], Some(&[95, 5])),
            // The same shares in other numbers move nothing.
            (&[(Declared, &[1, 1]), (Weights, &[50, 50])], None),
            (
                &[(Declared, &[9, 1]), (Weights, &[1, 1]), (Weights, &[5, 5]), (Weights, &[2, 8])],
                Some(&[9, 1]),
            ),
            // A rollback ends the run, and nothing has gained since.
            (&[(Declared, &[100, 0]), (Weights, &[50, 50]), (Rollback, &[100, 0])], None),
            (
                &[
                    (Declared, &[50, 0, 50]),
                    (Weights, &[40, 20, 40]),
                    (Rollback, &[50, 0, 50]),
                    (Weights, &[60, 0, 40]),
                ],
                Some(&[50, 0, 50]),
            ),
            // A change that moves others but leaves the pool's share is not part of its run.
            (&[(Declared, &[8, 1, 1]), (Weights, &[7, 1, 2]), (Weights, &[6, 2, 2])], Some(&[7, 1, 2])),
        ];
        for (steps, expected) in cases {
            assert_eq!(history(steps).before_last_rise(), expected.map(weights).as_ref(), "{steps:?}");
        }
    }

    #[test]
    fn keeps_the_newest_revisions_alone() {
        let mut history = history(&[(Kind::Declared, &[1, 1])]);
        for number in 1..=2 * History::MAX as u64 {
            let weights = weights(&[number as u32, 1]);
            let at = SystemTime::UNIX_EPOCH;
            history = history.with(Revision {
                number,
                at,
                author: Origin::Api.into(),
                kind: Kind::Weights,
                weights,
                released: Vec::new(),
            });
        }
        assert_eq!(history.newest_first().count(), History::MAX);
        assert_eq!(history.current().number, 2 * History::MAX as u64);
        assert_eq!(history.at(history.oldest().number).unwrap(), history.oldest());
        assert_eq!(history.at(history.oldest().number - 1), None);
    }
}
