//! The live state as it is written down with every revision: JSON that people can read and that reads back exactly.
//!
//! Invariant: what is written is read by every later version. A change of this form that is more than a new optional
//! member is a new [`FORMAT`].

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{
    control::{declaration::Declaration, state::State},
    model::{
        as_text,
        live_state::{LivePool, LiveState},
        name::Name,
        weights::Weights,
    },
};

/// The form that this version writes.
const FORMAT: u32 = 1;

/// A state as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    format: u32,
    live: Live,
    /// What the file that was loaded last declares.
    file: Live,
    /// Which file that is.
    #[serde(default)]
    declaration: Declaration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Live {
    weights: BTreeMap<Name, Weights>,
    pools: BTreeMap<Name, LivePool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    released: Vec<Release>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Release {
    split: Name,
    pool: Name,
    #[serde(with = "as_text::time")]
    at: SystemTime,
}

/// Why a document can't be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableDocument {
    /// It was written by a later version.
    #[error("it has the form {0}, which a later version of Switchback wrote; this one knows {FORMAT}")]
    Later(u32),
    /// It is no such document.
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
}

impl Document {
    /// Writes a state down.
    pub fn of(state: &State) -> Self {
        Self {
            format: FORMAT,
            live: Live::of(state.live()),
            file: Live::of(state.file()),
            declaration: state.declaration().clone(),
        }
    }

    /// The text of the document.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("names, numbers and times always have a text")
    }

    /// Reads a text: the live state, what the file declared, and which file that was.
    pub fn read(text: &str) -> Result<(LiveState, (LiveState, Declaration)), UnreadableDocument> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let Head { format } = serde_json::from_str(text)?;
        if format > FORMAT {
            return Err(UnreadableDocument::Later(format));
        }
        let Self { live, file, declaration, .. } = serde_json::from_str(text)?;
        Ok((live.into(), (file.into(), declaration)))
    }
}

impl Live {
    fn of(live: &LiveState) -> Self {
        let released = live.released.iter().map(|((split, pool), at)| Release {
            split: split.clone(),
            pool: pool.clone(),
            at: *at,
        });
        Self { weights: live.weights.clone(), pools: live.pools.clone(), released: released.collect() }
    }
}

impl From<Live> for LiveState {
    fn from(live: Live) -> Self {
        let released = live.released.into_iter().map(|Release { split, pool, at }| ((split, pool), at));
        Self { weights: live.weights, pools: live.pools, released: released.collect() }
    }
}
