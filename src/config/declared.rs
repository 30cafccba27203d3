//! The live state that a file declares.

use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::settings::{Config, DrainSettings, EndpointSettings, Pool};
use crate::model::live_state::{Drain, LiveEndpoint, LivePool, LiveState, PinsOnDrain};

impl Config {
    /// The file as a document, for what compares two files. It was read before, so it can be.
    pub fn document(&self) -> serde_json::Value {
        toml::from_str(&self.text).unwrap_or_default()
    }

    /// What tells its text from others: SHA-256, in hexadecimal.
    pub fn digest(&self) -> String {
        Sha256::digest(self.text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The live state before any live change; `at` is when the drains that the file declares begin.
    pub fn declared_state(&self, at: SystemTime) -> LiveState {
        LiveState {
            weights: self.splits.iter().map(|split| (split.name.clone(), split.weights.clone())).collect(),
            pools: self.pools.iter().map(|pool| (pool.name.clone(), pool.declared_state(at))).collect(),
            released: Default::default(),
        }
    }
}

impl Pool {
    fn declared_state(&self, at: SystemTime) -> LivePool {
        let live = |endpoint: &EndpointSettings| LiveEndpoint {
            address: endpoint.address.clone(),
            weight: endpoint.weight,
            drain: endpoint.is_drained.then(|| self.drain.declared(at, PinsOnDrain::Move)),
            is_leaving: false,
        };
        LivePool {
            endpoints: self.endpoints.iter().map(live).collect(),
            drain: self.is_drained.then(|| self.drain.declared(at, PinsOnDrain::Keep)),
        }
    }
}

impl DrainSettings {
    fn declared(self, since: SystemTime, pins: PinsOnDrain) -> Drain {
        let DrainSettings { deadline, stream_deadline } = self;
        Drain { since, deadline: Some(deadline), stream_deadline: Some(stream_deadline), pins }
    }
}
