//! Splits: weights over pools, and what buckets a request.

use super::{
    Names, limit,
    request_key::{self, Written},
    sticky, value,
};
use crate::{
    config::{
        defaults,
        pointer::Pointer,
        problems::Problems,
        raw,
        settings::{Split, WhenUnavailable},
        spanned::{Entries, Spanned},
    },
    model::{
        name::Name,
        weights::{InvalidWeights, Weights},
    },
};

pub(super) fn all(
    raw: &Entries<raw::Split>,
    pools: &Names<'_>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Vec<Split> {
    limit(raw, defaults::MAX_SPLITS, |(name, _)| name.span.clone(), at, problems);
    raw.iter().filter_map(|(name, split)| one(name, split, pools, &at.key(name), problems)).collect()
}

fn one(
    name: &Spanned<String>,
    raw: &Spanned<raw::Split>,
    pools: &Names<'_>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Split> {
    let given = value::name(name, at, problems);
    let weights =
        raw.weights.as_ref().and_then(|raw| weights(name, raw, pools, &at.key("weights"), problems));
    let key = match &raw.key {
        Some(raw) => {
            let written = Written { cookie: &raw.cookie, header: &raw.header, client: &raw.client };
            Some(request_key::key(written, &raw.span, &at.key("key"), problems)?)
        }
        None => None,
    };
    let sticky = match &raw.sticky {
        Some(raw) => Some(sticky::sticky(raw, &at.key("sticky"), problems)?),
        None => None,
    };
    let when_unavailable =
        raw.when_unavailable.as_ref().map_or(defaults::WHEN_UNAVAILABLE, |choice| match choice.value {
            raw::WhenUnavailable::PassOn => WhenUnavailable::PassOn,
            raw::WhenUnavailable::Fail => WhenUnavailable::Fail,
        });
    Some(Split { name: given?, weights: weights?, key, when_unavailable, sticky })
}

fn weights(
    split: &Spanned<String>,
    raw: &Entries<u64>,
    pools: &Names<'_>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Weights> {
    let mut weights: Vec<(Name, u32)> = Vec::with_capacity(raw.len());
    for (pool, weight) in raw.iter() {
        let at = at.key(pool);
        let name = value::reference(pool, pools, &at, problems);
        // A weight over 32 bits is as wrong as one over the maximum, which the set's own check reports.
        let weight = u32::try_from(weight.value).unwrap_or(u32::MAX);
        if let Some(name) = name {
            weights.push((name, weight));
        }
    }
    if weights.len() < raw.len() {
        // Without the pools that are not known, what is said of the whole set could be wrong.
        return None;
    }
    let span = raw.first().map_or(&split.span, |(pool, _)| &pool.span);
    match Weights::new(weights) {
        Ok(weights) => Some(weights),
        Err(error @ InvalidWeights::AllZero) => {
            problems.missing(span, at, error.to_string(), None);
            None
        }
        Err(error) => {
            let faulty = match &error {
                InvalidWeights::TooLarge(name) => raw.iter().find(|(pool, _)| pool.as_str() == name.as_str()),
                _ => None,
            };
            let span = faulty.map_or(span, |(_, weight)| &weight.span);
            problems.error(span, at, error.to_string(), None);
            None
        }
    }
}
