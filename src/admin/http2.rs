//! The metrics of HTTP/2 towards clients.

use super::router::Admin;
use crate::telemetry::{
    prometheus::Text,
    registry::{GoAway, WorkerCounts},
};

/// Writes them.
pub(super) fn metrics(admin: &Admin, text: &mut Text) {
    let workers = admin.control.series().workers();
    let sum = |value: &dyn Fn(&WorkerCounts) -> u64| workers.iter().map(|counts| value(counts)).sum::<u64>();
    text.counter("switchback_http2_connections_total", "Downstream connections that spoke HTTP/2.")
        .sample(&[], sum(&|counts| counts.http2_connections.value()));
    text.gauge("switchback_http2_connections_open", "Downstream connections of HTTP/2 that are open.")
        .sample(&[], sum(&|counts| counts.http2_connections_open.value()));
    text.counter("switchback_http2_streams_total", "Requests that were taken by HTTP/2.")
        .sample(&[], sum(&|counts| counts.http2_streams.value()));
    text.gauge("switchback_http2_streams_open", "Requests by HTTP/2 that are being served.")
        .sample(&[], sum(&|counts| counts.http2_streams_open.value()));
    let mut resets = text.counter("switchback_http2_resets_total", "Streams that were reset, by who did it.");
    resets.sample(&[("by", "client")], sum(&|counts| counts.http2_resets_received.value()));
    resets.sample(&[("by", "switchback")], sum(&|counts| counts.http2_resets_sent.value()));
    let help = "Downstream connections of HTTP/2 that were ended from here, by the reason.";
    let mut family = text.counter("switchback_http2_goaways_total", help);
    for why in GoAway::ALL {
        family.sample(&[("reason", why.name())], sum(&|counts| counts.http2_goaways[why as usize].value()));
    }
}
