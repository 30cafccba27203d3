//! What a change changes, so that a person and a script can read it: each effect with what was before and what is
//! after, and a line of text.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    control::change::{Change, Effect},
    model::{
        live_state::{Drain, LiveEndpoint},
        weights::Weights,
    },
};

/// One thing that is different.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Difference {
    #[serde(flatten)]
    effect: Effect,
    /// The same for people.
    text: String,
}

/// All that a change changes.
pub(super) fn of(change: &Change) -> Vec<Difference> {
    let effects = change.effects.iter().filter(|effect| effect.changed());
    effects.map(|effect| Difference { effect: effect.clone(), text: line(effect) }).collect()
}

/// The lines of a change, at most so many.
pub(super) fn lines(change: &Change, most: usize) -> Vec<String> {
    change.effects.iter().filter(|effect| effect.changed()).take(most).map(line).collect()
}

fn line(effect: &Effect) -> String {
    match effect {
        Effect::Weights { split, before, after, released, .. } => {
            let mut parts = moved(before, after);
            if !released.is_empty() {
                let pools = released.iter().map(|pool| pool.as_str()).collect::<Vec<_>>().join(", ");
                parts.push(format!("pins to {pools} are released"));
            }
            format!("split {split}: {}", parts.join(", "))
        }
        Effect::Endpoint { pool, address, before, after } => {
            format!("pool {pool}: endpoint {address} {}", endpoint(before.as_ref(), after.as_ref()))
        }
        Effect::Pool { pool, before, after } => {
            let what = drain(before.as_ref(), after.as_ref()).unwrap_or_else(|| "drains as before".into());
            format!("pool {pool} {what}")
        }
        Effect::Split { split, weights: None } => format!("split {split} is declared no longer"),
        Effect::Split { split, weights: Some(weights) } => {
            let weights = weights.iter().map(|(pool, weight)| format!("{pool} {weight}"));
            format!("split {split} is declared: {}", weights.collect::<Vec<_>>().join(", "))
        }
        Effect::Setting { key, before, after } => {
            let shown = |value: &Option<serde_json::Value>| {
                value.as_ref().map_or_else(|| "nothing".to_owned(), super::body::short)
            };
            format!("{key}: {} -> {}", shown(before), shown(after))
        }
    }
}

/// `blue 95 -> 90` for each pool whose weight is another.
fn moved(before: &Weights, after: &Weights) -> Vec<String> {
    let moved = after.iter().filter_map(|(pool, weight)| match before.of(pool.as_str()) {
        Some(earlier) if earlier == weight => None,
        Some(earlier) => Some(format!("{pool} {earlier} -> {weight}")),
        None => Some(format!("{pool} {weight}, which is new")),
    });
    let gone = before.iter().filter(|(pool, _)| after.of(pool.as_str()).is_none());
    moved.chain(gone.map(|(pool, _)| format!("{pool} is gone"))).collect()
}

fn endpoint(before: Option<&LiveEndpoint>, after: Option<&LiveEndpoint>) -> String {
    let (before, after) = match (before, after) {
        (Some(before), Some(after)) => (before, after),
        (None, Some(after)) => return format!("is added with weight {}", after.weight),
        (_, None) => return "is removed".into(),
    };
    let mut parts = Vec::new();
    if before.weight != after.weight {
        parts.push(format!("has weight {} -> {}", before.weight, after.weight));
    }
    parts.extend(drain(before.drain.as_ref(), after.drain.as_ref()));
    match (before.is_leaving, after.is_leaving) {
        (false, true) => parts.push("is removed when its drain has ended".into()),
        (true, false) => parts.push("stays".into()),
        _ => {}
    }
    parts.join(", ")
}

/// What becomes of a drain; `None` if it stays as it is.
fn drain(before: Option<&Drain>, after: Option<&Drain>) -> Option<String> {
    if before == after {
        return None;
    }
    Some(match after {
        None => "takes traffic again".into(),
        Some(Drain { deadline: Some(deadline), .. }) => {
            format!("drains within {}", humantime::format_duration(*deadline))
        }
        Some(Drain { deadline: None, .. }) => "drains for as long as it takes".into(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{
        control::command::PinsOnChange,
        model::{live_state::PinsOnDrain, name::Name},
    };

    #[test]
    fn an_effect_is_told_in_a_line() {
        let name = |text: &str| Name::new(text).unwrap();
        let weights = |blue, green| Weights::new(vec![(name("blue"), blue), (name("green"), green)]).unwrap();
        let address: crate::model::endpoint_address::EndpointAddress = "10.0.0.1:80".parse().unwrap();
        let plain = LiveEndpoint { address: address.clone(), weight: 1, drain: None, is_leaving: false };
        let deadline = Some(Duration::from_secs(30));
        let (since, pins) = (SystemTime::UNIX_EPOCH, PinsOnDrain::Move);
        let drain = Drain { since, deadline, stream_deadline: deadline, pins };
        let leaving = LiveEndpoint { weight: 2, drain: Some(drain), is_leaving: true, ..plain.clone() };
        let endpoint = |before: Option<&LiveEndpoint>, after: Option<&LiveEndpoint>| Effect::Endpoint {
            pool: name("blue"),
            address: address.clone(),
            before: before.cloned(),
            after: after.cloned(),
        };
        for (effect, text) in [
            (
                Effect::Weights {
                    split: name("shop"),
                    before: weights(95, 5),
                    after: weights(0, 5),
                    pins: PinsOnChange::Release,
                    released: vec![name("blue")],
                },
                "split shop: blue 95 -> 0, pins to blue are released",
            ),
            (endpoint(None, Some(&plain)), "pool blue: endpoint 10.0.0.1:80 is added with weight 1"),
            (endpoint(Some(&plain), None), "pool blue: endpoint 10.0.0.1:80 is removed"),
            (
                endpoint(Some(&plain), Some(&leaving)),
                "pool blue: endpoint 10.0.0.1:80 has weight 1 -> 2, drains within 30s, is removed when its drain has ended",
            ),
            (
                Effect::Pool { pool: name("blue"), before: Some(drain), after: None },
                "pool blue takes traffic again",
            ),
            (
                Effect::Split { split: name("shop"), weights: Some(weights(1, 2)) },
                "split shop is declared: blue 1, green 2",
            ),
            (
                Effect::Setting { key: "route.a.timeout".into(), before: Some("1s".into()), after: None },
                "route.a.timeout: \"1s\" -> nothing",
            ),
        ] {
            assert_eq!(line(&effect), text);
        }
    }
}
