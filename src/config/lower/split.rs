//! Splits: weights over pools, and what buckets a request.

use super::{Names, limit, value};
use crate::{
    config::{
        defaults,
        pointer::Pointer,
        problems::Problems,
        raw,
        settings::{Split, SplitKey, WhenUnavailable},
        shape::shortened,
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
        Some(raw) => Some(key(raw, &at.key("key"), problems)?),
        None => None,
    };
    let when_unavailable =
        raw.when_unavailable.as_ref().map_or(defaults::WHEN_UNAVAILABLE, |choice| match choice.value {
            raw::WhenUnavailable::PassOn => WhenUnavailable::PassOn,
            raw::WhenUnavailable::Fail => WhenUnavailable::Fail,
        });
    Some(Split { name: given?, weights: weights?, key, when_unavailable, sticky: None })
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

fn key(raw: &Spanned<raw::SplitKey>, at: &Pointer<'_>, problems: &mut Problems<'_>) -> Option<SplitKey> {
    let token = |text: &Spanned<String>, at: &Pointer<'_>, problems: &mut Problems<'_>| {
        if value::is_token(&text.value) {
            return true;
        }
        let message = format!("\"{}\" is no name of a cookie or field", shortened(text));
        problems.error(&text.span, at, message, "letters, digits and any of !#$%&'*+-.^_`|~".to_owned());
        false
    };
    match (&raw.cookie, &raw.header, &raw.client) {
        (Some(cookie), None, None) => {
            token(cookie, &at.key("cookie"), problems).then(|| SplitKey::Cookie(cookie.as_str().into()))
        }
        (None, Some(header), None) => token(header, &at.key("header"), problems)
            .then(|| SplitKey::Header(header.to_ascii_lowercase().into())),
        (None, None, Some(client)) => match client.value {
            raw::ClientKey::Ip => Some(SplitKey::ClientIp),
        },
        _ => {
            let help = "{ cookie = \"user\" }, { header = \"X-User\" } or { client = \"ip\" }".to_owned();
            problems.missing(
                &raw.span,
                at,
                "a key is one of a cookie, a header and the client's address",
                help,
            );
            None
        }
    }
}
