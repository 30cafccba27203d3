//! What two files have in common is shared between their configurations, by identity.
//!
//! Whoever compiles or watches parts of a configuration tells by it what has changed: a reload that edits one route leaves
//! every pool what it was, with its balancer, its places for connections and its probes.

use std::{collections::HashMap, sync::Arc};

use super::settings::Config;
use crate::model::name::Name;

impl Config {
    /// This configuration, with the parts of `before` in place of its own where the two are alike.
    #[must_use]
    pub fn sharing(mut self, before: &Self) -> Self {
        share(&mut self.listeners, &before.listeners, |listener| &listener.name);
        share(&mut self.pools, &before.pools, |pool| &pool.name);
        share(&mut self.splits, &before.splits, |split| &split.name);
        share(&mut self.routes, &before.routes, |route| &route.name);
        self
    }
}

fn share<T: PartialEq>(now: &mut [Arc<T>], before: &[Arc<T>], name: impl Fn(&T) -> &Name) {
    let before: HashMap<&Name, &Arc<T>> = before.iter().map(|part| (name(part), part)).collect();
    for part in now {
        if let Some(known) = before.get(name(part))
            && **known == *part
        {
            *part = Arc::clone(known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_alike_is_shared() {
        let text = |timeout: &str| {
            format!(
                "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n\
                 [pool.app]\nendpoints = [\"127.0.0.1:1\"]\n[pool.new]\nendpoints = []\nidle_timeout = \"{timeout}\"\n\
                 [split.s]\nweights = {{ app = 1, new = 0 }}\n[[route]]\nname = \"all\"\nsplit = \"s\"\n"
            )
        };
        let parse = |timeout: &str| crate::config::parse("test.toml", &text(timeout)).unwrap().0;
        let before = parse("10s");
        let now = parse("20s").sharing(&before);
        assert!(Arc::ptr_eq(&now.listeners[0], &before.listeners[0]));
        assert!(Arc::ptr_eq(&now.pools[0], &before.pools[0]));
        assert!(!Arc::ptr_eq(&now.pools[1], &before.pools[1]), "its timeout is another");
        assert!(Arc::ptr_eq(&now.splits[0], &before.splits[0]));
        assert!(Arc::ptr_eq(&now.routes[0], &before.routes[0]));
    }
}
