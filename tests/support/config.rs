//! Configurations for tests, written as a user would write them.

use std::{fmt::Write, net::SocketAddr};

use super::{switchback::Switchback, upstream::Upstream};

/// One listener `web`, one pool `app`, one route `all` for everything, and whatever a test adds to each.
#[derive(Default)]
pub struct Setup {
    global: String,
    listener: String,
    pool: String,
    route: String,
    tables: String,
}

impl Setup {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds keys before all tables.
    pub fn global(mut self, keys: &str) -> Self {
        writeln!(self.global, "{keys}").expect("text grows");
        self
    }

    /// Adds keys to `[[listener]]`.
    pub fn listener(mut self, keys: &str) -> Self {
        writeln!(self.listener, "{keys}").expect("text grows");
        self
    }

    /// Adds keys to `[pool.app]`.
    pub fn pool(mut self, keys: &str) -> Self {
        writeln!(self.pool, "{keys}").expect("text grows");
        self
    }

    /// Adds keys to the `[[route]]` `all`.
    pub fn route(mut self, keys: &str) -> Self {
        writeln!(self.route, "{keys}").expect("text grows");
        self
    }

    /// Adds whole tables at the end.
    pub fn tables(mut self, tables: &str) -> Self {
        writeln!(self.tables, "{tables}").expect("text grows");
        self
    }

    /// The file for these endpoints.
    pub fn toml(&self, endpoints: &[&Upstream]) -> String {
        let addresses: Vec<_> =
            endpoints.iter().map(|endpoint| format!("{:?}", endpoint.address.to_string())).collect();
        let workers = if self.global.contains("workers") { "" } else { "workers = 1" };
        format!(
            "{workers}\n{}\n[admin]\nlisten = \"127.0.0.1:0\"\n\n[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n{}\n\
             [pool.app]\nendpoints = [{}]\n{}\n[[route]]\nname = \"all\"\npath = \"/\"\npool = \"app\"\n{}\n{}",
            self.global,
            self.listener,
            addresses.join(", "),
            self.pool,
            self.route,
            self.tables
        )
    }

    /// Starts Switchback before one upstream.
    pub fn start(self, upstream: &Upstream) -> Switchback {
        self.start_all(&[upstream])
    }

    /// Starts Switchback before the endpoints of one pool.
    pub fn start_all(self, endpoints: &[&Upstream]) -> Switchback {
        Switchback::start(&self.toml(endpoints))
    }
}

/// A split `main` over two pools, `blue` and `green`, for everything.
pub fn blue_green(
    workers: usize,
    weights: (u32, u32),
    split: &str,
    blue: &Upstream,
    green: &Upstream,
) -> String {
    split_over(workers, &[("blue", weights.0, blue.address), ("green", weights.1, green.address)], split)
}

/// A split `main` over pools, each with its name, weight and only endpoint, for everything.
pub fn split_over(workers: usize, pools: &[(&str, u32, SocketAddr)], split: &str) -> String {
    let mut text = format!(
        "workers = {workers}\n\n[admin]\nlisten = \"127.0.0.1:0\"\n\n\
         [[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\n"
    );
    for (name, _, address) in pools {
        writeln!(text, "[pool.{name}]\nendpoints = [\"{address}\"]\n").expect("text grows");
    }
    let weights: Vec<_> = pools.iter().map(|(name, weight, _)| format!("{name} = {weight}")).collect();
    let weights = weights.join(", ");
    format!(
        "{text}[split.main]\nweights = {{ {weights} }}\n{split}\n\n\
         [[route]]\nname = \"all\"\npath = \"/\"\nsplit = \"main\"\n"
    )
}
