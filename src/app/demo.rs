//! Two sample apps, a split and the admin API, with nothing to set up.

/// Serves the demo.
pub fn run() -> anyhow::Result<()> {
    anyhow::bail!("not in this build")
}
