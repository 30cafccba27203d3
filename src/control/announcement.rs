//! What the process' own log says of changes, a line each.

use super::change::{Change, Effect, Kind};
use crate::model::weights::Weights;

/// Says in the process' log what has changed.
pub(super) fn announce(change: &Change, generation: u64) {
    let Change { revision, kind, author, effects, .. } = change;
    let (name, by) = (kind.name(), author.origin.name());
    if matches!(kind, Kind::Load | Kind::Restore) {
        let message =
            if *kind == Kind::Load { "a file was loaded" } else { "an earlier revision was restored" };
        tracing::info!(revision, generation, kind = %name, effects = effects.len(), %by, "{message}");
    }
    effects.iter().for_each(|effect| announce_effect(change, effect, generation));
}

fn announce_effect(change: &Change, effect: &Effect, generation: u64) {
    let Change { revision, kind, author, .. } = change;
    let (name, by) = (kind.name(), author.origin.name());
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
        Effect::Split { split, weights } => {
            let message =
                if weights.is_some() { "a split is declared" } else { "a split is declared no longer" };
            tracing::info!(revision, generation, %split, kind = %name, %by, "{message}");
        }
        Effect::Setting { key, .. } => {
            tracing::info!(revision, generation, %key, kind = %name, %by, "a setting is another");
        }
    }
}

/// `blue=90 green=10`.
fn pairs(weights: &Weights) -> String {
    weights.iter().map(|(pool, weight)| format!("{pool}={weight}")).collect::<Vec<_>>().join(" ")
}
