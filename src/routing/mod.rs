//! Which route, split, pool and endpoint a request gets.
//!
//! A [`table::Table`] is compiled from the configuration and the live state, immutable and numbered. [`live::Live`]
//! holds the one in force; a request is decided by one whole table. [`select::select`] does it in one synchronous
//! act, and [`explain::explain`] tells the same story in words without taking part in it.

mod admission;
pub mod build;
mod chooser;
pub mod explain;
mod explain_balance;
mod explain_pins;
#[cfg(test)]
mod explain_tests;
pub mod head_view;
pub mod live;
mod matcher;
#[cfg(test)]
mod matcher_tests;
mod path_tree;
pub mod pins;
#[cfg(test)]
mod pins_tests;
mod predicates;
pub mod rate_limit;
pub mod request_view;
pub mod select;
#[cfg(test)]
mod select_tests;
mod split_key;
pub mod table;
pub mod terms;
#[cfg(test)]
mod testing;
