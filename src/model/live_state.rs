//! What live changes have made of the declared configuration.

use std::collections::BTreeMap;

use crate::model::{name::Name, weights::Weights};

/// The part of the configuration that moves while it is in use: for each split, the weights in force.
///
/// `routing::build` compiles a table from the file and this; only the controller changes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveState {
    /// The weights in force, by split. Every declared split is present.
    pub weights: BTreeMap<Name, Weights>,
}
