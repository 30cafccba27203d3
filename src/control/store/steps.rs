//! The changes of each split's weights, which outlive the revisions that made them: a rollback goes by them.
//!
//! Invariant: as much of a split is here as its history holds, however many revisions of other things were made since. What
//! is written with a commit can be erased with it.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::reading::number;
use crate::{
    control::{
        change::{Change, Effect},
        history::History,
    },
    model::name::Name,
};

/// The table.
pub const TABLE: &str = "
CREATE TABLE IF NOT EXISTS steps (
    split TEXT NOT NULL, number INTEGER NOT NULL, attempt INTEGER NOT NULL, change TEXT NOT NULL,
    PRIMARY KEY (split, number)
) STRICT, WITHOUT ROWID;
";

/// Keeps what a change says of splits, each for itself.
pub fn keep(write: &Connection, change: &Change, attempt: i64) -> rusqlite::Result<()> {
    let mut steps = BTreeMap::<&Name, Vec<Effect>>::new();
    for effect in &change.effects {
        if let Effect::Weights { split, .. } | Effect::Split { split, .. } = effect {
            steps.entry(split).or_default().push(effect.clone());
        }
    }
    for (split, effects) in steps {
        let begins_anew = matches!(effects.last(), Some(Effect::Split { .. }));
        let Change { revision, kind, ref author, at, .. } = *change;
        let step = Change { revision, kind, author: author.clone(), at, effects };
        let text = serde_json::to_string(&step).expect("names, numbers and times always have a text");
        let keep = "INSERT OR REPLACE INTO steps VALUES (?1, ?2, ?3, ?4)";
        write.execute(keep, params![split.as_str(), number(revision), attempt, text])?;
        let most = if begins_anew { 1 } else { History::MAX };
        let prune = "DELETE FROM steps WHERE split = ?1 AND number <
            (SELECT number FROM steps WHERE split = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)";
        write.execute(prune, params![split.as_str(), number(most as u64 - 1)])?;
    }
    Ok(())
}

/// The texts of the steps before a revision, oldest first.
pub fn before(connection: &Connection, revision: u64) -> rusqlite::Result<Vec<String>> {
    let mut read = connection.prepare("SELECT change FROM steps WHERE number < ?1 ORDER BY number")?;
    read.query_map([number(revision)], |row| row.get(0))?.collect()
}
