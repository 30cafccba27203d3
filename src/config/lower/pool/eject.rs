//! When a pool's endpoints are ejected.

use super::value;
use crate::config::{
    defaults, pointer::Pointer, problems::Problems, raw, settings::Outliers, spanned::Spanned,
};

/// `None` if ejection is turned off.
pub(super) fn outliers(
    raw: &Spanned<raw::Eject>,
    at: &Pointer<'_>,
    problems: &mut Problems<'_>,
) -> Option<Outliers> {
    let default = Outliers::default();
    let count = |number: &Option<Spanned<u64>>, default: u32, key, problems: &mut Problems<'_>| {
        value::small(number, 0..=defaults::MAX_STREAK, default, &at.key(key), problems)
    };
    let time = |text, default, key, problems: &mut Problems<'_>| {
        value::timeout(text, default, &at.key(key), problems)
    };
    let requests = &raw.success_rate_requests;
    let outliers = Outliers {
        consecutive_5xx: count(&raw.consecutive_5xx, default.consecutive_5xx, "consecutive_5xx", problems),
        consecutive_gateway_failures: count(
            &raw.consecutive_gateway_failures,
            default.consecutive_gateway_failures,
            "consecutive_gateway_failures",
            problems,
        ),
        interval: time(&raw.interval, default.interval, "interval", problems),
        base_time: time(&raw.base_time, default.base_time, "base_time", problems),
        max_time: time(&raw.max_time, default.max_time, "max_time", problems),
        max_ejected: value::share(&raw.max_ejected, default.max_ejected, &at.key("max_ejected"), problems),
        success_rate_hosts: count(
            &raw.success_rate_hosts,
            default.success_rate_hosts,
            "success_rate_hosts",
            problems,
        ),
        success_rate_requests: requests
            .as_ref()
            .and_then(|number| {
                value::within(number, 1..=defaults::MAX_STREAK, &at.key("success_rate_requests"), problems)
            })
            .unwrap_or(default.success_rate_requests),
        success_rate_deviations: value::real(
            &raw.success_rate_deviations,
            0.1..=100.0,
            default.success_rate_deviations,
            &at.key("success_rate_deviations"),
            problems,
        ),
    };
    if outliers.max_time < outliers.base_time {
        let span = raw.max_time.as_ref().or(raw.base_time.as_ref()).map_or(&raw.span, |text| &text.span);
        let help = "let max_time be at least base_time".to_owned();
        problems.error(span, at, "the longest ejection is shorter than the first one", help);
    }
    raw.enabled.as_ref().is_none_or(|enabled| enabled.value).then_some(outliers)
}
