//! What differs between two live states, and between two files. Pure.

use std::collections::HashMap;

use serde_json::Value;

use super::{change::Effect, command::PinsOnChange};
use crate::config::Config;
use crate::model::{
    live_state::{LivePool, LiveState},
    name::Name,
};

/// The most settings that a change lists: a file in which everything moved must not fill the history.
const MAX_SETTINGS: usize = 500;

/// What is different in `after`, in the order of names.
pub fn of_live(before: &LiveState, after: &LiveState) -> Vec<Effect> {
    let mut effects = Vec::new();
    let names = before.weights.keys().filter(|name| !after.weights.contains_key(*name));
    effects.extend(names.map(|split| Effect::Split { split: split.clone(), weights: None }));
    for (split, weights) in &after.weights {
        match before.weights.get(split) {
            Some(earlier) if earlier == weights => {}
            Some(earlier) => effects.push(Effect::Weights {
                split: split.clone(),
                before: earlier.clone(),
                after: weights.clone(),
                pins: PinsOnChange::Keep,
                released: Vec::new(),
            }),
            None => {
                effects.push(Effect::Split { split: split.clone(), weights: Some(weights.clone()) });
            }
        }
    }
    let nothing = LivePool::default();
    for (name, pool) in &after.pools {
        effects.extend(of_pool(name, before.pools.get(name).unwrap_or(&nothing), pool));
    }
    effects
}

fn of_pool(name: &Name, before: &LivePool, after: &LivePool) -> Vec<Effect> {
    let mut effects = Vec::new();
    if before.drain != after.drain {
        effects.push(Effect::Pool { pool: name.clone(), before: before.drain, after: after.drain });
    }
    let gone = before
        .endpoints
        .iter()
        .filter(|earlier| !after.endpoints.iter().any(|endpoint| endpoint.address == earlier.address));
    let gone = gone.map(|earlier| (earlier.address.clone(), Some(earlier.clone()), None));
    let there = after.endpoints.iter().map(|endpoint| {
        let earlier = before.endpoints.iter().find(|earlier| earlier.address == endpoint.address);
        (endpoint.address.clone(), earlier.cloned(), Some(endpoint.clone()))
    });
    let moved = gone.chain(there).filter(|(_, before, after)| before != after);
    effects.extend(moved.map(|(address, before, after)| Effect::Endpoint {
        pool: name.clone(),
        address,
        before,
        after,
    }));
    effects
}

/// The references of a file whose values have changed while the text stayed. What they stand for is not told.
pub fn of_references(before: &Config, after: &Config) -> Vec<Effect> {
    let moved =
        after.references.iter().filter(|now| before.references.iter().any(|then| now.has_moved(then)));
    let effect = |moved: &crate::config::Reference| Effect::Setting {
        key: moved.pointer.trim_start_matches('/').replace('/', "."),
        before: Some(Value::from(moved.written.clone())),
        after: Some(Value::from(format!("{}, which stands for something else now", moved.written))),
    };
    moved.map(effect).collect()
}

/// The settings that differ between two files, by their place in the file.
pub fn of_files(before: &Value, after: &Value) -> Vec<Effect> {
    let mut settings = Vec::new();
    compare("", Some(before), Some(after), &mut settings);
    let more = settings.len().saturating_sub(MAX_SETTINGS);
    settings.truncate(MAX_SETTINGS);
    if more > 0 {
        let rest = Value::from(format!("{more} more"));
        settings.push(Effect::Setting { key: "…".into(), before: None, after: Some(rest) });
    }
    settings
}

fn compare(key: &str, before: Option<&Value>, after: Option<&Value>, settings: &mut Vec<Effect>) {
    if before == after {
        return;
    }
    if let (Some(before), Some(after)) = (before.and_then(members), after.and_then(members)) {
        // By hash: a file may have a hundred thousand routes.
        let [then, now] = [&before, &after].map(|of| of.iter().copied().collect::<HashMap<_, _>>());
        for (name, earlier) in &before {
            compare(&joined(key, name), Some(earlier), now.get(name).copied(), settings);
        }
        for (name, later) in after.iter().filter(|(name, _)| !then.contains_key(name)) {
            compare(&joined(key, name), None, Some(later), settings);
        }
        return;
    }
    let (before, after) = (before.cloned(), after.cloned());
    settings.push(Effect::Setting { key: key.to_owned(), before, after });
}

fn joined(key: &str, name: &str) -> String {
    if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
}

/// The members of a table, or of a list of tables that have names (`[[route]]`, `[[listener]]`).
fn members(value: &Value) -> Option<Vec<(&str, &Value)>> {
    match value {
        Value::Object(map) => Some(map.iter().map(|(name, value)| (name.as_str(), value)).collect()),
        Value::Array(list) if !list.is_empty() => {
            list.iter().map(|value| Some((value.get("name")?.as_str()?, value))).collect()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_differ_by_named_places() {
        let before = json!({ "workers": 1, "route": [{ "name": "a", "timeout": "1s" }, { "name": "b" }] });
        let after = json!({ "route": [{ "name": "a", "timeout": "2s" }, { "name": "c" }], "dns": {} });
        let mut keys = Vec::new();
        for effect in of_files(&before, &after) {
            let Effect::Setting { key, before, after } = effect else { panic!("files have settings") };
            keys.push((key, before.is_some(), after.is_some()));
        }
        keys.sort();
        let expected = [
            ("dns", false, true),
            ("route.a.timeout", true, true),
            ("route.b", true, false),
            ("route.c", false, true),
            ("workers", true, false),
        ];
        assert_eq!(keys, expected.map(|(key, before, after)| (key.to_owned(), before, after)));
        assert!(of_files(&before, &before).is_empty());
    }
}
