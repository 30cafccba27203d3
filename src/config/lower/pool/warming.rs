//! How a pool's endpoints are warmed.

use super::value;
use crate::config::{
    defaults, pointer::Pointer, problems::Problems, raw, settings::SlowStart, spanned::Spanned,
};

pub(super) fn slow_start(
    raw: &Spanned<raw::SlowStart>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> SlowStart {
    let default = defaults::SLOW_START;
    SlowStart {
        window: value::timeout(&raw.window, default.window, &at.key("window"), problems),
        aggression: value::real(
            &raw.aggression,
            0.1..=10.0,
            default.aggression,
            &at.key("aggression"),
            problems,
        ),
        min_weight: value::share(&raw.min_weight, default.min_weight, &at.key("min_weight"), problems),
    }
}
