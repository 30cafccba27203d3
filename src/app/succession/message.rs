//! What a process and its successor tell each other. The channel begins with two descriptors, the standard error of the
//! predecessor and its process; then, in this order: `hello`, `handover`, `ready`, `go`, `serving`, and then, until the
//! predecessor has ended, `left` from there and `told` from here.
//!
//! Invariant: a member that is not known is ignored, so that releases may follow each other in either direction.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::heritage::Entry;
use crate::control::succession::{Standing, Told};

/// The form of the messages. A successor that speaks another one is refused.
pub(super) const PROTOCOL: u32 = 1;

/// What a successor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "message")]
pub(super) enum FromSuccessor {
    /// It has been started and its file is good.
    Hello(Hello),
    /// It could serve at once.
    Ready,
    /// It serves.
    Serving,
    /// This is in force now; said only to a predecessor that hears it.
    Told(Told),
}

/// What a predecessor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "message")]
pub(super) enum FromPredecessor {
    /// Here is what it served with; the descriptors follow.
    Handover(Handover),
    /// From now on the successor is to serve.
    Go,
    /// It has so much left.
    Left(Standing),
}

/// A successor introduces itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    pub(super) version: String,
}

/// What a successor is given; the descriptors are those of the entries, in order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handover {
    pub(super) sockets: Vec<Entry>,
    /// What the predecessor knew; see [`super::heritage::Memory`].
    #[serde(default)]
    pub(super) memory: Value,
    /// It goes on hearing what is in force.
    #[serde(default)]
    pub(super) hears: bool,
}
