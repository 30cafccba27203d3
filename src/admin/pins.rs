//! What `status` and the metrics tell of pins and of the sessions that they keep.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;

use super::router::Admin;
use crate::{
    model::{hyperloglog, name::Name},
    routing::table::{Arm, Split, Table},
    telemetry::{
        pins::{ISSUED, NOT_HONOURED, PinTotals, WINDOW},
        prometheus::Text,
        registry::{Key, Registry},
    },
};

/// The pins of a split.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StickyView {
    cookie: Box<str>,
    /// The share of the split's requests since the start that were pinned.
    pinned_share: f64,
    pools: BTreeMap<Name, PinnedView>,
    /// Pins since the start that were not honoured, by reason.
    not_honoured: BTreeMap<&'static str, u64>,
}

/// The pins to a pool of a split.
#[derive(Debug, Serialize, JsonSchema)]
struct PinnedView {
    /// Requests since the start that were pinned here.
    pinned: u64,
    /// Pins issued since the start, by reason.
    issued: BTreeMap<&'static str, u64>,
    /// When pins were last released: older ones count no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    released_at: Option<String>,
    sessions: SessionsView,
}

/// How many sessions there are, about.
#[derive(Debug, Serialize, JsonSchema)]
struct SessionsView {
    /// Different sessions with a request here within the window.
    estimate: u64,
    window_seconds: u64,
    /// The standard error of the estimate, as a share of it.
    error: f64,
    method: &'static str,
}

/// The pins of a split, if it is sticky.
pub(super) fn view(
    split: &Split,
    released: impl Fn(&Name) -> Option<String>,
    table: &Table,
    series: &Registry,
) -> Option<StickyView> {
    let sticky = split.settings.sticky.as_ref()?;
    let (mut pinned, mut taken) = (0, 0);
    let mut not_honoured: BTreeMap<_, u64> = NOT_HONOURED.iter().map(|why| (*why, 0)).collect();
    let mut pools = BTreeMap::new();
    for (pool, key) in keys(table, split) {
        let totals = series.pin_counts(&key);
        pinned += totals.pinned;
        taken += series.counts(&key).taken();
        for (why, count) in NOT_HONOURED.iter().zip(totals.not_honoured) {
            *not_honoured.entry(why).or_default() += count;
        }
        let view = PinnedView {
            pinned: totals.pinned,
            issued: ISSUED.into_iter().zip(totals.issued).collect(),
            released_at: released(pool),
            sessions: SessionsView {
                estimate: totals.sessions,
                window_seconds: WINDOW,
                error: hyperloglog::ERROR,
                method: "hyperloglog",
            },
        };
        pools.insert(pool.clone(), view);
    }
    let pinned_share = pinned as f64 / taken.max(1) as f64;
    Some(StickyView { cookie: sticky.cookie.clone(), pinned_share, pools, not_honoured })
}

/// The metrics of sticky splits, of at most this many pools of them.
pub(super) fn metrics(admin: &Admin, most: usize, text: &mut Text) {
    let snapshot = admin.control.snapshot();
    let table = &snapshot.table;
    let sticky = table.splits.iter().filter(|split| split.settings.sticky.is_some());
    let counted = |split: &Arc<Split>| {
        let pools: Vec<(Name, PinTotals)> = keys(table, split)
            .map(|(pool, key)| (pool.clone(), admin.control.series().pin_counts(&key)))
            .collect();
        (split.settings.name.clone(), pools)
    };
    let mut series = 0;
    let within = |split: &&Arc<Split>| {
        series += split.arms.len();
        series <= most
    };
    let splits: Vec<_> = sticky.take_while(within).map(counted).collect();
    let all =
        || splits.iter().flat_map(|(split, pools)| pools.iter().map(move |(pool, of)| (split, pool, of)));
    let mut family =
        text.counter("switchback_pins_pinned_requests_total", "Requests whose pin was honoured.");
    for (split, pool, of) in all() {
        family.sample(&[("split", split.as_str()), ("pool", pool.as_str())], of.pinned);
    }
    let mut family = text.counter(
        "switchback_pins_issued_total",
        "Pins issued: to a new session, to one that has moved, or anew in the second half of its time.",
    );
    for (split, pool, of) in all() {
        for (reason, count) in ISSUED.iter().zip(of.issued) {
            family.sample(&[("split", split.as_str()), ("pool", pool.as_str()), ("reason", reason)], count);
        }
    }
    let mut family = text
        .counter("switchback_pins_not_honoured_total", "Pins that came and counted for nothing, by reason.");
    for (split, pools) in &splits {
        for (place, reason) in NOT_HONOURED.iter().enumerate() {
            let count: u64 = pools.iter().map(|(_, of)| of.not_honoured[place]).sum();
            family.sample(&[("split", split.as_str()), ("reason", reason)], count);
        }
    }
    let mut family = text.gauge(
        "switchback_pins_sessions",
        "Sessions with a request within the last 20 to 30 minutes, estimated with a standard error of 1.6 %.",
    );
    for (split, pool, of) in all() {
        family.sample(&[("split", split.as_str()), ("pool", pool.as_str())], of.sessions);
    }
}

/// The pools of a split with the keys of their series.
fn keys<'a>(table: &'a Table, split: &'a Split) -> impl Iterator<Item = (&'a Name, Key)> {
    let name = |arm: &Arm| &table.pools[arm.pool].settings.name;
    split.arms.iter().map(move |arm| (name(arm), Key::Split(split.settings.name.clone(), name(arm).clone())))
}
