//! Splits and pools that get no request: most likely a route is missing, or names another one by mistake.

use std::collections::HashSet;

use crate::config::{pointer::Pointer, problems::Problems, raw, spanned::Entries};

/// Warns of each split that no route names, and of each pool that neither a route nor a split names.
pub(super) fn warn(file: &raw::File, problems: &mut Problems<'_>) {
    let splits: HashSet<&str> =
        file.route.iter().filter_map(|route| route.split.as_ref()).map(|name| name.as_str()).collect();
    let of_routes = file.route.iter().filter_map(|route| route.pool.as_ref()).map(|name| name.as_str());
    let weighted = file.split.iter().filter_map(|(_, split)| split.weights.as_ref());
    let of_splits = weighted.flat_map(|weights| weights.iter()).map(|(name, _)| name.as_str());
    let pools: HashSet<&str> = of_routes.chain(of_splits).collect();
    each(&file.split, "split", &splits, "no route names it", problems);
    each(&file.pool, "pool", &pools, "neither a route nor a split names it", problems);
}

fn each<T>(declared: &Entries<T>, kind: &str, used: &HashSet<&str>, why: &str, problems: &mut Problems<'_>) {
    for (name, _) in declared.iter().filter(|(name, _)| !used.contains(name.as_str())) {
        let at = Pointer::Root;
        let at = at.key(kind);
        problems.warning(
            &name.span,
            &at.key(name),
            format!("{kind} \"{}\" gets no request", name.as_str()),
            why.to_owned(),
        );
    }
}
