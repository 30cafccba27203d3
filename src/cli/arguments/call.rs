//! The commands that call a running instance.

use clap::Subcommand;

use super::{
    connection::Connection,
    files::{Apply, Config},
    history::{Events, History, Restore, Revision},
    pools::{Drain, Endpoint, Undrain},
    reading::{Drift, Explain, Health, Status},
    splits::{Rollback, Switch, Weights},
    upgrade::Upgrade,
};

/// The commands that call a running instance.
#[derive(Debug, Subcommand)]
pub enum Call {
    /// Show what is in force and what came of it
    #[command(
        after_help = "Examples:\n  switchback status\n  switchback status --watch --interval 1s\n  switchback status --json | jq .splits"
    )]
    Status(Status),
    /// Set the weights of a split; a pool that is not named gets 0
    #[command(
        after_help = "Examples:\n  switchback weights shop blue=90 green=10\n  switchback weights shop blue=50 green=50 --reason 'canary looks good'"
    )]
    Weights(Weights),
    /// Send all new traffic of a split to one pool
    #[command(
        after_help = "Examples:\n  switchback switch shop green\n  switchback switch shop green --wait --timeout 2m --reason '4711 is out'"
    )]
    Switch(Switch),
    /// Go back to the weights before the last release; repeating it changes nothing
    #[command(
        after_help = "Examples:\n  switchback rollback shop\n  switchback rollback shop --to-revision 3"
    )]
    Rollback(Rollback),
    /// Let a pool, or one of its endpoints, take nothing new; what it has ends, or is cut at a deadline
    #[command(
        after_help = "Examples:\n  switchback drain blue 10.0.0.7:9000 --deadline 30s --wait\n  switchback drain blue --deadline 10m --pins move"
    )]
    Drain(Drain),
    /// Let a pool, or one of its endpoints, take traffic again
    #[command(after_help = "Examples:\n  switchback undrain blue 10.0.0.7:9000\n  switchback undrain blue")]
    Undrain(Undrain),
    /// Add, change or remove an endpoint of a pool
    #[command(subcommand)]
    Endpoint(Endpoint),
    /// Show who changed what, when and why
    #[command(
        after_help = "Examples:\n  switchback history\n  switchback history --limit 100 --before 1200\n  switchback history --json | jq '.revisions[].reason'"
    )]
    History(History),
    /// Show one revision with all that it changed
    #[command(
        after_help = "Examples:\n  switchback revision 12\n  switchback revision 12 --json | jq .state"
    )]
    Revision(Revision),
    /// Put the live state of a revision in force again, as a new revision
    #[command(
        after_help = "Examples:\n  switchback restore 9 --dry-run\n  switchback restore 9 --reason 'back to before the incident'"
    )]
    Restore(Restore),
    /// Print what happens, as it happens: revisions, and what endpoints do
    #[command(
        after_help = "Examples:\n  switchback events\n  switchback events --since 12\n  switchback events --json | jq 'select(.event == \"endpoint\")'"
    )]
    Events(Events),
    /// Write, check or reload the configuration file of a running instance
    #[command(subcommand)]
    Config(Config),
    /// Put a whole file in force in a running instance, as one revision
    #[command(
        after_help = "Examples:\n  switchback apply -f switchback.toml --dry-run\n  switchback apply -f switchback.toml --reason \"commit $(git rev-parse --short HEAD)\""
    )]
    Apply(Apply),
    /// Say where what is in force differs from what the file declares
    #[command(
        after_help = "Example:\n  switchback drift --exit-code || echo 'somebody changed something live'"
    )]
    Drift(Drift),
    /// Say where a request would go, and why, without sending it
    #[command(
        after_help = "Example:\n  switchback explain http://shop.example.com/cart?x=1 -X POST -H 'canary: true'"
    )]
    Explain(Explain),
    /// Replace the running process by a new one, of a new version perhaps, without losing a connection
    #[command(
        after_help = "Examples:\n  switchback upgrade\n  switchback upgrade --binary /opt/switchback/2.0/switchback"
    )]
    Upgrade(Upgrade),
    /// Ask whether the instance is ready, for container health checks
    #[command(after_help = "Example (Dockerfile):\n  HEALTHCHECK CMD [\"/switchback\", \"health\"]")]
    Health(Health),
}

impl Call {
    /// Which instance is called.
    pub fn connection(&mut self) -> &mut Connection {
        match self {
            Self::Status(Status { connection, .. })
            | Self::Weights(Weights { connection, .. })
            | Self::Switch(Switch { connection, .. })
            | Self::Rollback(Rollback { connection, .. })
            | Self::Drain(Drain { connection, .. })
            | Self::Undrain(Undrain { connection, .. })
            | Self::History(History { connection, .. })
            | Self::Revision(Revision { connection, .. })
            | Self::Restore(Restore { connection, .. })
            | Self::Events(Events { connection, .. })
            | Self::Apply(Apply { connection, .. })
            | Self::Drift(Drift { connection, .. })
            | Self::Explain(Explain { connection, .. })
            | Self::Upgrade(Upgrade { connection, .. })
            | Self::Health(Health { connection, .. }) => connection,
            Self::Endpoint(endpoint) => endpoint.connection(),
            Self::Config(config) => config.connection(),
        }
    }
}
