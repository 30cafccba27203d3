//! The last known good answers, for as long as DNS fails.
//!
//! Invariant: an answer is forgotten only when a newer one replaces it, when its absence was said
//! [`DENIALS`] times in a row, or when nobody asks the question any more. A failure never takes anything away.

use std::collections::{BTreeMap, BTreeSet};

use super::ask::{Answer, Question, Record};

/// How many times in a row it must be said that there is nothing before it is believed of a name that had something.
/// A name server that is being restarted, or has lost its zone, says so once or twice; a service that was scaled to
/// nothing says so for good.
pub(super) const DENIALS: u32 = 3;

/// What is remembered for one name.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: BTreeMap<Question, Known>,
    /// The questions of this round.
    asked: BTreeSet<Question>,
}

#[derive(Debug)]
struct Known {
    records: Vec<Record>,
    denials: u32,
}

impl Memory {
    /// Takes an answer in, and says which records hold from now on and what was wrong, if they are not those of the
    /// answer.
    pub(super) fn take(&mut self, question: Question, answer: Answer) -> (Vec<Record>, Option<Box<str>>) {
        self.asked.insert(question.clone());
        match answer {
            Answer::Records { records, .. } => {
                self.known.insert(question, Known { records: records.clone(), denials: 0 });
                (records, None)
            }
            Answer::Nothing => {
                let Some(known) = self.known.get_mut(&question) else { return (Vec::new(), None) };
                known.denials += 1;
                if known.denials >= DENIALS {
                    self.known.remove(&question);
                    return (Vec::new(), None);
                }
                let said = format!(
                    "{} has no records any more, said {} of {DENIALS} times",
                    question.name, known.denials
                );
                (known.records.clone(), Some(said.into()))
            }
            Answer::Failed(why) => {
                let known = self.known.get_mut(&question);
                let records = known.map(|known| {
                    known.denials = 0;
                    known.records.clone()
                });
                (records.unwrap_or_default(), Some(why))
            }
        }
    }

    /// Ends a round. What was not asked in a round in which everything was answered is not needed any more.
    pub(super) fn end_round(&mut self, all_answered: bool) {
        let asked = std::mem::take(&mut self.asked);
        if all_answered {
            self.known.retain(|question, _| asked.contains(question));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::discovery::ask::Kind;

    fn question() -> Question {
        Question::new("app.example", Kind::A)
    }

    fn records(last: &[u8]) -> Vec<Record> {
        last.iter().map(|last| Record::Address([10, 0, 0, *last].into())).collect()
    }

    fn answer(last: &[u8]) -> Answer {
        Answer::Records { records: records(last), ttl: Duration::from_secs(1) }
    }

    #[test]
    fn a_failure_takes_nothing_away_however_often_it_comes() {
        let mut memory = Memory::default();
        assert_eq!(
            memory.take(question(), Answer::Failed("timeout".into())),
            (Vec::new(), Some("timeout".into()))
        );
        assert_eq!(memory.take(question(), answer(&[1, 2])), (records(&[1, 2]), None));
        for _ in 0..100 {
            let failed = memory.take(question(), Answer::Failed("timeout".into()));
            assert_eq!(failed, (records(&[1, 2]), Some("timeout".into())));
            memory.end_round(false);
        }
        assert_eq!(memory.take(question(), answer(&[3])), (records(&[3]), None));
    }

    #[test]
    fn absence_is_believed_when_it_was_said_often_enough_in_a_row() {
        let mut memory = Memory::default();
        assert_eq!(memory.take(question(), Answer::Nothing), (Vec::new(), None), "there is nothing to keep");
        memory.take(question(), answer(&[1]));
        for _ in 0..3 {
            for _ in 1..DENIALS {
                let (held, fault) = memory.take(question(), Answer::Nothing);
                assert_eq!((held, fault.is_some()), (records(&[1]), true));
            }
            // A failure in between begins the count anew.
            memory.take(question(), Answer::Failed("timeout".into()));
        }
        for said in 1..=DENIALS {
            let (held, fault) = memory.take(question(), Answer::Nothing);
            assert_eq!((held.is_empty(), fault.is_none()), (said == DENIALS, said == DENIALS));
        }
        assert_eq!(memory.take(question(), Answer::Failed("timeout".into())).0, []);
    }

    #[test]
    fn what_is_not_asked_any_more_is_forgotten_only_after_a_sound_round() {
        let mut memory = Memory::default();
        memory.take(question(), answer(&[1]));
        memory.end_round(true);
        memory.end_round(false);
        assert_eq!(memory.take(question(), Answer::Failed("timeout".into())).0, records(&[1]));
        memory.end_round(true);
        memory.end_round(true);
        assert_eq!(memory.take(question(), Answer::Failed("timeout".into())).0, []);
    }
}
