//! Where the live state and the file in force differ, field by field. Pure.

use serde::Serialize;
use serde_json::{Value, json};

use crate::model::{
    live_state::{LiveEndpoint, LivePool, LiveState},
    name::Name,
};

/// A field of which the live state says something else than the file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Where it stands in the file: `split.shop.weights`, `pool.blue.endpoints.10.0.0.7:9000.weight`.
    pub key: String,
    /// What the file says; `null` is something that it does not have.
    pub file: Value,
    /// What is in force; `null` is something that is not there.
    pub live: Value,
}

/// All fields that differ, in the order of names.
pub fn of(file: &LiveState, live: &LiveState) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (split, weights) in &live.weights {
        let declared = file.weights.get(split);
        if declared != Some(weights) {
            let (file, live) = (declared.map_or(Value::Null, |weights| json!(weights)), json!(weights));
            differences.push(Difference { key: format!("split.{split}.weights"), file, live });
        }
    }
    let nothing = LivePool::default();
    for (name, pool) in &live.pools {
        of_pool(name, file.pools.get(name).unwrap_or(&nothing), pool, &mut differences);
    }
    differences
}

fn of_pool(name: &Name, file: &LivePool, live: &LivePool, differences: &mut Vec<Difference>) {
    let mut differs = |key: String, file: Value, live: Value| {
        if file != live {
            differences.push(Difference { key: format!("pool.{name}.{key}"), file, live });
        }
    };
    // A file can say that a pool drains, not since when.
    differs("drain".into(), file.drain.is_some().into(), live.drain.is_some().into());
    for declared in &file.endpoints {
        let key = format!("endpoints.{}", declared.address);
        match staying(live).find(|endpoint| endpoint.address == declared.address) {
            None => differs(key, shown(declared), Value::Null),
            Some(endpoint) => {
                differs(format!("{key}.weight"), declared.weight.into(), endpoint.weight.into());
                let drains = (declared.drain.is_some(), endpoint.drain.is_some());
                differs(format!("{key}.drain"), drains.0.into(), drains.1.into());
            }
        }
    }
    for endpoint in staying(live) {
        if !file.endpoints.iter().any(|declared| declared.address == endpoint.address) {
            differs(format!("endpoints.{}", endpoint.address), Value::Null, shown(endpoint));
        }
    }
}

/// The endpoints of a pool, less those that go as soon as they have drained.
pub(super) fn staying(pool: &LivePool) -> impl Iterator<Item = &LiveEndpoint> {
    pool.endpoints.iter().filter(|endpoint| !endpoint.is_leaving)
}

fn shown(endpoint: &LiveEndpoint) -> Value {
    json!({ "weight": endpoint.weight, "drain": endpoint.drain.is_some() })
}
