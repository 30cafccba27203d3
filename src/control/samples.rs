//! A configuration to try commands on.

use crate::config::Config;

/// Its pools.
pub const POOLS: [&str; 3] = ["blue", "green", "red"];

/// One split over the first of [`POOLS`], with these weights.
pub fn config(weights: &[u32]) -> Config {
    let named: Vec<_> =
        weights.iter().zip(POOLS).map(|(weight, pool)| format!("{pool} = {weight}")).collect();
    let pools: String = POOLS.iter().map(|pool| format!("[pool.{pool}]\nendpoints = []\n")).collect();
    let file = format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:8080\"\n{pools}[split.shop]\nweights = {{ {} }}\n\
         [[route]]\nname = \"shop\"\nsplit = \"shop\"\n",
        named.join(", ")
    );
    crate::config::parse("test.toml", &file).expect("the sample is good").0
}
