//! The live state as it is written down with every revision: JSON that people can read and that reads back exactly.
//!
//! Invariant: what is written is read by every later version. A change of this form that is more than a new optional
//! member is a new [`FORMAT`].

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{
    control::{
        declaration::Declaration,
        state::{Object, State},
    },
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
    /// The newest revision about each object; `None` in what an earlier version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    touched: Option<Touched>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Touched {
    splits: BTreeMap<Name, u64>,
    pools: BTreeMap<Name, u64>,
    file: u64,
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
            touched: Some(Touched::of(state)),
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

impl Document {
    /// Reads the newest revision about each object; `None` if that was not written down.
    pub fn touched(text: &str) -> Result<Option<BTreeMap<Object, u64>>, UnreadableDocument> {
        #[derive(Deserialize)]
        struct Part {
            #[serde(default)]
            touched: Option<Touched>,
        }
        let Part { touched } = serde_json::from_str(text)?;
        Ok(touched.map(Touched::into))
    }
}

impl Touched {
    fn of(state: &State) -> Self {
        let mut all = Self { file: state.touched(&Object::File), ..Self::default() };
        for split in state.live().weights.keys() {
            all.splits.insert(split.clone(), state.touched(&Object::Split(split.clone())));
        }
        for pool in state.live().pools.keys() {
            all.pools.insert(pool.clone(), state.touched(&Object::Pool(pool.clone())));
        }
        all
    }
}

impl From<Touched> for BTreeMap<Object, u64> {
    fn from(Touched { splits, pools, file }: Touched) -> Self {
        let splits = splits.into_iter().map(|(split, number)| (Object::Split(split), number));
        let pools = pools.into_iter().map(|(pool, number)| (Object::Pool(pool), number));
        splits.chain(pools).chain([(Object::File, file)]).collect()
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
