//! What live changes have made of the declared configuration.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{as_text, endpoint_address::EndpointAddress, name::Name, weights::Weights};

/// The part of the configuration that moves while it is in use.
///
/// `routing::build` compiles a table from the file and this; only the controller changes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveState {
    /// The weights in force, by split. Every declared split is present.
    pub weights: BTreeMap<Name, Weights>,
    /// The endpoints in force, by pool. Every declared pool is present.
    pub pools: BTreeMap<Name, LivePool>,
    /// For a split and a pool of it: pins to the pool that were issued before this moment count no more.
    pub released: BTreeMap<(Name, Name), SystemTime>,
}

/// A pool as live changes have made it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LivePool {
    /// Its endpoints, each address once: the declared ones in the file's order, then those that were added.
    pub endpoints: Vec<LiveEndpoint>,
    /// The drain of the pool as a whole.
    pub drain: Option<Drain>,
}

/// An endpoint as live changes have made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LiveEndpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Its share within its pool; 0 takes no traffic.
    pub weight: u32,
    /// Its own drain.
    pub drain: Option<Drain>,
    /// It goes as soon as its drain has ended.
    #[serde(rename = "leaving")]
    pub is_leaving: bool,
}

/// A drain: nothing new comes, and what is there ends, or is ended at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Drain {
    /// When it began.
    #[serde(with = "as_text::time")]
    #[schemars(with = "String")]
    pub since: SystemTime,
    /// How long requests in flight, and sessions that are kept, have from then on; `None` is for as long as they last.
    #[serde(with = "as_text::limit")]
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Duration>,
    /// How long tunnels and event streams have: they are closed one after the other, spread over this time.
    #[serde(with = "as_text::limit")]
    #[schemars(with = "Option<String>")]
    pub stream_deadline: Option<Duration>,
    /// What becomes of the sessions that are pinned there.
    pub pins: PinsOnDrain,
}

/// What a drain does to the sessions that are pinned there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PinsOnDrain {
    /// They go on until the deadline.
    Keep,
    /// They go elsewhere with their next request.
    Move,
}
