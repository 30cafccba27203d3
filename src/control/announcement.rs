//! What the process' own log says of changes, a line each.

use super::command::{Change, Effect, Kind};
use crate::model::weights::Weights;

/// Says in the process' log what has changed.
pub(super) fn announce(change: &Change, generation: u64) {
    let Change { revision, kind, origin, effect, .. } = change;
    let (name, by) = (kind.name(), origin.name());
    match effect {
        Effect::Weights { split, before, after, released, .. } => {
            let message = match kind {
                Kind::Switch => "traffic was switched",
                Kind::Rollback => "the weights were rolled back",
                _ => "weights were set",
            };
            let (weights, before) = (pairs(after), pairs(before));
            tracing::info!(revision, generation, %split, kind = %name, weights, before, ?released, %by, "{message}");
        }
        Effect::Endpoint { pool, address, after, .. } => {
            let message = match kind {
                Kind::Drain => "an endpoint drains",
                Kind::Undrain => "an endpoint takes traffic again",
                Kind::DeleteEndpoint => "an endpoint drains and will be removed",
                Kind::ForgetEndpoint => "an endpoint is removed",
                _ => "an endpoint was set",
            };
            let weight = after.as_ref().map(|endpoint| endpoint.weight);
            tracing::info!(revision, generation, %pool, %address, kind = %name, weight, %by, "{message}");
        }
        Effect::Pool { pool, after, .. } => {
            let message = if after.is_some() { "a pool drains" } else { "a pool takes traffic again" };
            tracing::info!(revision, generation, %pool, kind = %name, %by, "{message}");
        }
    }
}

/// `blue=90 green=10`.
fn pairs(weights: &Weights) -> String {
    weights.iter().map(|(pool, weight)| format!("{pool}={weight}")).collect::<Vec<_>>().join(" ")
}
