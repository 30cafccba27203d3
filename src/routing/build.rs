//! Compiles a table.

use super::table::Table;
use crate::{config::Config, model::live_state::LiveState, telemetry, upstream};

/// Compiles the table of a generation. Parts that did not change since `previous` are shared with it, so that a
/// change of weights costs nothing in the number of routes.
pub fn build(
    generation: u64,
    config: &Config,
    state: &LiveState,
    endpoints: &mut upstream::registry::Registry,
    series: &telemetry::registry::Registry,
    previous: Option<&Table>,
) -> Table {
    let _ = (generation, config, state, endpoints, series, previous);
    todo!()
}
